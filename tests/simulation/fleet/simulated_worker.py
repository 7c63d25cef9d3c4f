"""A worker of the simulation: `stream.delivery` and all below it, unchanged, and what Faust does around it in short.

What is left out are Faust's threads and its buffers; what stays is their order, by which records could be lost: a drain
before partitions are given away, an assignment before the positions go back to the committed offsets, and messages of
an older generation that are dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final, TypeVar

import aiokafka
from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from faulty import FaultyFold
from networks import TINY, load_network

from model.api import Predictor
from stream.config.settings import FETCH_BYTES, DeliveryGuarantee, Settings
from stream.delivery.delivery import Delivery
from stream.delivery.guarantees import AtLeastOnce, ExactlyOnce
from stream.delivery.partitions import Guarantee
from stream.engine.engine import Engine
from stream.kafka import fetcher, pacing
from stream.kafka.log import Partition
from stream.kafka.producer import Publisher
from stream.kafka.reading import INPUT_ISOLATION, reread
from stream.store.redis_store import RedisStore
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.loading import Loader
from stream.versions.networks import Networks
from stream.versions.serving import Versions
from stream.worker import faust_driver
from stream.worker.partition_counts import rejoin_when_changed
from stream.worker.versions import announcements

T = TypeVar("T")

POLL_S: Final = 1.0
POLLS_WAITING: Final = 2  # as in stream.worker.app
FETCH_MAX_WAIT_MS: Final = 300  # longer than a worker's, so that a world where nothing happens costs little


def make_predictor(kind: type[Predictor] = Predictor) -> Predictor:
    """Returns a predictor whose states depend on every fix and on their order, and whose steps take some 0.3 ms."""
    return kind.untrained(TINY, capacity=8)


class WorkerInput(faust_driver.Consumer):
    """The worker's own input, above aiokafka's consumer, without the thread between them."""

    def __init__(self, kafka: aiokafka.AIOKafkaConsumer, servers: Sequence[str]) -> None:
        self._consumer = kafka
        self._servers = servers
        self.app = SimpleNamespace(consumer_generation_id=-1)
        self._thread = SimpleNamespace(thread_loop=asyncio.get_running_loop())

    @property
    def _kafka(self) -> aiokafka.AIOKafkaConsumer:
        return self._consumer

    async def _inside(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.get_running_loop().create_task(work)

    def reread(self, partition: Partition, start: int, end: int) -> Any:
        return reread(self._servers, partition, start, end)


class SimulatedWorker(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One process. `run` lasts until it fails or is stopped."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopping = asyncio.Event()
        self._flows = False
        self._polls: asyncio.Queue[tuple[int, Mapping[Any, Any], float]] = asyncio.Queue(POLLS_WAITING)

    def _build(self, heard: AnnouncementReader | None) -> None:
        settings, servers = self.settings, self.settings.bootstrap.split(",")
        self.kafka = aiokafka.AIOKafkaConsumer(
            group_id=settings.group,
            group_instance_id=settings.instance or None,
            bootstrap_servers=servers,
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=settings.max_batch,
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            session_timeout_ms=int(settings.session_timeout_s * 1000),
            rebalance_timeout_ms=60_000,
            heartbeat_interval_ms=int(min(settings.session_timeout_s / 5, 3.0) * 1000),
            max_poll_interval_ms=1_000_000,
            metadata_max_age_ms=10_000,
            isolation_level=INPUT_ISOLATION,
            key_deserializer=fetcher.COLUMNS,
        )
        self.input = WorkerInput(self.kafka, servers)
        self.store = RedisStore(settings)
        own = make_predictor(FaultyFold)
        self.engine = Engine(own, self.store, settings)
        self.versions = None if heard is None else self._versions(heard, own)
        self.delivery = Delivery(
            *(settings, self.engine, self.store, self._guarantee(servers), self.input), versions=self.versions
        )

    def _versions(self, heard: AnnouncementReader, own: Predictor) -> Versions:
        loader: Loader[Predictor] = Loader("weights", lambda asked: self._load(asked, own.version), {own.version: own})
        networks, pings = Networks(heard, loader, own.version), self.settings.topics.pings

        def log_end(number: int) -> int | None:
            return self.input.log_end((pings, number))

        return Versions(heard, None, networks, hold_s=self.settings.lead_s / 2, log_end=log_end)

    def _load(self, asked: str, own: str) -> Predictor:
        return make_predictor(FaultyFold) if asked == own else load_network(asked, FaultyFold)

    def _guarantee(self, servers: Sequence[str]) -> Guarantee:
        bootstrap = ",".join(servers)
        if self.settings.delivery is DeliveryGuarantee.EXACTLY_ONCE:
            return ExactlyOnce(self.settings.group, self.input, lambda name: Publisher(bootstrap, name))
        return AtLeastOnce(Publisher(bootstrap), self.input)

    async def run(self) -> None:
        """Works until `stopping` is set, then drains, checkpoints and leaves. Raises what a worker ends with."""
        async with announcements(self.settings) as heard:
            self._build(heard)
            if self.versions is not None:
                await self.versions.ready()
            await self._work()

    async def _work(self) -> None:
        await self.delivery.start()
        await self.kafka.start()
        pacing.Pace(self.kafka._fetcher)
        self.kafka.subscribe([self.settings.topics.pings], listener=self)
        watch = rejoin_when_changed(
            *(self.input, self.settings.topics.pings, lambda: self.engine.placement.partitions),
            lambda: bool(self.settings.instance) and not self.delivery.ownership.owned,
        )
        asks = [] if self.versions is None else [self.versions.run()]
        lives = [asyncio.create_task(work) for work in (self.delivery.run(), self._poll(), self._put(), watch, *asks)]
        stop = asyncio.create_task(self.stopping.wait())
        done, _ = await asyncio.wait([*lives, stop], return_when=asyncio.FIRST_COMPLETED)
        failed = next((error for one in done if one is not stop and (error := one.exception()) is not None), None)
        if failed is not None:
            lives[0].cancel()
            self.delivery.abandon()
        else:
            await self.delivery.ownership.drain()
            await self.delivery.ownership.revoke(list(self.delivery.ownership.owned))
        for one in lives:
            one.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        await self.kafka.stop()
        await self.delivery.close()
        if failed is not None:
            raise failed

    # -- what Faust does

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self._flows = False
        await self.delivery.ownership.drain()
        await self.delivery.ownership.revoke([(tp.topic, tp.partition) for tp in revoked])

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self.input.app.consumer_generation_id = self.kafka._coordinator.generation
        self.engine.placement.partitions = self.input.partitions_of(self.settings.topics.pings)
        self.delivery.ownership.assign({(tp.topic, tp.partition) for tp in assigned})
        committed = await self.kafka.seek_to_committed() if assigned else {}
        for tp, offset in committed.items():
            if not offset and tp in self.kafka.assignment():
                self.kafka.seek(tp, 0)
        self._flows = True

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._flows:
                await asyncio.sleep(0.05)
                continue
            polled = await self.kafka.getmany(timeout_ms=int(POLL_S * 1000))
            found = {(tp.topic, tp.partition): records for tp, records in polled.items() if records}
            if found and self._flows:
                await self._polls.put((self.input.app.consumer_generation_id, found, loop.time() * 1000))

    async def _put(self) -> None:
        while True:
            generation, polled, _ = await self._polls.get()
            if generation == self.input.app.consumer_generation_id:  # else Faust's stream drops the message
                await self.delivery.put(polled, time.time() * 1000, _retire)


def _retire() -> None:
    """Does nothing: an acknowledged message leaves Faust's own lists alone."""
