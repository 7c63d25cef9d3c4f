"""Starts the parts of `pathcast serve`, and stops them.

    reach (Redis, Kafka) -> weights -> follow the forecasts -> listen -> ... a signal -> end the streams -> stop

The weights are in memory twice: for answers from states, and for tracks, each with a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from model.api import Predictor
from model.jit import compiling
from stream.api.asking.asker import Asker
from stream.api.asking.atlases import Atlases
from stream.api.asking.networks import CAPACITY, Networks
from stream.api.asking.states import States
from stream.api.asking.tracks import Tracks
from stream.api.handlers import Handlers
from stream.api.http.application import Gate, application
from stream.api.http.tickets import Tickets
from stream.api.live.following import Following
from stream.api.live.newest import Newest
from stream.api.live.open_streams import OpenStreams
from stream.api.live.topics import now_ms
from stream.api.metrics import Metrics
from stream.api.running import run_parts
from stream.config.http_access import SERVE_TOKEN, Address
from stream.config.security import Refused, kafka_refusal, redis_refusal, shown
from stream.config.settings import Settings
from stream.config.traces import NO_TRACES, Traces
from stream.http.access import Access
from stream.http.connections import Connections
from stream.http.limits import Buckets
from stream.http.server import Listening
from stream.kafka import admin
from stream.kafka.reading import reader
from stream.store.redis_store import RedisStore
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.fetching import fetched

if TYPE_CHECKING:
    from stream.tracing.requests import RequestTracer

log = logging.getLogger(__name__)

SERVICE: Final = "pathcast-serve"  # in traces
ISOLATION: Final = "read_committed"  # forecasts of an aborted transaction never were any
READY_S: Final = 1.0  # for which an answer of Redis counts: anybody may ask whether we are ready
ANSWER_S: Final = 2.0
REACH_S: Final = 8.0  # a Redis that has not answered by then counts as unreachable
RETRY_S: Final = 0.5


@dataclass(frozen=True)
class Serving:
    """The settings of `pathcast serve`, beside those that it shares with a worker (`settings`)."""

    settings: Settings
    address: Address
    token: str | None = None
    origins: tuple[str, ...] = ()
    rate_per_s: float = 50.0  # requests of one client
    burst: float = 100.0
    behind_proxy: bool = False
    most_connections: int = 1_024
    most_streams: int = 200
    most_entities: int = 100_000  # in memory, at some 1.3 KB each
    keep_s: float = 3_600.0  # in memory, after the last forecast; a session ends as soon
    stale_s: float = 3_600.0
    registry_cache: Path | None = None
    traces: Traces = NO_TRACES


class Service:
    """The parts, once they are there."""

    def __init__(
        self,
        how: Serving,
        networks: tuple[Predictor, Predictor],
        store: RedisStore,
        consumer: Any,
        announcements: AnnouncementReader | None,
        inputs: int,
        tracer: RequestTracer | None = None,
    ) -> None:
        """Takes two networks of the same weights, a started consumer, how many partitions the pings topic has, and what
        traces requests, if they are."""
        settings, keep_ms = how.settings, int(how.keep_s * 1000)
        self._store = store
        self._checked: tuple[float, list[str]] = (-READY_S, [])
        self.newest = Newest(how.most_entities, keep_ms)
        refusal = partial(kafka_refusal, settings.bootstrap, settings.kafka)
        self.following = Following(consumer, settings.topics, self.newest, keep_ms, inputs, refusal)
        states = States(store, settings.topics.pings, lambda: self.following.inputs, self.newest.partition)
        load = None
        if settings.registry is not None:
            load = partial(_fetched, settings.registry, how.registry_cache)
        kept = Networks(networks[0], load)
        self._atlases = None
        if announcements is not None and settings.atlases is not None:
            self._atlases = Atlases(announcements, settings.atlases)
        self.asker = Asker(
            states,
            kept,
            self._atlases,
            is_heard=lambda entity_id: self.newest.row(entity_id) is not None,
            stale_ms=how.stale_s * 1000,
            clock_ms=now_ms,
        )
        self.tracks = Tracks(networks[1])
        metrics, connections, tickets = Metrics(), Connections(how.most_connections), Tickets()
        access, buckets = Access(how.token, how.origins), Buckets(how.rate_per_s, how.burst)
        gate = Gate(access, buckets, how.behind_proxy, connections, metrics, tickets, tracer)
        self.handlers = Handlers(
            self.asker,
            self.tracks,
            self.newest,
            metrics,
            self.reasons,
            tickets=tickets,
            server_id=secrets.token_hex(4),
            streams=OpenStreams(how.most_streams, metrics, gate.client),
        )
        self.listening = Listening(application(self.handlers.by_operation, gate), connections)
        metrics.watch(
            {
                "entities": lambda: len(self.newest),
                "lag_records": lambda: self.following.lag,
                "caught_up": lambda: self.following.caught_up,
                "questions_waiting": lambda: self.asker.waiting,
                "tracks_waiting": lambda: self.tracks.waiting,
                "connections": lambda: self.listening.connections,
                "networks": lambda: len(kept.versions),
                "batches": lambda: self.asker.batches,
                "store_failures": lambda: states.failures,
                "kafka_failures": lambda: self.following.failures,
                "records": lambda: self.following.records,
                "records_refused": lambda: self.newest.refused,
                "entities_crowded_out": lambda: self.newest.crowded_out,
                "connections_closed": lambda: connections.closed,
            }
        )

    async def reasons(self) -> list[str]:
        """Returns why it cannot answer now: for anybody, so it names no address and no entity."""
        then_s, found = self._checked
        if time.monotonic() - then_s >= READY_S:
            found = await self._away()
            self._checked = time.monotonic(), found
        own = [] if self.following.caught_up else ["the forecasts are not read up to now"]
        return own + found

    async def _away(self) -> list[str]:
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._store.peek(("", 0))
        except (RedisError, OSError, TimeoutError, Refused):
            return ["Redis is away"]
        return []

    async def run(self, stopping: asyncio.Event) -> None:
        """Works until `stopping` is set. Raises what ends a part: none should end."""
        parts = [self.following.run(), self.asker.run()]
        if self._atlases is not None:
            parts.append(self._atlases.run())
        await run_parts(parts, stopping)

    async def stop(self) -> None:
        await self.handlers.close()
        await self.listening.stop()
        self.tracks.close()
        self.asker.thread.shutdown(wait=False, cancel_futures=True)


async def serve(how: Serving, stopped_by: Sequence[int]) -> None:
    """Serves until one of these signals comes.

    Raises ConnectionError if Redis or Kafka does not answer, ValueError if there is no pings topic or a setting is
    wrong, WeightsError, Refused, OSError if the address cannot be used, ModuleNotFoundError for traces without the
    extra `otel`.
    """
    settings = how.settings
    if how.token is None and not how.address.loopback:
        log.warning("anybody who reaches %s may ask where everybody is: %s is not set", how.address, SERVE_TOKEN)
    stopping = asyncio.Event()
    for number in stopped_by:
        signal.signal(number, signal.SIG_DFL)  # nothing is held yet, and a thread that compiles cannot be stopped
    async with AsyncExitStack() as stack:
        tracer = None
        if how.traces.share:
            from stream.tracing.requests import RequestTracer
            from stream.tracing.spans import open_sender

            tracer = RequestTracer(how.traces.share, open_sender(how.traces, SERVICE))
            stack.callback(tracer.sender.close)
        store = RedisStore(settings)
        stack.push_async_callback(store.close)
        await _reach(store, settings)
        inputs = await asyncio.to_thread(_partitions, settings)
        networks = await asyncio.to_thread(_loaded, settings.weights)
        for number in stopped_by:
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        try:
            servers, access = settings.bootstrap.split(","), settings.kafka.arguments()
            consumer = await stack.enter_async_context(reader(servers, access, ISOLATION))
            announcements = None
            if settings.atlases is not None:
                opened = AnnouncementReader.opened(settings.bootstrap, settings.topics, settings.kafka)
                announcements = await stack.enter_async_context(opened)
            service = Service(how, networks, store, consumer, announcements, inputs, tracer)
            stack.push_async_callback(service.stop)
            address = await service.listening.start(how.address)
            log.info("listening at http://%s, as process %d, weights %s", address, os.getpid(), networks[0].version)
            await service.run(stopping)
        except KafkaError as error:
            refusal = kafka_refusal(settings.bootstrap, settings.kafka, error)
            raise refusal or ConnectionError(f"Kafka at {settings.bootstrap} failed: {error!r}") from error


async def _reach(store: RedisStore, settings: Settings) -> None:
    """Returns when Redis answers. Raises ConnectionError if it does not within REACH_S, Refused if it denies access."""
    deadline_s = time.monotonic() + REACH_S
    while True:
        try:
            await store.peek((settings.topics.pings, 0))
            return
        except (RedisError, OSError) as error:
            if (refusal := redis_refusal(settings.redis_url, error)) is not None:
                raise refusal from error
            if time.monotonic() >= deadline_s:
                where = shown(settings.redis_url)
                message = (
                    f"no Redis answers at {where} ({error}): is it running, and is --redis (PATHCAST_REDIS) right?"
                )
                raise ConnectionError(message) from error
        await asyncio.sleep(RETRY_S)


def _partitions(settings: Settings) -> int:
    """Returns how many partitions the pings topic has. Raises as `admin.connected` and `admin.partitions_of`."""
    with admin.connected(settings.bootstrap, settings.kafka) as client:
        admin.partitions_of(client, settings.topics.forecasts)
        return admin.partitions_of(client, settings.topics.pings)


def _loaded(weights: str) -> tuple[Predictor, Predictor]:
    """Loads the weights twice, and compiles all that answers need, so that the first question waits for nothing."""
    log.info("loading weights %s", weights)
    with compiling(lambda progress: log.info("%s", progress)):
        first, second = (Predictor.load(weights, capacity=CAPACITY) for _ in range(2))
        first.warm_atlas()
    return first, second


def _fetched(registry: str, cache: Path | None, version: str) -> Predictor:
    return fetched(registry, version, CAPACITY, cache)
