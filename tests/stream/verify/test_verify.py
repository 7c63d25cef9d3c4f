"""`pathcast verify` on histories in memory: nothing to say of a sound one, and each verdict on one that is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest
from engine_rig import CHECKPOINT, CRASH, SETTINGS, T0, A, Rig, flip, journeys, ping, spelt, steady, written
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from verify_rig import moved_north, sound_verdict, verdict, with_fill, with_forecast, wrong

from model.api import Predictor
from stream.engine.entities import stored_entity
from stream.store.base import MemoryStore
from stream.verify.cli import show
from stream.verify.compare import Tolerance
from stream.verify.offsets import Start
from stream.wire import NO_TIME_MS, Outgoing, Ping, Record, Reject, dead_letter

TOPICS = SETTINGS.topics
JUNK = b"not JSON"
# A gap that opens, closes and becomes final, a late ping, a duplicate, a jump, junk, and a second entity.
HISTORY: list[Ping | bytes] = [
    *steady("bus-1", 20),
    ping("bus-2", 5),
    JUNK,
    *steady("bus-1", 6, start_s=400),
    ping("bus-1", 425),
    ping("bus-1", 400),
    ping("bus-1", 455, 90_000),
    *steady("bus-1", 3, start_s=460),
]


def places(rig: Rig, topic: str) -> list[int]:
    return [place for place, answer in enumerate(rig.out) if answer.topic == topic]


def without(rig: Rig, place: int) -> list[Outgoing]:
    return [answer for at, answer in enumerate(rig.out) if at != place]


@pytest.fixture
async def history(rig: Rig) -> Rig:
    await rig.feed(*HISTORY)
    assert {len(places(rig, topic)) > 1 for topic in TOPICS[1:]} == {True}
    return rig


# -- a sound history -------------------------------------------------------------------------------------------------


async def test_of_a_sound_history_there_is_nothing_to_say(history: Rig) -> None:
    report = await sound_verdict(history, once=True)
    total = report.total
    assert (total.records, total.input_duplicates) == (len(HISTORY), 1)
    assert total.forecasts == len(places(history, TOPICS.forecasts))
    assert total.dead_letters == len(places(history, TOPICS.dead_letters)) == 2
    assert total.gap_fills == len(places(history, TOPICS.gapfills))
    assert (total.open, total.again, total.other_model, total.unjudged) == (0, 0, 0, 0)


async def test_a_replay_drops_the_fields_that_the_worker_dropped(rig: Rig) -> None:
    unknown = [
        {"speed_mps": "-1", "heading_deg": "-1"},
        {"speed_mps": "NaN", "sats": "7.5"},
        {"ts": f'"{T0 + 30_000}"'},
    ]
    await rig.feed(*(spelt("bus-1", 10 * n, **more) for n, more in enumerate(unknown, 1)), CRASH)
    await rig.feed(spelt("5007", 0, entity_id="5007"), *steady("bus-1", 10, start_s=40))
    report = await verdict(rig, once=True)
    assert (report.ok, report.total.forecasts) == (True, 14), report.examples


HISTORIES = journeys([[], [], [], [JUNK], [CRASH], [CHECKPOINT], [CHECKPOINT, CRASH]], most=40)


@settings(max_examples=40)  # each runs the model some hundred times
@given(items=HISTORIES, data=st.data())
def test_crashes_change_no_verdict_and_one_missing_answer_is_always_found(
    make_predictor: Callable[[], Predictor], items: list[Ping | bytes | str], data: st.DataObject
) -> None:
    rig = Rig(make_predictor)
    asyncio.run(rig.feed(*items, CHECKPOINT))
    report = asyncio.run(verdict(rig, store=rig.store, piece=data.draw(st.integers(1, 50))))
    assert report.ok, report.examples
    missing = data.draw(st.integers(0, len(rig.out) - 1))
    assert wrong(asyncio.run(verdict(rig, without(rig, missing)))) == {"lost": 1}


async def test_what_is_answered_again_after_a_crash_is_a_copy_and_an_error_only_under_exactly_once(rig: Rig) -> None:
    await rig.feed(*HISTORY[:10], CHECKPOINT)
    lost = await rig.feed(*HISTORY[10:])
    await rig.crash()
    rig.engine.drop(A)  # what was folded was never committed: the next owner starts at the checkpoint
    again = await rig.engine.process(rig.log[10:], started_ms=0, fetched_ms=0)
    assert [answer.headers for answer in again] == [answer.headers for answer in lost]
    rig.out += again
    report = await sound_verdict(rig)
    assert report.total.again == len(again)
    assert wrong(await verdict(rig, once=True)) == {"duplicated": len(again)}


async def test_above_the_committed_offset_an_answer_may_still_come(history: Rig) -> None:
    *others, last = history.out
    assert last.src.offset == len(history.log) - 1
    report = await sound_verdict(history, others, committed=last.src.offset)
    assert report.total.open == 1


# -- lost ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", TOPICS[1:])
async def test_an_answer_that_is_missing_is_lost(history: Rig, topic: str) -> None:
    place = places(history, topic)[1]
    report = await verdict(history, without(history, place))
    assert wrong(report) == {"lost": 1}
    (example,) = report.examples
    assert (example.partition, example.offset) == (A[1], history.out[place].src.offset)


async def test_answers_of_a_release_that_said_no_interval_of_the_next_time_are_sound(history: Rig) -> None:
    """They lie in the topic for days after an upgrade."""
    places_ = places(history, TOPICS.forecasts)
    bare = [
        with_forecast(one, lambda f: replace(f, next=replace(f.next, dt_early_s=None, dt_late_s=None)))
        if at in places_
        else one
        for at, one in enumerate(history.out)
    ]
    assert b"dt_early_s" not in (bare[places_[0]].value or b"")
    report = await sound_verdict(history, bare)
    assert report.total.close == len(places_)


@pytest.mark.parametrize("numbers", ["exact", "close"])
async def test_another_interval_of_the_next_time_is_different(history: Rig, numbers: str) -> None:
    place = places(history, TOPICS.forecasts)[12]
    later = with_forecast(
        history.out[place], lambda f: replace(f, next=replace(f.next, dt_late_s=1.5 * (f.next.dt_late_s or 0.0)))
    )
    published = [*history.out[:place], later, *history.out[place + 1 :]]
    report = await verdict(history, published, to_the_bit=numbers == "exact")
    assert wrong(report) == {"different": 1}


# -- different -------------------------------------------------------------------------------------------------------


def changed(rig: Rig, topic: str, which: int, change: Callable[[Outgoing], Outgoing]) -> list[Outgoing]:
    place = places(rig, topic)[which]
    return [change(answer) if at == place else answer for at, answer in enumerate(rig.out)]


async def test_a_number_that_is_off_by_its_last_digit_is_different_while_nothing_was_rebuilt(history: Rig) -> None:
    one_digit = moved_north(0.011)
    published = changed(history, TOPICS.forecasts, 3, lambda answer: with_forecast(answer, one_digit))
    report = await verdict(history, published)
    assert wrong(report) == {"different": 1}
    assert "though no state was rebuilt" in report.examples[0].reason
    close = await sound_verdict(history, published, to_the_bit=False)
    assert close.total.close == (await verdict(history)).total.close + 1


async def test_after_a_late_ping_numbers_may_be_a_little_off_and_no_more(history: Rig) -> None:
    last = places(history, TOPICS.forecasts)[-1]
    assert history.out[last].src.offset == len(history.log) - 1
    for metres, found in ((0.011, {}), (2_000, {"different": 1})):
        moved = with_forecast(history.out[last], moved_north(metres))
        report = await verdict(history, [*without(history, last), moved])
        assert wrong(report) == found


CHANGES: dict[str, Callable[[Outgoing], Outgoing]] = {
    "window": lambda a: with_forecast(a, lambda f: replace(f, window=replace(f.window, n=f.window.n - 1))),
    "anchor": lambda a: with_forecast(a, lambda f: replace(f, anchor=replace(f.anchor, lat=f.anchor.lat + 1e-7))),
    "status": lambda a: with_forecast(a, lambda f: replace(f, status="stale")),
    "cache": lambda a: with_forecast(a, lambda f: replace(f, cache="none")),
    "horizons": lambda a: with_forecast(a, lambda f: replace(f, horizons=f.horizons[:2])),
    "key": lambda a: a._replace(key=b"bus-2"),
}


@pytest.mark.parametrize("field", CHANGES)
async def test_a_forecast_with_another_field_is_different(history: Rig, field: str) -> None:
    report = await verdict(history, changed(history, TOPICS.forecasts, 3, CHANGES[field]))
    assert wrong(report) == {"different": 1}
    assert field in report.examples[0].reason


async def test_a_copy_that_differs_is_different_although_the_first_is_right(history: Rig) -> None:
    copy = with_forecast(history.out[3], moved_north(5))
    for published in ([*history.out, copy], [copy, *history.out]):
        report = await verdict(history, published)
        assert wrong(report) == {"different": 1}
        assert report.total.again == 1


async def test_a_gap_fill_with_another_path_is_different(history: Rig) -> None:
    def bend(answer: Outgoing) -> Outgoing:
        return with_fill(
            answer, lambda f: replace(f, points=(replace(f.points[0], lat=f.points[0].lat + 1), *f.points[1:]))
        )

    assert wrong(await verdict(history, changed(history, TOPICS.gapfills, 0, bend))) == {"different": 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a._replace(value=b"something else"),
        lambda a: a._replace(headers=a.headers[1:]),
        lambda a: a._replace(headers=tuple((n, b"empty" if n.endswith(".code") else v) for n, v in a.headers)),
    ],
    ids=["value", "header of its own", "code"],
)
async def test_a_dead_letter_that_is_not_as_it_came_is_different(
    history: Rig, change: Callable[[Outgoing], Outgoing]
) -> None:
    assert wrong(await verdict(history, changed(history, TOPICS.dead_letters, 0, change))) == {"different": 1}


async def test_another_release_may_word_a_dead_letter_otherwise(history: Rig) -> None:
    def reworded(answer: Outgoing) -> Outgoing:
        other = {"__pathcast.errors.version": b"9", "__pathcast.errors.message": b"none of it"}
        return answer._replace(headers=tuple((name, other.get(name, value)) for name, value in answer.headers))

    await sound_verdict(history, changed(history, TOPICS.dead_letters, 0, reworded))


async def test_a_fill_that_lies_behind_its_revision_is_different(history: Rig) -> None:
    (fill, revised), rest = places(history, TOPICS.gapfills), history.out
    turned = [answer for at, answer in enumerate(rest) if at != fill]
    turned.insert(revised, rest[fill])
    report = await verdict(history, turned)
    assert wrong(report) == {"different": 1}
    assert "ahead of revision 0" in report.examples[0].reason
    again = await verdict(history, [*rest, rest[fill]])
    assert again.ok, "at_least_once may repeat it there"
    assert again.total.again == 1


# -- unexpected ------------------------------------------------------------------------------------------------------


async def test_a_forecast_of_a_duplicate_ping_is_unexpected(history: Rig) -> None:
    duplicate = HISTORY.index(ping("bus-1", 400), 25)
    answer = with_forecast(history.out[3], lambda f: replace(f, src=replace(f.src, offset=duplicate)))
    report = await verdict(history, [*history.out, answer])
    assert wrong(report) == {"unexpected": 1}
    assert report.examples[0].offset == duplicate


async def test_a_dead_letter_of_an_adapter_answers_no_record_and_is_nobodys_fault(history: Rig) -> None:
    """`pathcast ingest` writes into the same topic; its source is no topic, and a worker did not write it."""
    came = Record("http:/webhook/samsara", 0, -1, T0, None, b"{}")
    letter = dead_letter(TOPICS.dead_letters, came, Reject("missing_field", "no place"), version="1", adapter="samsara")
    await sound_verdict(history, [*history.out, letter], once=True)
    ours = dead_letter(TOPICS.dead_letters, came, Reject("missing_field", "no place"), version="1")
    assert wrong(await verdict(history, [*history.out, ours], once=True)) == {"unexpected": 1}


async def test_a_dead_letter_of_a_good_ping_is_unexpected(history: Rig) -> None:
    letter = history.out[places(history, TOPICS.dead_letters)[0]]
    other = {"__pathcast.errors.offset": b"3"}
    moved = letter._replace(headers=tuple((name, other.get(name, value)) for name, value in letter.headers))
    assert wrong(await verdict(history, [*history.out, moved])) == {"unexpected": 1}


async def test_a_gap_fill_that_no_silence_asked_for_is_unexpected(history: Rig) -> None:
    fill = history.out[places(history, TOPICS.gapfills)[0]]
    for change in ({"gap_id": "0" * 32}, {"revision": 7}, {"status": "retracted"}):
        other = with_fill(fill, lambda f, change=change: replace(f, **change))
        assert wrong(await verdict(history, [*history.out, other])) == {"unexpected": 1}


@pytest.mark.parametrize(
    "answer",
    [
        Outgoing(TOPICS.forecasts, b"bus-1", b"no forecast", (), None),  # type: ignore[arg-type]
        Outgoing(TOPICS.gapfills, b"bus-1", b"", (), None),  # type: ignore[arg-type]
        Outgoing(TOPICS.dead_letters, b"bus-1", b"", (), None),  # type: ignore[arg-type]
    ],
    ids=["forecast", "gap fill", "dead letter"],
)
async def test_what_cannot_be_read_is_unexpected(history: Rig, answer: Outgoing) -> None:
    assert wrong(await verdict(history, [*history.out, answer])) == {"unexpected": 1}


@pytest.mark.parametrize("src", [{"partition": 7}, {"topic": "other"}], ids=str)
async def test_an_answer_to_another_topic_or_partition_is_unexpected(history: Rig, src: dict[str, object]) -> None:
    answer = with_forecast(history.out[3], lambda f: replace(f, src=replace(f.src, **src)))
    assert wrong(await verdict(history, [*history.out, answer])) == {"unexpected": 1}


# -- after takeovers -------------------------------------------------------------------------------------------------


async def test_a_rebuilt_state_may_move_numbers_but_only_within_the_tolerance(rig: Rig) -> None:
    longer = rig.make().history + 20  # than the window: else the rebuilt state is that of the stream, to the bit
    await rig.batch(*steady("bus-1", longer))
    await rig.tamper(partial(flip, bit=-4))
    await rig.feed(*steady("bus-1", 4, start_s=10 * longer), CHECKPOINT)
    report = await sound_verdict(rig, store=rig.store)
    assert (report.total.states, report.total.states_close) == (1, 1)
    no_distance = wrong(await verdict(rig, store=rig.store, tolerance=Tolerance(0.0, 0.0, 0.0, 0.0)))
    assert no_distance.pop("states_different") == 1
    assert no_distance.keys() <= {"different"}  # a published digit may have moved, or rounding hides it
    for place, metres, found in (
        (longer - 1, 0.011, {"different": 1}),  # before the damage
        (longer, 0.011, {}),
        (longer + 3, 0.011, {}),
        (longer + 3, 2_000, {"different": 1}),
    ):
        moved = with_forecast(rig.out[place], moved_north(metres))
        assert wrong(await verdict(rig, [*without(rig, place), moved])) == found


async def test_a_state_that_was_lost_is_found_by_its_shorter_window(rig: Rig) -> None:
    await rig.feed(*steady("bus-1", 20))
    await rig.tamper(partial(flip, bit=484))  # in the track, so that the entity starts anew
    await rig.feed(*steady("bus-1", 2, start_s=200), CHECKPOINT)
    report = await verdict(rig, store=rig.store)
    assert wrong(report) == {"different": 2, "states_different": 1}


async def test_answers_of_other_weights_are_compared_in_all_but_their_numbers(
    rig: Rig, make_predictor: Callable[..., Predictor]
) -> None:
    await rig.feed(*steady("bus-1", 30), CHECKPOINT)
    rig.make = lambda: make_predictor(2)
    await rig.crash()
    said = await rig.feed(*steady("bus-1", 10, start_s=300), CHECKPOINT)
    report = await sound_verdict(rig, store=rig.store, make=lambda: make_predictor(1))
    assert (report.total.forecasts, report.total.other_model) == (40, len(said))
    assert (report.total.states, report.total.states_skipped) == (0, 1)
    spoilt_window = with_forecast(rig.out[35], lambda f: replace(f, window=replace(f.window, n=3)))
    published = [*rig.out[:35], spoilt_window, *rig.out[36:]]
    assert wrong(await verdict(rig, published, make=lambda: make_predictor(1))) == {"different": 1}


# -- states ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def stored(rig: Rig) -> Rig:
    """Two entities, checkpointed at 40, and some input after that."""
    slower = [ping("bus-2", 10 * n, 50 * n) for n in range(20)]
    items = [item for pair in zip(steady("bus-1", 20), slower, strict=True) for item in pair]
    await rig.feed(*items, CHECKPOINT, *steady("bus-1", 3, start_s=200))
    return rig


async def test_states_at_the_checkpoint_are_those_of_the_replay_at_that_offset(stored: Rig) -> None:
    report = await sound_verdict(stored, store=stored.store)
    assert (report.total.states, report.total.states_close, report.total.states_skipped) == (2, 0, 0)


async def records_of(rig: Rig) -> tuple[bytes, bytes]:
    one, two = await rig.store.get_many(A, ["bus-1", "bus-2"])
    assert one is not None
    assert two is not None
    return one, two


async def test_a_stored_record_that_stopped_too_early_is_different(stored: Rig) -> None:
    old, _ = await records_of(stored)
    await stored.feed(CHECKPOINT)
    await stored.store.put_many(A, stored.epoch, None, {"bus-1": old})
    report = await verdict(stored, store=stored.store)
    assert wrong(report) == {"states_different": 1}
    assert "next_offset is 39, expected 43" in report.examples[0].reason


async def test_a_track_of_another_past_is_different(stored: Rig, make_predictor: Callable[[], Predictor]) -> None:
    other = Rig(make_predictor)
    await other.feed(*[ping("bus-1", 10 * n, 5 * n) for n in range(39)], CHECKPOINT)
    (raw,) = await other.store.get_many(A, ["bus-1"])
    await stored.store.put_many(A, stored.epoch, None, {"bus-1": raw or b""})
    assert wrong(await verdict(stored, store=stored.store)) == {"states_different": 1}


async def test_a_state_under_the_right_track_that_says_something_else_is_different(stored: Rig) -> None:
    """Its checksum is right: only the replay can tell that these are another entity's keys and values."""
    one, two = await records_of(stored)
    mixed = written("bus-1", stored_entity.loads("bus-1", one).track, stored_entity.loads("bus-2", two).state, of=one)
    await stored.store.put_many(A, stored.epoch, None, {"bus-1": mixed})
    report = await verdict(stored, store=stored.store)
    assert wrong(report) == {"states_different": 1}
    assert "its state says" in report.examples[0].reason


async def test_a_state_is_brought_up_to_its_track_before_it_is_compared(stored: Rig) -> None:
    await stored.feed(CHECKPOINT)
    one, _ = await records_of(stored)
    found = stored_entity.loads("bus-1", one)
    assert found.behind == 3, "the second checkpoint patched the record and left the state alone"
    report = await sound_verdict(stored, store=stored.store)
    assert (report.total.states, report.total.states_close) == (2, 0)
    claims_to_be_whole = written("bus-1", found.track, found.state, of=one)
    await stored.store.put_many(A, stored.epoch, None, {"bus-1": claims_to_be_whole})
    report = await verdict(stored, store=stored.store)
    assert wrong(report) == {"states_different": 1}
    assert "not 0 pings behind its window" in report.examples[0].reason


@pytest.mark.parametrize("stop", [100, -1], ids=["in its track", "in its state"])
async def test_a_record_that_was_cut_is_different(stored: Rig, stop: int) -> None:
    one, _ = await records_of(stored)
    await stored.store.put_many(A, stored.epoch, None, {"bus-1": one[:stop]})
    assert wrong(await verdict(stored, store=stored.store)) == {"states_different": 1}


async def test_an_absent_record_is_different_until_it_may_have_expired(stored: Rig) -> None:
    one, _ = await records_of(stored)
    await stored.store.forget(A, stored.epoch)
    await stored.store.put_many(A, stored.epoch, 40, {"bus-1": one})
    assert wrong(await verdict(stored, store=stored.store)) == {"states_different": 1}
    expired = await sound_verdict(stored, store=stored.store, clock_ms=T0 + 30_000_000)
    assert expired.total.states_skipped == 1


async def test_a_record_of_an_entity_that_no_input_made_is_different(stored: Rig) -> None:
    one, _ = await records_of(stored)
    stranger = written("bus-9", *stored_entity.loads("bus-1", one)[:2], of=one)
    await stored.store.put_many(A, stored.epoch, None, {"bus-9": stranger})
    assert wrong(await verdict(stored, store=stored.store)) == {"states_different": 1}


async def test_that_there_is_no_checkpoint_is_told(history: Rig) -> None:
    report = await sound_verdict(history, store=MemoryStore())
    assert report.notes == ["partition 0: there is no checkpoint to compare"]


async def test_a_checkpoint_ahead_of_the_committed_offset_is_wrong(stored: Rig) -> None:
    report = await verdict(stored, store=stored.store, committed=39)
    assert wrong(report) == {"states_different": 1}
    assert "ahead of the committed offset 39" in report.examples[0].reason


async def test_records_newer_than_the_checkpoint_are_compared_where_they_are(
    make_predictor: Callable[[], Predictor],
) -> None:
    """A worker died between two pieces of a checkpoint: some records are newer than its offset."""

    class Dies(MemoryStore):
        async def put_many(self, partition, epoch, next_offset, items):  # type: ignore[no-untyped-def]
            return await super().put_many(partition, epoch, None if len(rig.log) > 40 else next_offset, items)

    rig = Rig(make_predictor, Dies())
    items = [item for pair in zip(steady("bus-1", 20), steady("bus-2", 20), strict=True) for item in pair]
    await rig.feed(*items, CHECKPOINT, ping("bus-1", 200), ping("bus-3", 200), CHECKPOINT, *steady("bus-1", 5, 210))
    report = await sound_verdict(rig, store=rig.store)
    assert report.total.states == 3
    (raw,) = await rig.store.get_many(A, ["bus-3"])
    found = stored_entity.loads("bus-3", raw or b"")
    of_two_ends = written("bus-3", replace(found.track, next_offset=41), found.state, of=raw or b"")
    await MemoryStore.put_many(rig.store, A, rig.epoch, None, {"bus-3": of_two_ends})
    assert wrong(await verdict(rig, store=rig.store)) == {"states_different": 1}


# -- a log that does not begin at 0, and a later start ---------------------------------------------------------------


async def test_from_a_later_start_what_was_before_is_replayed_but_not_judged(history: Rig) -> None:
    published = [answer for answer in history.out if answer.src.offset != 4]
    assert wrong(await verdict(history, published)) == {"lost": 1}
    report = await sound_verdict(history, published, start=10)
    assert (report.total.warmup, report.total.records) == (10, len(HISTORY) - 10)
    later = [answer for answer in history.out if answer.src.offset != 12]
    assert wrong(await verdict(history, later, start=10)) == {"lost": 1}


async def test_from_a_log_that_begins_late_an_entity_is_judged_once_its_window_is_full(rig: Rig) -> None:
    history = rig.make().history
    items = steady("bus-1", 30 + history + 40)
    await rig.feed(*items, JUNK, CHECKPOINT)
    report = await sound_verdict(rig, begin=30, store=rig.store)
    total = report.total
    assert 0 < total.unjudged < history + 20
    assert total.forecasts + total.unjudged == history + 40
    assert (total.dead_letters, total.states) == (1, 1)
    assert wrong(await verdict(rig, rig.out[:-3], begin=30)) == {"lost": 3}


async def test_from_a_log_that_begins_late_an_entity_is_judged_from_its_next_session_on(rig: Rig) -> None:
    await rig.feed(*steady("bus-1", 30), *steady("bus-1", 10, start_s=9_000))
    report = await sound_verdict(rig, begin=20)
    assert (report.total.unjudged, report.total.forecasts) == (10, 10)


async def test_a_fill_from_before_the_log_is_not_blamed_where_no_record_has_a_time(rig: Rig) -> None:
    rig.stamp_ms = NO_TIME_MS
    await rig.feed(*steady("bus-1", 20), *steady("bus-1", 10, start_s=400), *steady("bus-1", 10, start_s=9_000))
    assert places(rig, TOPICS.gapfills)
    await sound_verdict(rig)
    report = await sound_verdict(rig, begin=25)
    assert report.total.forecasts == 10


# -- the command line ------------------------------------------------------------------------------------------------


async def test_entities_in_two_partitions_or_in_another_one_are_told_and_are_no_findings(
    history: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two senders with two partitioners made two entities of one, and verify found nothing to say."""
    report = await sound_verdict(history)
    assert report.as_json()["entities"] == {
        "seen": 2, "in_several_partitions": 0, "elsewhere_than_murmur2": 0, "examples": []
    }  # fmt: skip
    report.entities.partitions = 2  # murmur2 puts bus-1 into the first, and bus-2 into the second
    report.entities.add("bus-1", 1)
    assert report.as_json()["entities"] == {
        "seen": 2,
        "in_several_partitions": 1,
        "elsewhere_than_murmur2": 1,
        "examples": [
            {"entity": "bus-1", "partitions": [0, 1]},
            {"entity": "bus-2", "partitions": [0], "murmur2": 1},
        ],
    }
    show(report)
    shown = capsys.readouterr().out
    assert "1 entity lies in several partitions, each with a part of its pings (bus-1 in 0, 1)" in shown
    assert "1 entity lies in another partition than murmur2 gives (bus-2 in 0 and not 1)" in shown
    assert "nothing is wrong" in shown


async def test_people_see_counts_findings_and_notes(history: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    moved = with_forecast(history.out[3], moved_north(5))
    report = await verdict(history, [moved, *without(history, 3)[1:]], store=MemoryStore())
    show(report)
    shown = capsys.readouterr().out
    assert "there is no checkpoint to compare" in shown
    assert "1 lost: due, committed, and not there\n  pathcast.pings.v1/0@0  bus-1  no forecast" in shown
    assert "1 different: not what the input makes\n  pathcast.pings.v1/0@3  bus-1  numbers differ by 5" in shown
    assert "2 findings" in shown
    show(await verdict(history))
    assert "nothing is wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("earliest", Start()),
        ("12", Start(everywhere=12)),
        ("0:5,3:9", Start(by_partition={0: 5, 3: 9})),
        ("2026-11-25T08:00:00Z", Start(time_ms=1_795_593_600_000)),
        ("2026-11-25T09:00:00+01:00", Start(time_ms=1_795_593_600_000)),
    ],
)
def test_a_start_is_an_offset_or_a_time(text: str, start: Start) -> None:
    assert Start.parse(text) == start


@pytest.mark.parametrize("text", ["", "soon", "latest", "1:", "1:2,3", "2026-11-25T08:00:00", "-1"])
def test_what_is_no_start_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        Start.parse(text)
