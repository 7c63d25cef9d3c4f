"""A worker of the simulation: `stream.delivery` and all below it, unchanged, and what Faust does around it in short.

What is left out are Faust's threads and most of its buffers. What stays are our driver's own polls and seeks, and the
order by which records could be lost: a drain before partitions are given away, an assignment before the positions go
back to the committed offsets, and messages that Faust drops, of an older generation or of a partition that went back.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final, TypeVar

import aiokafka
from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from faulty import FaultyFold, Raised
from networks import load_network, make_predictor

from model.api import Predictor
from stream.config import failpoints
from stream.config.settings import FETCH_BYTES, DeliveryGuarantee, Settings
from stream.delivery.delivery import Delivery
from stream.delivery.guarantees import AtLeastOnce, ExactlyOnce
from stream.delivery.partitions import Guarantee
from stream.engine.engine import Engine
from stream.kafka import fetcher, pacing
from stream.kafka.log import Partition
from stream.kafka.patches import patch_aiokafka
from stream.kafka.producer import Publisher
from stream.kafka.reading import INPUT_ISOLATION, reread
from stream.store.base import Claim
from stream.store.redis_store import RedisStore
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.loading import Loader
from stream.versions.networks import Networks
from stream.versions.serving import Versions
from stream.worker import faust_driver
from stream.worker.consumer_thread import ConsumerThread
from stream.worker.partition_counts import rejoin_when_changed
from stream.worker.versions import announcements, atlases_of

T = TypeVar("T")

POLL_S: Final = 1.0
POLLS_WAITING: Final = 2  # as in stream.worker.app
FETCH_MAX_WAIT_MS: Final = 300  # longer than a worker's, so that a world where nothing happens costs little


class FaultyDevice(FaultyFold):
    """Raises as a device does that fails: an OSError, which must not look like a server that is away."""

    def answer(self, *args: Any, **kwargs: Any) -> Any:
        with _as_os_error():
            return super().answer(*args, **kwargs)

    def catch_up(self, *args: Any, **kwargs: Any) -> None:
        with _as_os_error():
            super().catch_up(*args, **kwargs)

    def rebuild(self, *args: Any, **kwargs: Any) -> None:
        with _as_os_error():
            super().rebuild(*args, **kwargs)


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except Raised as error:
        raise OSError(str(error)) from error


STEP_FAULTS: Final[Sequence[type[Predictor]]] = (FaultyFold, FaultyDevice)


BegunAnew = set[tuple[int, str]]  # partitions and entities whose states were evicted again within a minute


class WatchedStore(RedisStore):
    """The store, with a point at which a world may stop a worker. It notes which entities start anew by promise."""

    def __init__(self, settings: Settings, begun_anew: BegunAnew) -> None:
        super().__init__(settings)
        self._begun_anew = begun_anew

    async def claim(self, partition: Partition, *, floor: int = 0) -> Claim:
        failpoints.reach("before_claim")
        await asyncio.sleep(0)  # whoever is paused stands still here, and has sent nothing
        return await super().claim(partition, floor=floor)

    async def unlist(
        self, partition: Partition, epoch: int, entity_ids: Sequence[str], next_offset: int | None = None
    ) -> None:
        if next_offset is None:  # before it is done, as the answer may be lost
            self._begun_anew.update((partition[1], one) for one in entity_ids)
        await super().unlist(partition, epoch, entity_ids, next_offset)


class WorkerInput(faust_driver.Consumer):
    """The worker's own input, above aiokafka's consumer, without the thread between them."""

    should_stop = False

    def __init__(self, kafka: aiokafka.AIOKafkaConsumer, servers: Sequence[str]) -> None:
        self._consumer = kafka
        self._servers = servers
        self.app = SimpleNamespace(consumer_generation_id=-1)
        self._thread = SimpleNamespace(thread_loop=asyncio.get_running_loop(), _ensure_consumer=lambda: kafka)
        self.log = self.logger
        self._flow = asyncio.Event()
        self._buffered_partitions: set[Any] = set()
        self._read_offset: dict[Any, int | None] = defaultdict(lambda: None)
        self._committed_offset: dict[Any, int | None] = {}
        self.confirmed = 0  # how often the group has said that our assignment holds

    # -- what Faust's consumer does

    @property
    def flow_active(self) -> bool:
        return self._flow.is_set()

    def stop_flow(self) -> None:
        self._flow.clear()

    def resume_flow(self) -> None:
        self._flow.set()

    async def _wait_next_records(self, timeout: float) -> tuple[Mapping[Any, Any], None]:  # noqa: ASYNC109 - Faust's
        await self._flow.wait()
        return await self._consumer.getmany(timeout_ms=int(timeout * 1000)), None

    async def seek_to_committed(self) -> Mapping[Any, int]:
        return await ConsumerThread._rewind(self._thread)

    async def confirm_membership(self) -> None:
        await super().confirm_membership()
        self.confirmed += 1

    @property
    def _kafka(self) -> aiokafka.AIOKafkaConsumer:
        return self._consumer

    async def _inside(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.get_running_loop().create_task(work)

    def reread(self, partition: Partition, start: int, end: int) -> Any:
        return reread(self._servers, partition, start, end)


class SimulatedWorker(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One process. `run` lasts until it fails or is stopped."""

    def __init__(self, settings: Settings, predictor: type[Predictor], begun_anew: BegunAnew) -> None:
        """Takes `predictor`, whose steps raise at some pings, and where to note which entities start anew."""
        self.settings = settings
        self._begun_anew = begun_anew
        self.stopping = asyncio.Event()
        self._predictor = predictor
        self._polls: asyncio.Queue[Any] = asyncio.Queue(POLLS_WAITING)  # Faust's messages

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
        self.store = WatchedStore(settings, self._begun_anew)
        own = make_predictor(self._predictor)
        self.engine = Engine(own, self.store, settings)
        self.versions = None if heard is None else self._versions(heard, own)
        self.delivery = Delivery(
            *(settings, self.engine, self.store, self._guarantee(servers), self.input), versions=self.versions
        )

    def _versions(self, heard: AnnouncementReader, own: Predictor) -> Versions:
        settings, pings, networks = self.settings, self.settings.topics.pings, None
        if settings.registry is not None:
            loader = Loader[Predictor]("weights", lambda asked: self._load(asked, own.version), {own.version: own})
            networks = Networks(heard, loader, own.version)
        atlases = None if settings.atlases is None else atlases_of(heard, settings.atlases)

        def log_end(number: int) -> int | None:
            return self.input.log_end((pings, number))

        return Versions(heard, atlases, networks, hold_s=settings.lead_s / 2, log_end=log_end)

    def _load(self, asked: str, own: str) -> Predictor:
        return make_predictor(self._predictor) if asked == own else load_network(asked, self._predictor)

    def _guarantee(self, servers: Sequence[str]) -> Guarantee:
        bootstrap = ",".join(servers)
        if self.settings.delivery is DeliveryGuarantee.EXACTLY_ONCE:

            def make(name: str) -> Publisher:
                failpoints.reach("before_fence")
                return Publisher(bootstrap, name)

            return ExactlyOnce(self.settings.group, self.input, make)
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
        patch_aiokafka()  # as `stream.worker.consumer_thread` does: else what a world reads depends on those before it
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
        self.input.stop_flow()
        await self.delivery.ownership.drain()
        await self.delivery.ownership.revoke([(tp.topic, tp.partition) for tp in revoked])

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self.input.app.consumer_generation_id = self.kafka._coordinator.generation
        self.engine.placement.partitions = self.input.partitions_of(self.settings.topics.pings)
        failpoints.reach("assigned")
        self.delivery.ownership.assign({(tp.topic, tp.partition) for tp in assigned})
        if assigned:
            await self.input.perform_seek()
        self.input.resume_flow()

    async def _poll(self) -> None:
        """Reads as Faust's fetcher does, which drops a message of a partition that went back."""
        read_offset = self.input._read_offset
        while True:
            async for tp, message in self.input.getmany(POLL_S):
                before = read_offset[tp]
                if before is None or message.offset >= before:
                    await self._polls.put(message)
                    read_offset[tp] = message.offset
            await asyncio.sleep(0)

    async def _put(self) -> None:
        while True:
            message = await self._polls.get()
            if message.generation_id == self.input.app.consumer_generation_id:  # else Faust's stream drops the message
                await self.delivery.put(message.value.take(), message.value.fetched_ms, _retire)


def _retire() -> None:
    """Does nothing: an acknowledged message leaves Faust's own lists alone."""
