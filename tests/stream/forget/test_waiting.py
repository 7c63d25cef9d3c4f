"""`pathcast forget` waits for the workers' checkpoints, and for the member that writes the newest forecasts."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from engine_rig import CHECKPOINT, A, Rig, steady

from model.api import Predictor
from stream.commands.forget import states, topics
from stream.commands.forget.findings import Finding, Outcome
from stream.commands.forget.states import States
from stream.kafka.log import Bounds, Partition
from stream.store.base import Claim
from stream.wire import Record
from stream.wire.record import FORGET_HEADERS

WHO = "bus-1"
FORECASTS, GAPFILLS = "pathcast.forecasts.v1", "pathcast.gapfills.v1"
IN_TIME_S = 60.0  # no test waits so long


@pytest.fixture
async def rig(make_predictor: Callable[[], Predictor]) -> Rig:
    """A worker that has written a checkpoint of ten pings."""
    made = Rig(make_predictor)
    await made.feed(*steady(WHO, 10), CHECKPOINT)
    return made


async def said(rig: Rig, sent_at: int, *, has_worked: bool = True) -> Finding:
    """What is said of the states, without waiting, when the record is at this offset."""

    async def has_committed(number: int) -> bool:
        return has_worked

    waiting = States(rig.store, A[0], [A[1]], has_committed)
    return await waiting.wait(WHO, {A[1]: sent_at}, 0.0, await waiting.look(WHO))


async def forgotten(rig: Rig) -> int:
    """Lets the worker come to the record, whose offset this returns."""
    asks = Record(*A, len(rig.log), rig.stamp_ms, WHO.encode(), None, FORGET_HEADERS)
    rig.log.append(asks)
    await rig.engine.process([asks], started_ms=20.0, fetched_ms=10.0)
    return asks.offset


async def test_a_checkpoint_that_ends_at_the_record_has_not_passed_it(rig: Rig) -> None:
    assert (await rig.store.peek(A)).next_offset == 10
    assert (await said(rig, 10)).outcome is Outcome.WAITS


async def test_who_has_passed_the_record_and_kept_the_state_is_of_an_earlier_release(rig: Rig) -> None:
    found = await said(rig, 9)
    assert (found.outcome, found.is_good) == (Outcome.FAILED, False)
    assert "earlier release" in found.note


async def test_a_state_of_pings_that_came_since_is_said_to_be_new(rig: Rig) -> None:
    at = await forgotten(rig)
    assert (await said(rig, at)).outcome is Outcome.WAITS, "it is in memory alone"
    await rig.feed(CHECKPOINT)
    assert (await said(rig, at)).outcome is Outcome.ABSENT
    await rig.feed(*steady(WHO, 2, 300), CHECKPOINT)
    found = await said(rig, at)
    assert (found.outcome, found.is_good) == (Outcome.REMOVED, True)
    assert "it still sends" in found.note


@pytest.mark.parametrize(("has_worked", "outcome"), [(True, Outcome.WAITS), (False, Outcome.ABSENT)])
async def test_where_redis_has_nothing_the_group_says_whether_anybody_worked_there(
    make_predictor: Callable[[], Predictor], has_worked: bool, outcome: Outcome
) -> None:
    """A Redis that lost all looks like one that no worker ever used. What it had is built anew from the log, with the
    pings from before the record."""
    assert (await said(Rig(make_predictor), 9, has_worked=has_worked)).outcome is outcome


async def test_the_group_is_asked_no_more_once_it_has_said_that_somebody_worked_there(
    make_predictor: Callable[[], Predictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question opens a connection to Kafka."""
    monkeypatch.setattr(states, "LOOK_S", 0.0)
    rig, questions, looks = Rig(make_predictor), 0, 0

    async def has_committed(number: int) -> bool:
        nonlocal questions
        questions += 1
        return True

    peek = rig.store.peek

    async def peek_at_last(partition: Partition) -> Claim:
        nonlocal looks
        looks += 1
        return await peek(partition) if looks < 4 else Claim(1, 10)

    monkeypatch.setattr(rig.store, "peek", peek_at_last)
    waiting = States(rig.store, A[0], [A[1]], has_committed)
    found = await waiting.wait(WHO, {A[1]: 9}, IN_TIME_S, await waiting.look(WHO))
    assert (found.outcome, questions, looks) == (Outcome.ABSENT, 1, 4)


@pytest.mark.parametrize("outcome", Outcome)
def test_only_what_waits_or_failed_is_to_be_done_again(outcome: Outcome) -> None:
    assert Finding("", outcome, "").is_good == (outcome not in (Outcome.WAITS, Outcome.FAILED))


ENDS: dict[Partition, Bounds] = {
    (FORECASTS, 0): Bounds(3, 9),
    (FORECASTS, 1): Bounds(0, 7),
    (FORECASTS, 2): Bounds(4, 4),
    (GAPFILLS, 0): Bounds(0, 2),
    (GAPFILLS, 1): Bounds(0, 0),
    (GAPFILLS, 2): Bounds(0, 0),
}
READ = {(FORECASTS, 0): 9, (FORECASTS, 1): 8, (GAPFILLS, 0): 2}


@pytest.mark.parametrize(
    ("committed", "left"),
    [
        (READ, []),
        ({**READ, (FORECASTS, 0): 8}, [0]),
        ({**READ, (GAPFILLS, 0): 1}, [0]),
        ({(FORECASTS, 0): 9, (GAPFILLS, 0): 2}, [1]),
        ({**READ, (FORECASTS, 0): 1, (FORECASTS, 1): 1}, [0, 1]),
        ({}, [0, 1]),
    ],
)
async def test_it_is_said_of_which_partitions_not_all_was_read(
    committed: dict[Partition, int], left: list[int]
) -> None:
    assert await topics.unread(ENDS, lambda: committed, 0.0) == left


async def test_it_waits_until_all_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "LOOK_S", 0.0)
    looks = iter([{}, {**READ, (GAPFILLS, 0): 0}, READ])
    assert await topics.unread(ENDS, lambda: next(looks), time.monotonic() + IN_TIME_S) == []
