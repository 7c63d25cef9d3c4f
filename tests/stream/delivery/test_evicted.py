"""A store that has lost some records and nothing else, as Redis does under `maxmemory-policy volatile-*`. Their
entities are rebuilt from the log, and forecast as if nothing had happened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from delivery_rig import P0, P1, FlakyStore, Kafka, crash, feed, record, records, running, until, worker

from stream.config.settings import Settings
from stream.delivery import processing
from stream.delivery.delivery import Delivery
from stream.kafka.log import Partition
from stream.kafka.records.record_columns import Records
from stream.wire import Forecast, Record, loads_forecast

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


async def answered(delivery: Delivery, kafka: Kafka, store: FlakyStore, some: Sequence[Record]) -> None:
    """These records are fed, answered, and in a checkpoint."""
    retired = await feed(delivery, kafka, some)
    await until(lambda: len(retired) == len(some))
    await until(lambda: store.checkpoint((some[0].topic, some[0].partition)).next_offset == some[-1].offset + 1)


def last_forecasts(kafka: Kafka, count: int) -> list[Forecast]:
    found = [one for one in kafka.published if "forecasts" in one.topic]
    return [loads_forecast(one.value or b"") for one in found[-count:]]


def said(forecasts: Sequence[Forecast]) -> list[tuple[Any, ...]]:
    """All that a subscriber reads of them, but for the times that answering took."""
    return [(f.forecast_id, f.window, f.status, f.cache, f.next, f.horizons) for f in forecasts]


async def undisturbed(count: int, more: int) -> list[tuple[Any, ...]]:
    """What is said of the last records if nothing is lost."""
    kafka, store = Kafka(), FlakyStore()
    delivery = worker(kafka, store)
    async with running(delivery, P0):
        await answered(delivery, kafka, store, records(0, count))
        await answered(delivery, kafka, store, records(count, count + more))
    return said(last_forecasts(kafka, more))


async def dead_worker(kafka: Kafka, store: FlakyStore, count: int) -> None:
    """It has answered so many records, and left a checkpoint of all."""
    delivery = worker(kafka, store)
    async with running(delivery, P0) as pump:
        await answered(delivery, kafka, store, records(0, count))
        await crash(delivery, pump)


async def test_an_evicted_state_is_rebuilt_by_the_next_owner(kafka: Log, store: LosingStore) -> None:
    await dead_worker(kafka, store, 60)
    evict(store, "bus0")
    delivery = worker(kafka, store)
    async with running(delivery, P0):
        await answered(delivery, kafka, store, records(60, 63))
        assert delivery.ownership._engine.counts[P0].evicted == 1
    assert said(last_forecasts(kafka, 3)) == await undisturbed(60, 3)
    assert not await store.evicted(P0), "it is written again"
    assert kafka.answered == list(range(63)), "the replay published nothing"


async def test_an_evicted_state_is_rebuilt_when_its_entity_comes_back_into_memory(
    kafka: Log, store: LosingStore, caplog: pytest.LogCaptureFixture
) -> None:
    delivery = worker(kafka, store, ONE_IN_MEMORY)
    async with running(delivery, P0):
        await answered(delivery, kafka, store, records(0, 60))
        await until(lambda: delivery.ownership._engine.entities[P0] == (1, 0))
        evict(store, "bus0", "bus1")  # bus2 came last, and is in memory
        await answered(delivery, kafka, store, records(60, 63))
        assert delivery.ownership._engine.counts[P0].evicted == 2
        assert (delivery.accounts.fenced, delivery.accounts.batches_failed) == (0, 0)
    assert said(last_forecasts(kafka, 3)) == await undisturbed(60, 3)
    assert "2 stored states of pathcast.pings.v1/0 are gone before they expired" in caplog.text
    assert kafka.rereads == [(0, 60)], "one replay for all of them"


async def test_a_state_is_rebuilt_from_what_the_log_still_has(kafka: Log, store: LosingStore) -> None:
    await dead_worker(kafka, store, 60)
    evict(store, "bus0")
    kafka.begins[P0] = 42
    delivery = worker(kafka, store)
    async with running(delivery, P0):
        await answered(delivery, kafka, store, records(60, 63))
    short, *others = last_forecasts(kafka, 3)
    assert (short.status, short.window.n) == ("warmup", 7)
    assert said(others) == (await undisturbed(60, 3))[1:], "nobody else has lost anything"


async def test_who_cannot_be_found_in_the_log_is_looked_for_once(kafka: Log, store: LosingStore) -> None:
    await dead_worker(kafka, store, 60)
    evict(store, "bus0", "bus1", "bus2")
    kafka.begins[P0] = 59  # the last ping of bus2
    for _ in range(2):
        delivery = worker(kafka, store)
        async with running(delivery, P0) as pump:
            await until(lambda delivery=delivery: delivery.status().partitions[0].saved == 60)
            await crash(delivery, pump)
    assert kafka.rereads == [(59, 60)]
    assert set(store._records[P0]) == {"bus2"}
    delivery = worker(kafka, store)
    async with running(delivery, P0):
        await answered(delivery, kafka, store, records(60, 63))
    assert [forecast.window.n for forecast in last_forecasts(kafka, 3)] == [1, 1, 2]


async def test_whoever_dies_before_the_rebuilt_are_stored_leaves_that_to_the_next(
    kafka: Log, store: LosingStore
) -> None:
    await dead_worker(kafka, store, 60)
    evict(store, "bus0")
    store.writes_to_fail = 1_000_000
    delivery = worker(kafka, store)
    async with running(delivery, P0) as pump:
        await until(lambda: delivery.status().partitions[0].ready)
        await crash(delivery, pump)
    store.writes_to_fail = 0
    delivery = worker(kafka, store)
    async with running(delivery, P0):
        await answered(delivery, kafka, store, records(60, 63))
    assert said(last_forecasts(kafka, 3)) == await undisturbed(60, 3)


@pytest.mark.parametrize("loses_before", [True, False], ids=["in a rebuild", "in an ordinary takeover"])
async def test_what_is_evicted_while_a_takeover_replays_is_rebuilt_as_well(
    kafka: Log, store: LosingStore, loses_before: bool
) -> None:
    delivery = worker(kafka, store)
    async with running(delivery, P0) as pump:
        await answered(delivery, kafka, store, records(0, 57))
        store.writes_to_fail = 1_000_000
        retired = await feed(delivery, kafka, records(57, 60))
        await until(lambda: len(retired) == 3)
        await crash(delivery, pump)
    store.writes_to_fail = 0
    if loses_before:
        evict(store, "bus0")
    store.loses = {"bus2": 1}
    delivery = worker(kafka, store)
    async with running(delivery, P0):
        await answered(delivery, kafka, store, records(60, 63))
        assert delivery.ownership._engine.counts[P0].evicted == 1 + loses_before
    assert kafka.rereads == ([(0, 60)] if loses_before else [(57, 60), (0, 60)])
    assert said(last_forecasts(kafka, 3)) == await undisturbed(60, 3)


async def test_a_store_that_evicts_all_the_time_costs_one_rebuild_a_minute(
    kafka: Log, store: LosingStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = worker(kafka, store, ONE_IN_MEMORY)
    async with running(delivery, P0):
        await answered(delivery, kafka, store, records(0, 60))
        for start in (60, 63):
            await until(lambda: delivery.ownership._engine.entities[P0] == (1, 0))
            evict(store, "bus0")
            await answered(delivery, kafka, store, records(start, start + 3))
        assert [forecast.window.n for forecast in last_forecasts(kafka, 6)] == [21, 21, 21, 1, 22, 22]
        assert kafka.rereads == [(0, 60)], "the second loss came too soon"
        assert "they start anew" in caplog.text
        monkeypatch.setattr(processing, "REBUILD_EVERY_S", -1.0)
        await until(lambda: delivery.ownership._engine.entities[P0] == (1, 0))
        evict(store, "bus0")
        await answered(delivery, kafka, store, records(66, 69))
        assert kafka.rereads == [(0, 60), (0, 66)]
        assert delivery.ownership._engine.counts[P0].evicted == 3


async def test_the_other_partitions_of_the_batch_go_on(kafka: Log, store: LosingStore) -> None:
    delivery = worker(kafka, store, ONE_IN_MEMORY)
    async with running(delivery, P0, P1):
        await answered(delivery, kafka, store, records(0, 3))
        await answered(delivery, kafka, store, [record(0, partition=1, entity="tram")])
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
    assert sorted(forecast.window.n for forecast in last_forecasts(kafka, 4)) == [2, 2, 2, 2]


async def test_a_state_that_is_evicted_while_its_entity_is_in_memory_is_written_again_and_counted(
    kafka: Log, store: LosingStore
) -> None:
    delivery = worker(kafka, store)
    async with running(delivery, P0) as pump:
        await answered(delivery, kafka, store, records(0, 60))
        evict(store, "bus0")
        await answered(delivery, kafka, store, records(60, 63))
        assert delivery.ownership._engine.counts[P0].evicted == 1
        assert kafka.rereads == []
        await crash(delivery, pump)
    assert said(last_forecasts(kafka, 3)) == await undisturbed(60, 3)
    assert not await store.evicted(P0)


async def test_a_zombie_that_misses_a_state_is_fenced_and_goes_on(kafka: Log, store: LosingStore) -> None:
    """It has rebuilt some lately, and so it would take the lost state out of the index, which is another's by now."""
    delivery = worker(kafka, store, ONE_IN_MEMORY)
    async with running(delivery, P0) as pump:
        await answered(delivery, kafka, store, records(0, 60))
        await until(lambda: delivery.ownership._engine.entities[P0] == (1, 0))
        evict(store, "bus0")
        await answered(delivery, kafka, store, records(60, 63))
        await until(lambda: delivery.ownership._engine.entities[P0] == (1, 0))
        evict(store, "bus0")
        await store.claim(P0)
        retired = await feed(delivery, kafka, records(63, 66))
        await until(lambda: pump.done() or len(retired) == 3)
        assert not pump.done(), pump.exception()
    assert kafka.answered == list(range(66))
