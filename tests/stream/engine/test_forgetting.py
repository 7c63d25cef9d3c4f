"""A record asks to forget its entity: from there on the entity never was, for this engine, for whoever replays the log,
and in the store; and nobody else is touched."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from engine_rig import CHECKPOINT, CRASH, DUMP, WRITE, A, Rig, assert_same_answers, code_of, forecasts, letters, steady

from model.api import Predictor
from stream.engine.entities import snapshot
from stream.store.base import MemoryStore
from stream.wire import Outgoing, Ping, Record
from stream.wire.record import FORGET_HEADERS

Make = Callable[[], Predictor]


async def ask(
    rig: Rig, key: str, headers: tuple[tuple[str, bytes], ...] = FORGET_HEADERS, *then: Ping
) -> list[Outgoing]:
    """What comes of one batch: a record without a value, and pings after it."""
    made = Record(*rig.partition, len(rig.log), rig.stamp_ms, key.encode(), None, headers)
    rig.log.append(made)
    records = [made, *(rig.record(one) for one in then)]
    answers = list(await rig.engine.process(records, started_ms=20.0, fetched_ms=10.0))
    rig.out += answers
    return answers


def last(answers: list[Outgoing]) -> tuple[str, int]:
    found = forecasts(answers)[-1]
    return found["cache"], found["window"]["n"]


async def test_after_it_the_entity_is_new_and_the_others_are_not(rig: Rig, make_predictor: Make) -> None:
    calm = Rig(make_predictor)
    await rig.feed(*steady("bus-1", 10), *steady("bus-2", 10))
    (letter,) = letters(await ask(rig, "bus-1"))
    assert code_of(letter) == "forgotten"
    assert last(await rig.feed(*steady("bus-1", 1, 200))) == ("none", 1)
    others = await rig.feed(*steady("bus-2", 1, 200))
    assert last(others) == ("hit", 11)
    await calm.feed(*steady("bus-2", 10))
    assert_same_answers(others, await calm.feed(*steady("bus-2", 1, 200)))


async def test_pings_before_and_after_it_may_be_in_one_batch(rig: Rig) -> None:
    await rig.feed(*steady("bus-1", 10))
    before = [rig.record(one) for one in steady("bus-1", 2, 100)]
    rig.log.append(asks := Record(*A, len(rig.log), rig.stamp_ms, b"bus-1", None, FORGET_HEADERS))
    after = [rig.record(one) for one in steady("bus-1", 2, 200)]
    other = rig.record(steady("bus-2", 1)[0])
    answers = list(await rig.engine.process([*before, asks, *after, other], started_ms=20.0, fetched_ms=10.0))
    said = [(one["entity_id"], one["cache"], one["window"]["n"]) for one in forecasts(answers)]
    assert said == [
        ("bus-1", "hit", 11),
        ("bus-1", "hit", 12),
        ("bus-1", "none", 1),
        ("bus-1", "hit", 2),
        ("bus-2", "none", 1),
    ]
    assert rig.counts.records_in == 10 + 6, "each record counts once"
    assert rig.counts.forecasts + rig.counts.rejects == 16


async def test_careful_batches_forget_too(rig: Rig) -> None:
    await rig.feed(*steady("bus-1", 10), CHECKPOINT, CRASH)
    rig.log.append(asks := Record(*A, len(rig.log), rig.stamp_ms, b"bus-1", None, FORGET_HEADERS))
    records = [asks, rig.record(steady("bus-1", 1, 200)[0])]
    answers = list(await rig.engine.process(records, started_ms=20.0, fetched_ms=10.0, careful=True))
    assert last(answers) == ("none", 1)


async def test_a_record_without_the_header_forgets_nothing(rig: Rig) -> None:
    await rig.feed(*steady("bus-1", 10))
    (letter,) = letters(await ask(rig, "bus-1", ()))
    assert code_of(letter) == "empty"
    assert last(await rig.feed(*steady("bus-1", 1, 200))) == ("hit", 11)


@pytest.mark.parametrize("then", [(), (CHECKPOINT,)])
async def test_the_store_has_nothing_of_it_after_a_checkpoint(rig: Rig, then: tuple[str, ...]) -> None:
    await rig.feed(*steady("bus-1", 10), *steady("bus-2", 10), CHECKPOINT, CRASH, *then)
    await ask(rig, "bus-1")  # it is in no slot: it lies in the store alone
    await rig.feed(CHECKPOINT)
    assert isinstance(rig.store, MemoryStore)
    assert set(rig.store._records[A]) == {"bus-2"}
    assert await rig.store.list_evicted(A) == [], "nobody misses it"
    assert last(await rig.feed(*steady("bus-1", 1, 200))) == ("none", 1)


async def test_a_stored_state_that_is_not_removed_yet_does_not_come_back(rig: Rig) -> None:
    await rig.feed(*steady("bus-1", 10), CHECKPOINT, CRASH)
    await ask(rig, "bus-1")
    assert last(await rig.feed(*steady("bus-1", 1, 200))) == ("none", 1)
    await rig.feed(CHECKPOINT, CRASH)
    assert last(await rig.feed(*steady("bus-1", 1, 210))) == ("hit", 2)


@pytest.mark.parametrize("where", range(4))
async def test_a_crash_anywhere_forgets_the_same(rig: Rig, make_predictor: Make, where: int) -> None:
    """A takeover replays the record with the others, also if the state was written anew before the offset moved."""
    crash: list[tuple[str, ...]] = [(), (), (), ()]
    crash[where] = (CRASH,)
    calm = Rig(make_predictor)
    for one, stops in ((calm, [()] * 4), (rig, crash)):
        await one.feed(*steady("bus-1", 10), *steady("bus-2", 9), CHECKPOINT, *steady("bus-1", 3, 100), *stops[0])
        await ask(one, "bus-1")
        await one.feed(*stops[1], *steady("bus-1", 3, 200), *stops[2], *steady("bus-2", 1, 200), CHECKPOINT)
        await one.feed(*stops[3], *steady("bus-1", 3, 230), *steady("bus-2", 3, 230))
    assert_same_answers(rig.out, calm.out)


async def test_what_was_being_written_when_it_came_is_not_kept(rig: Rig) -> None:
    """The leg of a checkpoint is dumped, then the record comes, the entity begins anew, and only then it is written."""
    await rig.feed(*steady("bus-1", 10), DUMP)
    await ask(rig, "bus-1")
    await rig.feed(*steady("bus-1", 2, 200), WRITE, *steady("bus-1", 1, 220), CHECKPOINT, CRASH)
    assert last(await rig.feed(*steady("bus-1", 1, 230))) == ("hit", 4)


@pytest.mark.parametrize("crash", [(), (CRASH,)])
async def test_what_was_written_after_it_is_kept_by_the_checkpoint_that_removes_the_rest(
    rig: Rig, crash: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came while a checkpoint was made, whose last leg has the entity as it began anew. The next checkpoint, or that
    of the next owner, took that for what was forgotten: a world of the simulation found it (seed 63)."""
    monkeypatch.setattr(snapshot, "LEG", 1)
    await rig.feed(*steady("bus-1", 4), *steady("bus-2", 4), CHECKPOINT)
    await rig.feed(*steady("bus-1", 1, 40), *steady("bus-2", 1, 40), DUMP, WRITE)
    await ask(rig, "bus-2")
    await rig.feed(*steady("bus-2", 2, 200), DUMP, WRITE, *crash, *steady("bus-1", 1, 50), CHECKPOINT)
    assert isinstance(rig.store, MemoryStore)
    assert "bus-2" in rig.store._records[A]
    await rig.feed(CRASH)
    assert last(await rig.feed(*steady("bus-2", 1, 220))) == ("hit", 3)
