"""A store that has lost some records and nothing else, as Redis does under `maxmemory-policy volatile-*`. Their
entities are rebuilt from the log, and forecast as if nothing had happened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from delivery_rig import (
    P0,
    P1,
    FlakyStore,
    Kafka,
    answer,
    answer_undisturbed,
    feed,
    live_worker,
    mortal_worker,
    record,
    records,
    running,
    settle,
    until,
    worker,
)

from stream.config.settings import Settings
from stream.delivery import processing
from stream.kafka.log import Partition
from stream.kafka.records.record_columns import Records

ONE_IN_MEMORY = Settings(max_wait_ms=0.0, checkpoint_ms=0.0, max_entities=1)


class Log(Kafka):
    """It writes down what of it is read again."""

    def __init__(self) -> None:
        super().__init__()
        self.rereads: list[tuple[int, int]] = []

    async def reread(self, partition: Partition, start: int, end: int) -> AsyncIterator[Records]:
        self.rereads.append((start, end))
        async for some in super().reread(partition, start, end):
            yield some


class LosingStore(FlakyStore):
    """A store that loses a record right before it is read for the given time from now on."""

    def __init__(self) -> None:
        super().__init__()
        self.loses: dict[str, int] = {}

    async def get_many(self, partition: Partition, entity_ids: Sequence[str]) -> list[bytes | None]:
        for entity_id in set(self.loses) & set(entity_ids):
            self.loses[entity_id] -= 1
            if self.loses[entity_id] == 0:
                evict(self, entity_id)
        return await super().get_many(partition, entity_ids)


@pytest.fixture
def kafka() -> Log:
    return Log()


@pytest.fixture
def store() -> LosingStore:
    return LosingStore()


def evict(store: FlakyStore, *entity_ids: str, partition: Partition = P0) -> None:
    for entity_id in entity_ids:
        del store._records[partition][entity_id]


async def is_undisturbed(kafka: Kafka, *offsets: int) -> bool:
    """Whether subscribers read of these records, of 63, what they had read if nothing had been lost."""
    calm, _ = await answer_undisturbed(records(0, 63))
    return kafka.numbers(offsets) == calm.numbers(offsets)


async def dead_worker(kafka: Kafka, store: FlakyStore, count: int) -> None:
    """It has answered so many records, and left a checkpoint of all."""
    async with mortal_worker(kafka, store) as delivery:
        await settle(delivery, kafka, store, records(0, count))


async def test_an_evicted_state_is_rebuilt_by_the_next_owner(kafka: Log, store: LosingStore) -> None:
    await dead_worker(kafka, store, 60)
    evict(store, "bus0")
    async with live_worker(kafka, store) as delivery:
        await settle(delivery, kafka, store, records(60, 63))
        assert delivery.ownership._engine.counts[P0].evicted == 1
    assert await is_undisturbed(kafka, 60, 61, 62)
    assert not await store.list_evicted(P0), "it is written again"
    assert kafka.answered == list(range(63)), "the replay published nothing"


async def test_an_evicted_state_is_rebuilt_when_its_entity_comes_back_into_memory(
    kafka: Log, store: LosingStore, caplog: pytest.LogCaptureFixture
) -> None:
    async with live_worker(kafka, store, settings=ONE_IN_MEMORY) as delivery:
        await settle(delivery, kafka, store, records(0, 60))
        await until(lambda: delivery.ownership._engine.entities[P0] == (1, 0))
        evict(store, "bus0", "bus1")  # bus2 came last, and is in memory
        await settle(delivery, kafka, store, records(60, 63))
        assert delivery.ownership._engine.counts[P0].evicted == 2
        assert (delivery.accounts.fenced, delivery.accounts.batches_failed) == (0, 0)
    assert await is_undisturbed(kafka, 60, 61, 62)
    assert "2 stored states of pathcast.pings.v1/0 are gone before they expired" in caplog.text
    assert kafka.rereads == [(0, 60)], "one replay for all of them"


async def test_a_state_is_rebuilt_from_what_the_log_still_has(kafka: Log, store: LosingStore) -> None:
    await dead_worker(kafka, store, 60)
    evict(store, "bus0")
    kafka.begins[P0] = 42
    async with live_worker(kafka, store) as delivery:
        await settle(delivery, kafka, store, records(60, 63))
    short = kafka.forecasts()[60]
    assert (short.status, short.window.n) == ("warmup", 7)
    assert await is_undisturbed(kafka, 61, 62), "nobody else has lost anything"


async def test_who_cannot_be_found_in_the_log_is_looked_for_once(kafka: Log, store: LosingStore) -> None:
    await dead_worker(kafka, store, 60)
    evict(store, "bus0", "bus1", "bus2")
    kafka.begins[P0] = 59  # the last ping of bus2
    for _ in range(2):
        async with mortal_worker(kafka, store) as delivery:
            await until(lambda delivery=delivery: delivery.status().partitions[0].saved == 60)
    assert kafka.rereads == [(59, 60)]
    assert set(store._records[P0]) == {"bus2"}
    async with live_worker(kafka, store) as delivery:
        await settle(delivery, kafka, store, records(60, 63))
    assert kafka.windows(60, 61, 62) == [1, 1, 2]


async def test_whoever_dies_before_the_rebuilt_are_stored_leaves_that_to_the_next(
    kafka: Log, store: LosingStore
) -> None:
    await dead_worker(kafka, store, 60)
    evict(store, "bus0")
    store.writes_to_fail = 1_000_000
    async with mortal_worker(kafka, store) as delivery:
        await until(lambda: delivery.status().partitions[0].ready)
    store.writes_to_fail = 0
    async with live_worker(kafka, store) as delivery:
        await settle(delivery, kafka, store, records(60, 63))
    assert await is_undisturbed(kafka, 60, 61, 62)


@pytest.mark.parametrize("loses_before", [True, False], ids=["in a rebuild", "in an ordinary takeover"])
async def test_what_is_evicted_while_a_takeover_replays_is_rebuilt_as_well(
    kafka: Log, store: LosingStore, loses_before: bool
) -> None:
    async with mortal_worker(kafka, store) as delivery:
        await settle(delivery, kafka, store, records(0, 57))
        store.writes_to_fail = 1_000_000
        await answer(delivery, kafka, records(57, 60))
    store.writes_to_fail = 0
    if loses_before:
        evict(store, "bus0")
    store.loses = {"bus2": 1}
    async with live_worker(kafka, store) as delivery:
        await settle(delivery, kafka, store, records(60, 63))
        assert delivery.ownership._engine.counts[P0].evicted == 1 + loses_before
    assert kafka.rereads == ([(0, 60)] if loses_before else [(57, 60), (0, 60)])
    assert await is_undisturbed(kafka, 60, 61, 62)


async def test_a_store_that_evicts_all_the_time_costs_one_rebuild_a_minute(
    kafka: Log, store: LosingStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live_worker(kafka, store, settings=ONE_IN_MEMORY) as delivery:
        await settle(delivery, kafka, store, records(0, 60))
        for start in (60, 63):
            await until(lambda: delivery.ownership._engine.entities[P0] == (1, 0))
            evict(store, "bus0")
            await settle(delivery, kafka, store, records(start, start + 3))
        assert kafka.windows(*range(60, 66)) == [21, 21, 21, 1, 22, 22]
        assert kafka.rereads == [(0, 60)], "the second loss came too soon"
        assert "they start anew" in caplog.text
        monkeypatch.setattr(processing, "REBUILD_EVERY_S", -1.0)
        await until(lambda: delivery.ownership._engine.entities[P0] == (1, 0))
        evict(store, "bus0")
        await settle(delivery, kafka, store, records(66, 69))
        assert kafka.rereads == [(0, 60), (0, 66)]
        assert delivery.ownership._engine.counts[P0].evicted == 3


async def test_the_other_partitions_of_the_batch_go_on(kafka: Log, store: LosingStore) -> None:
    async with live_worker(kafka, store, P0, P1, settings=ONE_IN_MEMORY) as delivery:
        await settle(delivery, kafka, store, records(0, 3))
        await settle(delivery, kafka, store, [record(0, partition=1, entity="tram")])
        epochs = [one.epoch for one in delivery.status().partitions]
        evict(store, "bus0")
        polled = {P1: [record(1, partition=1, entity="tram")], P0: records(3, 6)}
        retired: list[int] = []
        for partition, some in polled.items():
            kafka.logs[partition] += some
        await delivery.put({p: Records.of(some) for p, some in polled.items()}, 0.0, lambda: retired.append(1))
        await until(lambda: retired == [1])
        assert delivery.accounts.accounts[P1].answered_before == 0
        assert [one.epoch for one in delivery.status().partitions] == [epochs[0] + 1, epochs[1]]
    assert kafka.windows(3, 4, 5) == [2, 2, 2]
    assert kafka.forecasts(P1)[1].window.n == 2


async def test_a_state_that_is_evicted_while_its_entity_is_in_memory_is_written_again_and_counted(
    kafka: Log, store: LosingStore
) -> None:
    async with mortal_worker(kafka, store) as delivery:
        await settle(delivery, kafka, store, records(0, 60))
        evict(store, "bus0")
        await settle(delivery, kafka, store, records(60, 63))
        assert delivery.ownership._engine.counts[P0].evicted == 1
        assert kafka.rereads == []
    assert await is_undisturbed(kafka, 60, 61, 62)
    assert not await store.list_evicted(P0)


async def test_a_zombie_that_misses_a_state_is_fenced_and_goes_on(kafka: Log, store: LosingStore) -> None:
    """It has rebuilt some lately, and so it would take the lost state out of the index, which is another's by now."""
    delivery = worker(kafka, store, ONE_IN_MEMORY)
    async with running(delivery, P0) as pump:
        await settle(delivery, kafka, store, records(0, 60))
        await until(lambda: delivery.ownership._engine.entities[P0] == (1, 0))
        evict(store, "bus0")
        await settle(delivery, kafka, store, records(60, 63))
        await until(lambda: delivery.ownership._engine.entities[P0] == (1, 0))
        evict(store, "bus0")
        await store.claim(P0)
        retired = await feed(delivery, kafka, records(63, 66))
        await until(lambda: pump.done() or len(retired) == 3)
        assert not pump.done(), pump.exception()
    assert kafka.answered == list(range(66))
