"""An entity that is not in memory, while the store cannot be read: who waits for it, for how long, and what becomes of
its state."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from delivery_rig import (
    DAY,
    P0,
    P1,
    SETTINGS,
    FlakyStore,
    Kafka,
    answer,
    answer_undisturbed,
    feed,
    live_worker,
    mortal_worker,
    record,
    running,
    settle,
    until,
    worker,
)

from stream.config.security import Refused
from stream.delivery import cold_reads
from stream.delivery.delivery import Delivery
from stream.engine.counts import Counts
from stream.engine.entities import stored_entity as stored
from stream.kafka.log import Partition
from stream.kafka.records.record_columns import Records
from stream.store.base import Fenced
from stream.tracks.track import Track
from stream.wire import Record

NEVER = 3_600.0


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold_reads, "PATIENCE_S", 0.01)
    monkeypatch.setattr(cold_reads, "UNREAD_WAIT_S", NEVER)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers are answered as new at once."""
    monkeypatch.setattr(cold_reads, "UNREAD_WAIT_S", 0.02)


def of(entity: str, start: int, stop: int, partition: Partition = P0) -> list[Record]:
    """Pings of one entity."""
    return [record(offset, partition=partition[1], entity=entity) for offset in range(start, stop)]


def caches(kafka: Kafka, *offsets: int) -> list[tuple[str, str, int]]:
    found = kafka.forecasts()
    return [(found[one].status, found[one].cache, found[one].window.n) for one in offsets]


async def history(kafka: Kafka, store: FlakyStore) -> None:
    """A worker has answered 12 pings of a bus and 12 of a tram, has stored them, and is gone."""
    async with mortal_worker(kafka, store) as first:
        await settle(first, kafka, store, [*of("bus", 0, 12), *of("tram", 12, 24)])


# -- who waits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hangs", [False, True])
async def test_entities_of_other_partitions_are_answered_while_a_stranger_waits(
    kafka: Kafka, store: FlakyStore, hangs: bool
) -> None:
    async with live_worker(kafka, store, P0, P1) as delivery:
        await answer(delivery, kafka, of("bus", 0, 6))
        release = asyncio.Event()
        if hangs:
            store.hung["get_many", P1] = release
        else:
            store.refused.add(("get_many", P1))
        waiting = await feed(delivery, kafka, of("stranger", 0, 1, P1))
        await answer(delivery, kafka, of("bus", 6, 12))
        await answer(delivery, kafka, of("another", 12, 13))
        assert waiting == []
        assert bool(delivery.status().away) != hangs, "who does not answer yet may be slow"
        release.set()
        store.refused.clear()
        await until(lambda: len(waiting) == 1)
        await until(lambda: not delivery.status().away)
    assert kafka.forecasts(P1)[0].cache == "none", "its record could be read in time, and there was none"


async def test_one_batch_of_both_is_answered_but_for_the_partition_with_the_stranger(
    kafka: Kafka, store: FlakyStore
) -> None:
    async with live_worker(kafka, store, P0, P1) as delivery:
        await answer(delivery, kafka, of("bus", 0, 6))
        store.refused.add(("get_many", P1))
        both = of("stranger", 0, 2, P1) + of("bus", 6, 12)
        kafka.logs[P1], kafka.logs[P0] = both[:2], kafka.logs[P0] + both[2:]
        done: list[bool] = []
        polled = {P1: Records.of(both[:2]), P0: Records.of(both[2:])}
        await delivery.put(polled, 0.0, lambda: done.append(True))
        await until(lambda: kafka.offsets[P0] == 12)
        assert (kafka.offsets.get(P1), done) == (0, []), "the poll is acknowledged when all of it is answered"
        store.refused.clear()
        await until(lambda: done == [True])
    assert sorted(kafka.forecasts()) == list(range(12))
    assert kafka.offsets == {P0: 12, P1: 2}


async def test_a_partition_waits_in_the_order_of_its_offsets(kafka: Kafka, store: FlakyStore) -> None:
    async with live_worker(kafka, store) as delivery:
        await answer(delivery, kafka, of("bus", 0, 6))
        store.refused.add(("get_many", P0))
        waiting = [await feed(delivery, kafka, some) for some in (of("tram", 6, 8), of("bus", 8, 12))]
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert (waiting, kafka.offsets[P0]) == ([[], []], 6), "no offset may pass a record that has no answer"
        store.refused.clear()
        await until(lambda: [len(some) for some in waiting] == [2, 4])
    assert kafka.answered == list(range(12))


async def test_a_slow_store_makes_its_partition_wait_and_nobody_new(kafka: Kafka, store: FlakyStore) -> None:
    """It answers later than a batch waits for it: what it says then is used, and it is not asked once more."""
    await history(kafka, store)
    async with live_worker(kafka, store) as delivery:
        await until(lambda: delivery.ownership.owned[P0].ready)
        store.hung["get_many", P0] = asyncio.Event()
        waiting = await feed(delivery, kafka, of("bus", 24, 26))
        await until(lambda: delivery.ownership.owned[P0].waits)
        store.hung["get_many", P0].set()
        store.reads_to_fail = 0
        await until(lambda: len(waiting) == 2)
    assert caches(kafka, 24, 25) == [("ok", "hit", 13), ("ok", "hit", 14)]


@pytest.mark.parametrize("error", [Refused("NOPERM"), Fenced("another worker claimed it")], ids=["refused", "fenced"])
@pytest.mark.parametrize("taken_for_new", [False, True])
async def test_what_waiting_does_not_cure_is_seen_by_a_read_in_the_background(
    kafka: Kafka, store: FlakyStore, monkeypatch: pytest.MonkeyPatch, error: Exception, taken_for_new: bool
) -> None:
    if taken_for_new:
        monkeypatch.setattr(cold_reads, "UNREAD_WAIT_S", 0.01)
    delivery = worker(kafka, store)
    async with running(delivery, P0) as pump:
        await answer(delivery, kafka, of("bus", 0, 3))
        store.refused.add(("get_many", P0))
        waiting = await feed(delivery, kafka, of("tram", 3, 4))
        await until(lambda: len(waiting) == 1 if taken_for_new else delivery.ownership.owned[P0].waits)
        epoch = delivery.ownership.owned[P0].epoch
        raises_once(store, error)
        if isinstance(error, Refused):
            with pytest.raises(Refused):
                await pump
        else:
            await until(lambda: delivery.ownership.owned[P0].epoch > epoch and delivery.ownership.owned[P0].ready)
            await until(lambda: len(waiting) == 1)


def raises_once(store: FlakyStore, error: Exception) -> None:
    """From its next read, and then it is well."""
    well, raised = store.get_many, []

    async def get_many(partition: Partition, entity_ids: Sequence[str]) -> list[bytes | None]:
        if not raised:
            raised.append(error)
            raise error
        return await well(partition, entity_ids)

    store.refused.clear()
    store.get_many = get_many  # type: ignore[method-assign]


# -- answered as new -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("soon")
async def test_after_a_while_a_stranger_is_answered_as_new_and_every_answer_says_so(
    kafka: Kafka, store: FlakyStore
) -> None:
    await history(kafka, store)
    async with live_worker(kafka, store) as delivery:
        await until(lambda: delivery.ownership.owned[P0].ready)
        store.refused.add(("get_many", P0))
        await answer(delivery, kafka, of("bus", 24, 34))
        late = record(34, entity="bus", ts=DAY + 275_000, lat=30.00275)
        await answer(delivery, kafka, [late])
        assert engine_counts(delivery).unread == 11
    assert caches(kafka, *range(24, 34)) == [("warmup", "unread", n) for n in range(1, 11)]
    assert caches(kafka, 34) == [("stale", "unread", 5)]


def engine_counts(delivery: Delivery) -> Counts:
    return delivery.ownership._engine.counts[P0]


@pytest.mark.usefixtures("soon")
async def test_the_partition_waits_once_and_who_is_new_later_does_not_wait(
    kafka: Kafka, store: FlakyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live_worker(kafka, store) as delivery:
        await until(lambda: delivery.ownership.owned[P0].ready)
        store.refused.add(("get_many", P0))
        await answer(delivery, kafka, of("bus", 0, 1))
        monkeypatch.setattr(cold_reads, "UNREAD_WAIT_S", NEVER)
        await answer(delivery, kafka, of("tram", 1, 2))
    assert [one.cache for one in kafka.forecasts().values()] == ["unread", "unread"]


@pytest.mark.usefixtures("soon")
async def test_when_the_store_is_back_all_is_as_if_it_had_never_been_away(kafka: Kafka, store: FlakyStore) -> None:
    """The store takes writes all the time: a checkpoint with the short track would cost the bus its stored window."""
    await history(kafka, store)
    before = dict(store._records[P0])
    async with live_worker(kafka, store) as delivery:
        await until(lambda: delivery.ownership.owned[P0].ready)
        store.refused.add(("get_many", P0))
        await answer(delivery, kafka, of("bus", 24, 27))
        await answer(delivery, kafka, of("newcomer", 27, 30))
        await asyncio.sleep(0.05)  # checkpoints are due all the time
        assert (store._records[P0], store.checkpoint(P0).next_offset) == (before, 24)
        store.refused.clear()
        await until(lambda: store.checkpoint(P0).next_offset == 30)
        await answer(delivery, kafka, [*of("bus", 30, 33), *of("newcomer", 33, 36), *of("tram", 36, 39)])
        await until(lambda: store.checkpoint(P0).next_offset == 39)
    calm, calm_store = await answer_undisturbed(kafka.logs[P0])
    assert kafka.answered == list(range(39))
    assert kafka.numbers(range(30, 39)) == calm.numbers(range(30, 39))
    assert {one.cache for offset, one in kafka.forecasts().items() if offset >= 30} == {"hit"}
    assert tracks(store) == tracks(calm_store)


def tracks(store: FlakyStore) -> Mapping[str, Track]:
    return {name: stored.loads(name, raw).track for name, raw in store._records[P0].items()}


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("leave", [True, False], ids=["handed over", "killed"])
async def test_the_next_owner_knows_of_every_ping_that_was_answered_as_new(
    kafka: Kafka, store: FlakyStore, leave: bool
) -> None:
    await history(kafka, store)
    async with (live_worker if leave else mortal_worker)(kafka, store) as delivery:
        await until(lambda: delivery.ownership.owned[P0].ready)
        store.refused.add(("get_many", P0))
        await answer(delivery, kafka, of("bus", 24, 27))
        if leave:
            await delivery.ownership.drain()
            await delivery.ownership.revoke([P0])
    assert store.checkpoint(P0).next_offset == 24
    store.refused.clear()
    async with live_worker(kafka, store) as again:
        await answer(again, kafka, of("bus", 27, 30))
    calm, _ = await answer_undisturbed(kafka.logs[P0])
    assert kafka.numbers(range(27, 30)) == calm.numbers(range(27, 30))


@pytest.mark.usefixtures("soon")
async def test_what_a_short_track_rejects_says_that_it_was_judged_by_one(kafka: Kafka, store: FlakyStore) -> None:
    await history(kafka, store)
    async with live_worker(kafka, store) as delivery:
        await until(lambda: delivery.ownership.owned[P0].ready)
        store.refused.add(("get_many", P0))
        far = record(25, entity="bus", lat=60.0)
        await answer(delivery, kafka, [*of("bus", 24, 25), far])
    (letter,) = [one for one in kafka.published if one.topic == SETTINGS.topics.dead_letters]
    headers = dict(letter.headers)
    assert headers["__pathcast.errors.code"] == b"impossible_jump"
    assert (headers["__pathcast.errors.track"], headers["__pathcast.errors.retryable"]) == (b"unread", b"true")
