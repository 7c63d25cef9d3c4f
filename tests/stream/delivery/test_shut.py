"""One partition that cannot be checkpointed, or taken over: what it costs the others of its worker, and itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from delivery_rig import (
    P0,
    P1,
    FlakyStore,
    Kafka,
    answer,
    feed,
    live_worker,
    mortal_worker,
    records,
    running,
    settle,
    until,
    worker,
)

from stream.config.settings import Settings
from stream.config.wording import place
from stream.delivery import checkpointer, inbox
from stream.delivery.delivery import Delivery
from stream.delivery.ownership import ownership
from stream.kafka.log import Partition
from stream.kafka.records.record_columns import Records

SMALL = Settings(max_wait_ms=0.0, checkpoint_ms=0.0, max_batch=6)
LENGTH = 600


@pytest.fixture
def kafka() -> Kafka:
    found = Kafka()
    found.logs = {partition: records(0, LENGTH, partition=partition[1]) for partition in (P0, P1)}
    return found


@pytest.fixture(autouse=True)
def few_unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointer, "MAX_UNSAVED", 12)


@asynccontextmanager
async def consuming(delivery: Delivery, kafka: Kafka, *partitions: Partition) -> AsyncIterator[None]:
    """Polls both partitions as Faust does, a few records of each into one message, the next when there is room; but for
    those that are paused."""
    at = dict.fromkeys(partitions, 0)

    async def consume() -> None:
        while any(position < LENGTH for position in at.values()):
            polled = {}
            for partition in partitions:
                some = kafka.logs[partition][at[partition] : at[partition] + 3]
                if some and partition not in kafka.paused:
                    polled[partition] = Records.of(some)
                    at[partition] += len(some)
            if polled:
                await delivery.put(polled, 0.0, lambda: None)
            await asyncio.sleep(0)

    task = asyncio.create_task(consume())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def answered(kafka: Kafka, partition: Partition) -> list[int]:
    return [one.src.offset for one in kafka.published if one.src.partition == partition[1]]


def held(delivery: Delivery, partition: Partition) -> int:
    """Records of it that wait in this process."""
    (one,) = [one for one in delivery.status().partitions if one.partition == partition]
    return one.waiting


async def test_a_partition_whose_checkpoints_are_refused_holds_up_only_itself(kafka: Kafka, store: FlakyStore) -> None:
    async with live_worker(kafka, store, P0, P1, settings=SMALL) as delivery, consuming(delivery, kafka, P0, P1):
        store.refused.add(("put_many", P1))
        await until(lambda: len(answered(kafka, P0)) == LENGTH)
        await until(lambda: len(answered(kafka, P1)) >= 12)  # answers go on until a takeover had too much to replay
        assert len(answered(kafka, P1)) < 24, "what is in no checkpoint has a bound"
        assert P1 in kafka.paused
        assert held(delivery, P1) <= SMALL.max_batch + 3 * 3, "and so has what waits"
        await until(lambda: store.checkpoint(P0).next_offset == LENGTH)
        store.refused.clear()
        await until(lambda: len(answered(kafka, P1)) == LENGTH)
        await until(lambda: store.checkpoint(P1).next_offset == LENGTH)
        assert (kafka.paused, delivery.status().away) == (set(), "")
    assert answered(kafka, P0) == answered(kafka, P1) == list(range(LENGTH))


class Refusing(FlakyStore):
    """A store that takes no checkpoint, and writes down when it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.tries: list[tuple[float, Partition]] = []

    async def put_many(
        self, partition: Partition, epoch: int, next_offset: int | None, items: Mapping[str, bytes]
    ) -> list[str]:
        self.tries.append((asyncio.get_running_loop().time(), partition))
        raise ConnectionError("OOM")


async def test_a_store_that_refuses_all_is_tried_with_one_partition_at_a_time(kafka: Kafka) -> None:
    """Each try dumps states, and nobody could work meanwhile if all partitions were tried one after the other."""
    store = Refusing()
    async with live_worker(kafka, store, P0, P1, settings=SMALL) as delivery:
        for partition in (0, 1):
            await answer(delivery, kafka, records(0, 3, partition=partition))
        await until(lambda: len(store.tries) >= 3)
    times = [at_s for at_s, _ in store.tries]
    assert {partition for _, partition in store.tries} == {P0, P1}
    waits = [after - before for before, after in pairwise(times)]
    assert all(wait >= due * 0.99 for wait, due in zip(waits, checkpointer.RETRY_S, strict=False)), waits


async def test_a_partition_that_cannot_be_taken_over_holds_up_only_itself(kafka: Kafka, store: FlakyStore) -> None:
    delivery = worker(kafka, store, SMALL)
    store.refused.add(("claim", P1))
    async with running(delivery, P0, P1), consuming(delivery, kafka, P0, P1):
        await until(lambda: len(answered(kafka, P0)) == LENGTH)
        assert answered(kafka, P1) == []
        assert held(delivery, P1) <= SMALL.max_batch + 3 * 3
        store.refused.clear()
        await until(lambda: len(answered(kafka, P1)) == LENGTH)
    assert answered(kafka, P0) == answered(kafka, P1) == list(range(LENGTH))


async def test_a_takeover_that_takes_long_says_where_it_waits(
    kafka: Kafka, store: FlakyStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ownership, "SLOW_S", 0.05)
    store.hung["claim", P1] = asyncio.Event()
    async with live_worker(kafka, store, P0, P1) as delivery:
        await until(lambda: caplog.text.count("has taken") >= 2)
        where = "_take_over > claim > claim > _pass > wait"  # the last three are the store's
        assert f"taking {place(P1)} over has taken 0 s so far; it is at {where}" in caplog.text
        store.hung["claim", P1].set()
        await until(lambda: delivery.ownership.owned[P1].ready)
        said = caplog.text.count("has taken")
        await asyncio.sleep(0.2)
        assert caplog.text.count("has taken") == said, "it has ended"


@pytest.mark.parametrize("method", ["claim", "get_many", "forget"])
async def test_a_takeover_that_waits_for_the_store_holds_up_only_its_partition(
    kafka: Kafka, store: FlakyStore, method: str
) -> None:
    """At each call that a takeover makes: the claim, the states of what it replays, and the end of an older past."""
    async with mortal_worker(kafka, store, P1, settings=SMALL) as first:
        await settle(first, kafka, store, records(0, 6, partition=1))
        store.refused.add(("put_many", P1))
        await feed(first, kafka, records(6, 12, partition=1))
        await until(lambda: kafka.offsets[P1] == 12)
    store.refused.clear()
    if method == "forget":
        kafka.offsets[P1] = 3  # an operator has moved the group back, behind the checkpoint
    store.hung[method, P1] = asyncio.Event()
    async with live_worker(kafka, store, P0, P1, settings=SMALL) as delivery:
        for start in range(0, 60, 6):
            await answer(delivery, kafka, records(start, start + 6))
        assert not delivery.ownership.owned[P1].ready
        store.hung[method, P1].set()
        await until(lambda: delivery.ownership.owned[P1].ready)


async def test_what_waits_of_shut_partitions_takes_nobodys_room(kafka: Kafka, store: FlakyStore) -> None:
    """Two of them hold a batch each, which is all that may wait of those that are open."""
    delivery = worker(kafka, store, SMALL)
    third = (P0[0], 2)
    store.refused |= {("claim", P1), ("claim", third)}
    async with running(delivery, P0, P1, third):
        for partition in (P1, third):
            some = Records.of(records(0, SMALL.max_batch, partition=partition[1]))
            put = asyncio.create_task(delivery.put({partition: some}, 0.0, lambda: None))
            await until(put.done)
        await answer(delivery, kafka, records(0, 6))


async def test_who_waits_for_room_goes_on_once_the_full_partition_is_shut(kafka: Kafka, store: FlakyStore) -> None:
    """Redis had lost the claim of a partition with much to do, and went away: all others waited until it was back."""
    async with live_worker(kafka, store, P0, P1, settings=SMALL) as delivery:
        await until(lambda: all(one.ready for one in delivery.status().partitions))
        store.refused.add(("claim", P1))
        async with delivery._busy:  # so that nobody takes what waits
            full = Records.of(kafka.logs[P1][: 2 * SMALL.max_batch])
            put = asyncio.create_task(delivery.put({P1: full}, 0.0, lambda: None))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(put), 0.05)
            await delivery.ownership.take_over_anew([delivery.ownership.owned[P1]])
        await asyncio.wait_for(put, 10)
        await answer(delivery, kafka, records(0, 6))


async def test_a_quiet_partition_that_is_shut_is_paused_after_a_few_messages(kafka: Kafka, store: FlakyStore) -> None:
    """Each keeps its poll's message from being acknowledged, however few records it has."""
    delivery = worker(kafka, store, Settings(max_wait_ms=0.0, checkpoint_ms=0.0))
    store.refused.add(("claim", P1))
    async with running(delivery, P0, P1):
        for offset in range(inbox.MAX_HELD_PIECES):
            assert P1 not in kafka.paused
            await delivery.put({P1: Records.of(kafka.logs[P1][offset : offset + 1])}, 0.0, lambda: None)
        assert P1 in kafka.paused
        store.refused.clear()
        await until(lambda: kafka.paused == set())


async def test_a_new_assignment_begins_with_no_partition_paused(kafka: Kafka, store: FlakyStore) -> None:
    """What was asked of the consumer before may come to be done after the partitions are ours again."""
    delivery = worker(kafka, store, SMALL)
    store.refused.add(("claim", P1))
    async with running(delivery, P0, P1):
        await delivery.put({P1: Records.of(kafka.logs[P1][:6])}, 0.0, lambda: None)
        assert kafka.paused == {P1}
        await delivery.ownership.drain()
        await delivery.ownership.revoke([P0, P1])
        delivery.ownership.assign([P0, P1])
        assert kafka.paused == set()
