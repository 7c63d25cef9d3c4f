"""`pathcast verify` on a log that was cut, made anew, or shortened by retention: what it says; what stays strict."""

from __future__ import annotations

import pytest
from engine_rig import SETTINGS, A, Rig, steady
from msgspec.structs import replace
from verify_rig import verdict, with_fill, with_forecast, wrong

from stream.engine.entities.quarantine import fault
from stream.kafka.log import CommittedOffset, History, Log
from stream.verify.cli import show
from stream.verify.log_history import Past, past
from stream.verify.report import Example, Report
from stream.wire import ERROR_HEADER_PREFIX, Outgoing, dead_letter, loads_forecast

TOPICS = SETTINGS.topics
CUT = 10
JUNK = b"not JSON"


@pytest.fixture
async def cut(make_predictor: object) -> tuple[Rig, list[Outgoing]]:
    """A log of 25 records that was cut at CUT, once, and the answers to what lay there before: six forecasts, a dead
    letter, and the fill of a gap."""
    before, rig = Rig(make_predictor), Rig(make_predictor)  # type: ignore[arg-type]
    for one in (before, rig):
        await one.feed(*steady("bus-1", CUT))
    kept = len(before.out)
    await before.feed(*steady("bus-1", 2, start_s=10 * CUT + 400), JUNK, *steady("bus-2", 4))
    await rig.feed(*steady("bus-3", 3), JUNK, b"other junk", *steady("bus-1", 10, start_s=10 * CUT))
    orphans = before.out[kept:]
    assert {one.topic for one in orphans} == {TOPICS.forecasts, TOPICS.gapfills, TOPICS.dead_letters}
    return rig, orphans


@pytest.mark.parametrize("once", [False, True])
async def test_answers_to_records_that_are_gone_are_orphans_and_all_else_is_judged(
    cut: tuple[Rig, list[Outgoing]], once: bool
) -> None:
    rig, orphans = cut
    report = await verdict(rig, [*orphans, *rig.out], cut=CUT, once=once)
    assert wrong(report) == {"orphaned": len(orphans)}
    assert report.total.forecasts == sum(one.topic == TOPICS.forecasts for one in rig.out)


async def test_without_a_cut_they_are_what_they_ever_were(cut: tuple[Rig, list[Outgoing]]) -> None:
    rig, orphans = cut
    found = wrong(await verdict(rig, [*orphans, *rig.out], once=True))
    assert "orphaned" not in found
    assert found["unexpected"] > 0
    assert found["duplicated"] > 0


async def test_an_orphan_is_no_answer_to_the_record_that_lies_there_now(cut: tuple[Rig, list[Outgoing]]) -> None:
    rig, orphans = cut
    for place, missing in enumerate(rig.out):
        if missing.src.offset >= CUT:
            others = rig.out[:place] + rig.out[place + 1 :]
            assert wrong(await verdict(rig, [*orphans, *others], cut=CUT)) == {"orphaned": len(orphans), "lost": 1}


async def test_behind_a_cut_a_wrong_answer_and_a_second_one_are_found_as_ever(cut: tuple[Rig, list[Outgoing]]) -> None:
    rig, orphans = cut
    last = next(one for one in reversed(rig.out) if one.topic == TOPICS.forecasts)
    found = await verdict(rig, [*orphans, *rig.out, last], cut=CUT, once=True)
    assert wrong(found) == {"orphaned": len(orphans), "duplicated": 1}
    window = loads_forecast(last.value or b"").window
    altered = with_forecast(last, lambda f: replace(f, window=replace(window, n=window.n + 1)))
    found = await verdict(rig, [*orphans, *(altered if one is last else one for one in rig.out)], cut=CUT)
    assert wrong(found) == {"orphaned": len(orphans), "different": 1}


@pytest.mark.parametrize("code", ["step_failed", "entity_quarantined"])
async def test_behind_a_cut_a_failure_of_a_record_that_is_gone_is_none_of_the_one_that_lies_there_now(
    cut: tuple[Rig, list[Outgoing]], code: str
) -> None:
    """The record that lies there was not replayed, and its own answer was taken for a second one: worlds of the
    simulation found it."""
    rig, _ = cut
    gone = rig.log[-1]._replace(key=b"bus-9", value=b'{"entity_id": "bus-9"}')
    letter = dead_letter(TOPICS.dead_letters, gone, fault(code, "it raised"), version="1")
    report = await verdict(rig, [*rig.out, letter], cut=CUT, once=True)
    assert wrong(report) == {"orphaned": 1}
    assert report.total.forecasts == sum(one.topic == TOPICS.forecasts for one in rig.out)


async def test_behind_a_cut_a_letter_of_an_equal_record_of_another_time_is_an_orphan(
    cut: tuple[Rig, list[Outgoing]],
) -> None:
    """A broken sender sends the same again and again. World 349 of the simulation found it."""
    rig, _ = cut
    letter = next(one for one in rig.out if one.topic == TOPICS.dead_letters)
    time = f"{ERROR_HEADER_PREFIX}timestamp"
    gone = letter._replace(headers=tuple((name, b"5" if name == time else said) for name, said in letter.headers))
    assert wrong(await verdict(rig, [gone, *rig.out], cut=CUT, once=True)) == {"orphaned": 1}
    others = [one for one in rig.out if one is not letter]
    assert wrong(await verdict(rig, [gone, *others], cut=CUT)) == {"orphaned": 1, "lost": 1}
    assert wrong(await verdict(rig, [gone, *others])) == {"different": 1}


async def test_a_fill_of_another_end_of_a_gap_is_an_orphan_only_behind_a_cut(make_predictor: object) -> None:
    rig = Rig(make_predictor)  # type: ignore[arg-type]
    await rig.feed(*steady("bus-1", 5), *steady("bus-1", 3, start_s=500))
    fill = next(one for one in rig.out if one.topic == TOPICS.gapfills)
    other = with_fill(fill, lambda f: replace(f, end=replace(f.end, lat=f.end.lat + 0.01)))
    assert wrong(await verdict(rig, [*rig.out, other], cut=3)) == {"orphaned": 1}
    assert wrong(await verdict(rig, [*rig.out, other])) == {"different": 1}


async def test_an_answer_behind_the_end_of_the_log_is_an_orphan_of_its_partition(rig: Rig) -> None:
    await rig.feed(*steady("bus-1", 5))
    beyond = with_forecast(rig.out[3], lambda f: replace(f, src=replace(f.src, offset=10_000)))
    report = await verdict(rig, [*rig.out, beyond])
    assert wrong(report) == {"orphaned": 1}
    assert report.tallies[A[1]].orphaned == 1
    (example,) = report.examples
    assert (example.partition, example.offset) == (A[1], 10_000)
    assert "ends at 5" in example.reason


# -- what the last commit and the brokers say ------------------------------------------------------------------------

KNOWN = History("this", leader_epoch=4)


@pytest.mark.parametrize(
    ("committed", "log", "expected"),
    [
        (None, Log(0, 900, "this"), Past()),
        (CommittedOffset(700, 1, KNOWN), Log(0, 900, "this", 900), Past(700)),
        (CommittedOffset(700, 1, KNOWN), Log(0, 900, "this", 650), Past(650, 650, "shortened to 650 after")),
        (CommittedOffset(700, 1, KNOWN), Log(0, 900, "other", 900), Past(0, 0, "made anew")),
        (CommittedOffset(700), Log(0, 650, "this"), Past(0, 0, "answered up to 700, and the log ends at 650")),
        (
            CommittedOffset(700, 1, KNOWN._replace(cut=600)),
            Log(0, 900, "this", 900),
            Past(700, 600, "shortened to 600, and"),
        ),
        (
            CommittedOffset(700, 1, KNOWN._replace(cut=600)),
            Log(0, 900, "this", 650),
            Past(650, 600, "shortened to 650 after"),
        ),
        (CommittedOffset(700, 1, KNOWN), Log(750, 900, "this", 900), Past(700, lost=50, lost_now="from 700 to 750")),
        (
            CommittedOffset(700, 1, KNOWN._replace(lost=9)),
            Log(750, 900, "this", 900),
            Past(700, lost=59, lost_now="700 to 750"),
        ),
        (CommittedOffset(700, 1, KNOWN._replace(lost=9)), Log(0, 900, "this", 900), Past(700, lost=9)),
    ],
)
def test_the_last_commit_and_the_brokers_tell_what_became_of_the_log(
    committed: CommittedOffset | None, log: Log, expected: Past
) -> None:
    found = past(committed, log)
    assert (found.due, found.cut, found.lost) == (expected.due, expected.cut, expected.lost)
    assert expected.why in found.why
    assert bool(expected.why) == bool(found.why)
    assert expected.lost_now in found.lost_now
    assert bool(expected.lost_now) == bool(found.lost_now)


@pytest.mark.parametrize("allowed", [False, True])
def test_what_retention_took_is_shown_and_wrong_unless_it_is_allowed(
    allowed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report("at_least_once", allowed=frozenset(["retention"] if allowed else []))
    report.tally(0)
    report.blame(Example("retention", A[0], 0, None, None, "the offsets from 5 to 12 were deleted unanswered"), 7)
    show(report)
    said = capsys.readouterr().out
    assert "7 not answered: retention" in said
    assert "from 5 to 12" in said
    assert ("nothing is wrong" in said, "7 findings" in said) == (allowed, not allowed)
    assert report.ok == report.as_json()["ok"] == allowed
