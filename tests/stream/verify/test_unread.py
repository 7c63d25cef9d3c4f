"""Answers that say that they do not stand on their entity's stored state: they are counted and are no finding, and
whatever comes after them must be right again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from engine_rig import CHECKPOINT, SETTINGS, A, Rig, forecasts, gap_fills, letters, ping, steady
from msgspec.structs import replace
from verify_rig import sound_verdict, verdict, with_forecast, wrong

from model.api import Predictor
from stream.kafka.log import Partition
from stream.wire import Outgoing, Ping

TOPICS = SETTINGS.topics
FAR_M = 90_000.0


class Away(Rig):
    """A worker that took the partition over, and cannot read its store any more."""

    async def unread(self, *items: Ping) -> list[Outgoing]:
        """Answered as new, as `stream.delivery.cold_reads` has it done."""

        async def read(partition: Partition, entity_ids: Sequence[str]) -> Sequence[bytes | None]:
            self.engine.take_for_new(partition, entity_ids)
            return [None] * len(entity_ids)

        answers: list[Outgoing] = []
        for item in items:
            answers += list(await self.engine.process([self.record(item)], started_ms=20, fetched_ms=10, read=read))
        self.out += answers
        return answers


@pytest.fixture
async def away(make_predictor: Callable[[], Predictor]) -> Away:
    """Twenty pings of a bus are in its store, and it is not in memory."""
    rig = Away(make_predictor)
    await rig.feed(*steady("bus", 20), CHECKPOINT)
    await rig.crash()
    return rig


async def back(rig: Away, *items: Ping) -> None:
    """The store can be read again: the partition is taken over anew, and goes on."""
    await rig.crash()
    await rig.feed(*items, CHECKPOINT)


async def test_answers_without_the_stored_state_are_counted_and_are_no_finding(away: Away) -> None:
    said = forecasts(await away.unread(*steady("bus", 9, start_s=200)))
    assert {(one["cache"], one["status"]) for one in said} == {("unread", "warmup")}
    assert [one["window"]["n"] for one in said] == list(range(1, 10))
    await back(away, *steady("bus", 10, start_s=290))
    report = await sound_verdict(away, store=away.store, once=True)
    assert (report.total.unread, report.total.forecasts, report.total.states) == (9, 30, 1)


async def test_what_the_whole_track_makes_of_such_pings_is_not_asked_for(away: Away) -> None:
    """It would take the first for a duplicate; and of a far one that comes twice, one is no news to either track."""
    far = ping("bus", 200, FAR_M)
    answers = await away.unread(ping("bus", 190), far, far, ping("bus", 190))
    assert (len(forecasts(answers)), len(letters(answers))) == (1, 1)
    await back(away, *steady("bus", 10, start_s=210))
    report = await sound_verdict(away, store=away.store, once=True)
    assert (report.total.unread, report.total.input_duplicates) == (2, 2)


async def test_a_ping_that_only_the_short_track_rejects_is_no_finding(away: Away) -> None:
    """It began with the one that is wrong."""
    answers = await away.unread(ping("bus", 200, FAR_M), ping("bus", 210), ping("bus", 220), ping("bus", 230))
    assert [dict(one.headers).get("__pathcast.errors.track") for one in letters(answers)] == [b"unread"] * 2
    await back(away, *steady("bus", 10, start_s=240))
    report = await sound_verdict(away, store=away.store, once=True)
    assert report.total.unread == 4


async def test_a_gap_that_closed_meanwhile_may_lack_its_fill_and_no_other_may(away: Away) -> None:
    assert gap_fills(await away.unread(ping("bus", 400))) == []
    await back(away, *steady("bus", 10, start_s=410), *steady("bus", 5, start_s=900))
    finals = [one for one in gap_fills(away.out) if one["status"] == "final"]
    assert len(finals) == 2, "the first one's revision comes, as it was due after the store was back"
    await sound_verdict(away, once=True)
    lost = [one for one in away.out if one.topic != TOPICS.gapfills]
    assert wrong(await verdict(away, lost, once=True)) == {"lost": 3}


async def test_a_short_track_fills_no_gap_of_its_own(away: Away) -> None:
    """It has a cadence, and then a silence, so that it would; but whoever goes on with the whole track may not know of
    that gap, and would never revise its fill."""
    answers = await away.unread(*steady("bus", 6, start_s=200), ping("bus", 600), ping("bus", 610), ping("bus", 620))
    assert gap_fills(answers) == []
    await back(away, *steady("bus", 5, start_s=630))
    await sound_verdict(away, once=True)


async def test_what_comes_after_must_be_right(away: Away) -> None:
    """A worker that goes on with the short track and says nothing of it."""
    await away.unread(*steady("bus", 3, start_s=200))
    said = await away.unread(*steady("bus", 3, start_s=230))
    hushed = [with_forecast(one, lambda f: replace(f, cache="hit")) for one in said]
    report = await verdict(away, [*away.out[:-3], *hushed], once=True)
    assert wrong(report) == {"different": 3}


async def test_it_must_answer_the_ping_that_it_names(away: Away) -> None:
    await away.unread(*steady("bus", 2, start_s=200))
    moved = with_forecast(away.out[-1], lambda f: replace(f, anchor=replace(f.anchor, lat=f.anchor.lat + 1e-6)))
    assert wrong(await verdict(away, [*away.out[:-1], moved])) == {"different": 1}


async def test_copies_are_counted_as_those_of_any_answer(away: Away) -> None:
    """One owner answered it so, died before its commit, and the next one could read the store."""
    ahead = ping("bus", 200)
    copy = (await away.unread(ahead))[0]
    await away.crash()
    away.log.pop()
    away.engine.drop(A)
    await away.crash()
    await away.feed(ahead)
    assert forecasts(away.out)[-1]["cache"] == "hit"
    assert away.out[-2] is copy
    report = await verdict(away)
    assert (wrong(report), report.total.again, report.total.unread) == ({}, 1, 1)
    assert wrong(await verdict(away, once=True)) == {"duplicated": 1}


async def test_without_an_answer_that_says_so_nothing_is_excused(away: Away) -> None:
    await away.unread(*steady("bus", 2, start_s=200))
    assert wrong(await verdict(away, away.out[:-1])) == {"lost": 1}


@pytest.mark.parametrize("is_answered_unread", [False, True])
async def test_those_to_records_that_were_cut_off_are_orphans(
    away: Away, make_predictor: Callable[[], Predictor], is_answered_unread: bool
) -> None:
    before = Away(make_predictor)
    await before.feed(*steady("bus", 20), CHECKPOINT)
    await before.crash()
    far = ping("bus", 190, FAR_M)
    gone = await before.unread(ping("bus", 300), far, ping("bus", 310))
    assert {one.topic for one in gone} == {TOPICS.forecasts, TOPICS.dead_letters}
    now = steady("bus", 3, start_s=200)
    if is_answered_unread:
        await away.unread(*now)
    else:
        await back(away, *now)
    report = await verdict(away, [*gone, *away.out], cut=20, once=True)
    assert wrong(report) == {"orphaned": len(gone)}
    assert report.total.unread == 3 * is_answered_unread
    assert "orphaned" not in wrong(await verdict(away, [*gone, *away.out], once=True)), "nothing was cut"
