"""Delivery on its own: the engine, its model and the store are the real ones. Kafka is a log in memory that can refuse,
and that writes down what happened in which order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from model.api import Predictor
from stream.config.settings import Settings
from stream.delivery.delivery import Delivery
from stream.delivery.guarantees import AtLeastOnce
from stream.engine.engine import Engine
from stream.kafka.log import CommittedOffset, History, Log, Partition, Rebalanced
from stream.kafka.records.encoded_batches import Answers
from stream.kafka.records.record_columns import Records
from stream.store.base import Claim, MemoryStore
from stream.wire import Forecast, Outgoing, Ping, Record, dumps, loads_forecast

TOPIC = "pathcast.pings.v1"
P0, P1 = (TOPIC, 0), (TOPIC, 1)
SETTINGS = Settings(max_wait_ms=0.0, checkpoint_ms=0.0)
DAY = 1_700_000_000_000


def record(offset: int, *, partition: int = 0, entity: str = "bus", **more: Any) -> Record:
    fields = {"ts": DAY + offset * 10_000, "lat": 30.0 + offset * 1e-4, "lon": -97.0, **more}
    ping = Ping(entity_id=entity, **fields)
    return Record(TOPIC, partition, offset, DAY + offset * 10_000, entity.encode(), dumps(ping))


def records(start: int, stop: int, *, partition: int = 0) -> list[Record]:
    return [record(offset, partition=partition, entity=f"bus{offset % 3}") for offset in range(start, stop)]


class Kafka:
    """The input topic, the group's offsets and the output topics, as far as Delivery sees them."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.logs: dict[Partition, list[Record]] = {}
        self.begins: dict[Partition, int] = {}
        self.leaders: dict[Partition, dict[int, int]] = {}  # the leader epochs of each log, and where each begins
        self.topic_id = "first"
        self.rejoins = 0
        self.offsets: dict[Partition, int] = {}
        self.epochs: dict[Partition, int] = {}
        self.histories: dict[Partition, History] = {}
        self.published: list[Outgoing] = []
        self.paused: set[Partition] = set()
        self.fail_publish: Exception | None = None
        self.fail_commit: Exception | None = None
        self.generation = 1  # of the group

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def publish(self, answers: Answers) -> None:
        await asyncio.sleep(0)
        if self.fail_publish is not None:
            raise self.fail_publish
        self.published += answers
        self.events.append("published")

    async def commit_offsets(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        await asyncio.sleep(0)
        if self.fail_commit is not None:
            raise self.fail_commit
        if any(mark.offset != self.offsets.get(partition, 0) for partition, mark in marks.items()):
            self.events.append("committed")  # not so what a claim does, which tells its epoch
        for partition, mark in marks.items():
            self.keep(partition, mark)

    def keep(self, partition: Partition, mark: CommittedOffset) -> None:
        self.offsets[partition], self.epochs[partition], self.histories[partition] = mark

    async def confirm_membership(self) -> None:
        """Whoever uses this log itself, and no `Member` of it, is the only member."""
        await asyncio.sleep(0)

    async def committed(self, partition: Partition) -> CommittedOffset | None:
        if partition not in self.offsets:
            return None
        history = self.histories.get(partition, History())
        return CommittedOffset(self.offsets[partition], self.epochs.get(partition, 0), history)

    async def describe_log(self, partition: Partition, leader_epoch: int) -> Log:
        """As Apache Kafka answers: where the first epoch behind the asked one begins; the log's end if none does."""
        begin, end = self.begins.get(partition, 0), len(self.logs.get(partition, ()))
        starts = self.leaders.setdefault(partition, {0: 0})
        if leader_epoch not in range(max(starts) + 1):
            return Log(begin, end, self.topic_id)
        kept = min((start for epoch, start in starts.items() if epoch > leader_epoch), default=end)
        known = max(epoch for epoch in starts if epoch <= leader_epoch)
        return Log(begin, end, self.topic_id, kept, known, max(starts))

    async def first_offset(self, partition: Partition) -> int:
        return self.begins.get(partition, 0)

    def rejoin(self) -> None:
        self.rejoins += 1

    def leader_epoch(self, partition: Partition) -> int:
        return max(self.leaders.setdefault(partition, {0: 0}))

    def elect(self, partition: Partition, *, end: int | None = None) -> None:
        """Another broker leads; its log may be shorter."""
        log = self.logs[partition]
        del log[len(log) if end is None else end :]
        starts = self.leaders.setdefault(partition, {0: 0})
        newest = max(starts) + 1
        self.leaders[partition] = {**{epoch: at for epoch, at in starts.items() if at <= len(log)}, newest: len(log)}

    def make_anew(self, partition: Partition, topic_id: str) -> None:
        """The topic is deleted, and with it what groups have committed, and made again."""
        self.logs[partition], self.leaders[partition], self.topic_id = [], {0: 0}, topic_id
        self.offsets.pop(partition, None)

    def pause(self, partition: Partition) -> None:
        self.paused.add(partition)

    def resume(self, partition: Partition) -> None:
        self.paused.discard(partition)

    async def reread(self, partition: Partition, start: int, end: int) -> AsyncIterator[Records]:
        for at in range(start, end, 2):
            yield Records.of(self.logs[partition][at : min(at + 2, end)])

    @property
    def answered(self) -> list[int]:
        """Input offsets of the forecasts, as published."""
        return [one.src.offset for one in self.published if one.topic == SETTINGS.topics.forecasts]

    def forecasts(self, partition: Partition = P0) -> dict[int, Forecast]:
        """The forecasts of a partition's records, by the offset that each answers. Of several the last one."""
        found = [loads_forecast(one.value or b"") for one in self.published if one.topic == SETTINGS.topics.forecasts]
        return {one.src.offset: one for one in found if one.src.partition == partition[1]}

    def numbers(self, offsets: Iterable[int]) -> list[object]:
        """All that subscribers read in the forecasts of these records of P0, but for the times that answering took."""
        found = map(self.forecasts().__getitem__, offsets)
        return [(f.forecast_id, f.window, f.status, f.cache, f.next, f.horizons) for f in found]

    def windows(self, *offsets: int) -> list[int]:
        """How many fixes of their entities the forecasts of these records of P0 had seen."""
        found = self.forecasts()
        return [found[offset].window.n for offset in offsets]


class Member:
    """One worker's consumer. It shares the log and the offsets with the others; it is a member of the generation that
    was current when it was made, and of no later one."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._generation = kafka.generation

    async def confirm_membership(self) -> None:
        await asyncio.sleep(0)
        if self._generation != self._kafka.generation:
            raise Rebalanced(f"generation {self._generation} is over")

    async def commit_offsets(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        await self.confirm_membership()
        await self._kafka.commit_offsets(marks)

    def __getattr__(self, name: str) -> Any:
        """All else is the log's own."""
        return getattr(self._kafka, name)


class FlakyStore(MemoryStore):
    """A store that is away as often as it is told, or for as long as it is told of some partitions: there `hung` calls
    are answered only when they are let go, and `refused` ones raise."""

    def __init__(self) -> None:
        super().__init__()
        self.reads_to_fail = 0
        self.writes_to_fail = 0
        self.refused: set[tuple[str, Partition]] = set()  # by the name of the method
        self.hung: dict[tuple[str, Partition], asyncio.Event] = {}

    async def _pass(self, method: str, partition: Partition) -> None:
        if (method, partition) in self.hung:
            await self.hung[method, partition].wait()
        if (method, partition) in self.refused:
            raise ConnectionError("WRONGTYPE")

    async def claim(self, partition: Partition, *, floor: int = 0) -> Claim:
        await self._pass("claim", partition)
        return await super().claim(partition, floor=floor)

    async def forget(self, partition: Partition, epoch: int) -> None:
        await self._pass("forget", partition)
        await super().forget(partition, epoch)

    async def get_many(self, partition: Partition, entity_ids: Sequence[str]) -> list[bytes | None]:
        await self._pass("get_many", partition)
        if self.reads_to_fail:
            self.reads_to_fail -= 1
            raise ConnectionError("Redis at secret.example is away")
        return await super().get_many(partition, entity_ids)

    async def put_many(
        self, partition: Partition, epoch: int, next_offset: int | None, items: Mapping[str, bytes]
    ) -> list[str]:
        await self._pass("put_many", partition)
        if self.writes_to_fail:
            self.writes_to_fail -= 1
            raise ConnectionError("Redis at secret.example is away")
        return await super().put_many(partition, epoch, next_offset, items)

    def checkpoint(self, partition: Partition) -> Claim:
        return self._claims.get(partition, Claim(0, None))


class SlowStore(FlakyStore):
    """A store that takes a checkpoint only when it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.takes = asyncio.Event()

    async def put_many(
        self, partition: Partition, epoch: int, next_offset: int | None, items: Mapping[str, bytes]
    ) -> list[str]:
        self.asked += 1
        await self.takes.wait()
        return await super().put_many(partition, epoch, next_offset, items)


def worker(kafka: Kafka, store: MemoryStore, settings: Settings = SETTINGS) -> Delivery:
    return Delivery(
        settings, Engine(Predictor.untrained(capacity=8), store, settings), store, AtLeastOnce(kafka, kafka), kafka
    )


@asynccontextmanager
async def running(delivery: Delivery, *partitions: Partition) -> AsyncIterator[asyncio.Task[None]]:
    delivery.ownership.assign(partitions)
    pump = asyncio.create_task(delivery.run())
    try:
        yield pump
    finally:
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)


@asynccontextmanager
async def live_worker(
    kafka: Kafka, store: MemoryStore, *partitions: Partition, settings: Settings = SETTINGS
) -> AsyncIterator[Delivery]:
    """Runs a new worker on these partitions: on P0 if none is named."""
    delivery = worker(kafka, store, settings)
    async with running(delivery, *(partitions or (P0,))):
        yield delivery


@asynccontextmanager
async def mortal_worker(
    kafka: Kafka, store: MemoryStore, *partitions: Partition, settings: Settings = SETTINGS
) -> AsyncIterator[Delivery]:
    """Runs a new worker like `live_worker`, and kills it in the end."""
    delivery = worker(kafka, store, settings)
    async with running(delivery, *(partitions or (P0,))) as pump:
        yield delivery
        await crash(delivery, pump)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(600):  # the first batch of a process loads every kernel, or compiles it
        while not true():  # noqa: ASYNC110 - the condition is somebody else's state, there is no event to wait for
            await asyncio.sleep(0.001)


async def feed(delivery: Delivery, kafka: Kafka, some: Sequence[Record]) -> list[Record]:
    """Hand one poll over; the list fills when it is retired."""
    retired: list[Record] = []
    partition = (some[0].topic, some[0].partition)
    log = kafka.logs.setdefault(partition, [])
    log.extend(some[len(log) - some[0].offset :])
    polled = replace(Records.of(some), leader_epoch=kafka.leader_epoch(partition))
    await delivery.put({partition: polled}, 0.0, lambda: retired.extend(some))
    return retired


async def answer(delivery: Delivery, kafka: Kafka, some: Sequence[Record]) -> None:
    """Hands one poll over, and waits until it is retired."""
    retired = await feed(delivery, kafka, some)
    await until(lambda: len(retired) == len(some))


async def settle(delivery: Delivery, kafka: Kafka, store: FlakyStore, some: Sequence[Record]) -> None:
    """Hands one poll over, and waits until it is answered and in a checkpoint."""
    await answer(delivery, kafka, some)
    await until(lambda: store.checkpoint((some[0].topic, some[0].partition)).next_offset == some[-1].offset + 1)


async def answer_undisturbed(some: Sequence[Record]) -> tuple[Kafka, FlakyStore]:
    """What a worker to which nothing happens makes of these records."""
    kafka, store = Kafka(), FlakyStore()
    async with live_worker(kafka, store) as calm:
        await settle(calm, kafka, store, some)
    return kafka, store


async def crash(delivery: Delivery, pump: asyncio.Task[None]) -> None:
    """As kill -9: no drain, no checkpoint."""
    pump.cancel()
    await asyncio.gather(pump, return_exceptions=True)
    delivery.abandon()
