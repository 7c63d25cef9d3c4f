"""A partition that is fenced at two places at once, or while it is about to go: one takeover at a time, and none that
outlives the assignment. A second claimant fences the first, and both fold the same records into one state."""

from __future__ import annotations

import asyncio

import pytest
from delivery_rig import P0, Kafka, SlowStore, answer, feed, live_worker, records, running, until
from transactions_rig import Producer, Transactions, exactly_once

from stream.delivery.delivery import Delivery
from stream.delivery.ownership import ownership

ID = "group|pathcast.pings.v1|0"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "FENCED_PAUSE_S", 0.05)  # long enough for the next thing to happen before


def takeovers() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("takeover") and not task.done()]


async def fenced_twice(kafka: Transactions, store: SlowStore, delivery: Delivery) -> Producer:
    """Another worker takes the partition while a checkpoint of ours is on its way to Redis and a transaction to Kafka.
    Returns that worker's producer."""
    await answer(delivery, kafka, records(0, 9))
    await until(lambda: store.asked == 1)
    kafka.settles.clear()
    await feed(delivery, kafka, records(9, 12))
    await until(lambda: delivery.ownership.owned[P0].taken == 12)
    other = kafka.producer(ID)
    await other.start()
    await store.claim(P0)
    store.takes.set()
    await asyncio.sleep(0.01)
    kafka.settles.set()
    await until(lambda: not delivery.ownership.owned[P0].ready)
    return other


async def test_who_is_fenced_in_kafka_and_in_redis_takes_over_once() -> None:
    kafka, store = Transactions(), SlowStore()
    delivery = exactly_once(kafka, store)
    async with running(delivery, P0):
        other = await fenced_twice(kafka, store, delivery)
        await until(lambda: delivery.ownership.owned[P0].ready)
        assert takeovers() == []
        await answer(delivery, kafka, records(12, 15))
    assert sorted(kafka.answered) == list(range(15))
    assert kafka.windows(*range(9, 15)) == [4, 4, 4, 5, 5, 5], "no record was folded twice, and none is missing"
    assert [one.closed for one in kafka.made if one is not other] == [True, False]


async def test_who_is_fenced_twice_and_then_loses_the_partition_leaves_its_new_owner_alone() -> None:
    kafka, store = Transactions(), SlowStore()
    delivery = exactly_once(kafka, store)
    async with running(delivery, P0):
        other = await fenced_twice(kafka, store, delivery)
        epoch = store.checkpoint(P0).epoch
        await delivery.ownership.drain()
        await delivery.ownership.revoke([P0])
        delivery.ownership.assign([])
        assert takeovers() == []
        await asyncio.sleep(0.1)
    assert kafka.newest[ID] is other
    assert store.checkpoint(P0).epoch == epoch


async def test_a_checkpoint_that_is_refused_after_the_drain_starts_no_takeover(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It would outlive the partition's going, and claim and replay again when the partition is back."""
    kafka, store = Kafka(), SlowStore()
    async with live_worker(kafka, store) as delivery:
        await answer(delivery, kafka, records(0, 9))
        await until(lambda: store.asked == 1)
        await delivery.ownership.drain()
        await store.claim(P0)  # another's, which comes late
        store.takes.set()
        await until(lambda: "refused" in caplog.text)
        assert f"checkpoint of partition {P0[1]} of {P0[0]} refused" in caplog.text
        assert takeovers() == []
        await delivery.ownership.revoke([P0])
        delivery.ownership.assign([P0])
        mine = delivery.ownership.owned[P0]
        await until(lambda: mine.ready)
        epoch = mine.epoch
        for start in range(9, 60, 3):
            await answer(delivery, kafka, records(start, start + 3))
            await asyncio.sleep(0.01)
        assert mine.epoch == epoch
    assert kafka.answered == list(range(60))
    assert kafka.windows(*range(60)) == [offset // 3 + 1 for offset in range(60)]
