"""Delivery on its own: the engine, its model and the store are the real ones. Kafka is a log in memory that can refuse,
and that writes down what happened in which order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from model.api import Predictor
from stream.delivery import Delivery
from stream.engine import Engine
from stream.guarantees import AtLeastOnce
from stream.intake import Records
from stream.pages import Answers
from stream.settings import Settings
from stream.source import Bounds, Mark, Partition
from stream.store import Claim, MemoryStore
from stream.wire import Outgoing, Ping, Record, dumps

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
        self.offsets: dict[Partition, int] = {}
        self.epochs: dict[Partition, int] = {}
        self.published: list[Outgoing] = []
        self.paused: set[Partition] = set()
        self.fail_publish: Exception | None = None
        self.fail_commit: Exception | None = None

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def publish(self, answers: Answers) -> None:
        await asyncio.sleep(0)
        if self.fail_publish is not None:
            raise self.fail_publish
        self.published += answers
        self.events.append("published")

    async def commit_offsets(self, marks: Mapping[Partition, Mark]) -> None:
        await asyncio.sleep(0)
        if self.fail_commit is not None:
            raise self.fail_commit
        if any(mark.offset != self.offsets.get(partition, 0) for partition, mark in marks.items()):
            self.events.append("committed")  # not so what a claim does, which tells its epoch
        for partition, mark in marks.items():
            self.offsets[partition], self.epochs[partition] = mark

    async def committed(self, partition: Partition) -> Mark | None:
        if partition not in self.offsets:
            return None
        return Mark(self.offsets[partition], self.epochs.get(partition, 0))

    async def bounds(self, partition: Partition) -> Bounds:
        return Bounds(0, len(self.logs.get(partition, ())))

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
            raise ConnectionError("Redis is away")
        return await super().get_many(partition, entity_ids)

    async def put_many(
        self, partition: Partition, epoch: int, next_offset: int | None, items: Mapping[str, bytes]
    ) -> list[str]:
        await self._pass("put_many", partition)
        if self.writes_to_fail:
            self.writes_to_fail -= 1
            raise ConnectionError("Redis is away")
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
    delivery.assigned(partitions)
    pump = asyncio.create_task(delivery.run())
    try:
        yield pump
    finally:
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - the condition is somebody else's state, there is no event to wait for
            await asyncio.sleep(0.001)


async def feed(delivery: Delivery, kafka: Kafka, some: Sequence[Record]) -> list[Record]:
    """Hand one poll over; the list fills when it is retired."""
    retired: list[Record] = []
    partition = (some[0].topic, some[0].partition)
    log = kafka.logs.setdefault(partition, [])
    log.extend(some[len(log) - some[0].offset :])
    await delivery.put({partition: Records.of(some)}, 0.0, lambda: retired.extend(some))
    return retired


async def crash(delivery: Delivery, pump: asyncio.Task[None]) -> None:
    """As kill -9: no drain, no checkpoint."""
    pump.cancel()
    await asyncio.gather(pump, return_exceptions=True)
    delivery.abandon()
