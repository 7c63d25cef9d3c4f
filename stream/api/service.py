"""The API, put together: answers from stored states and from tracks, and the table of newest forecasts.

The weights are in memory twice: for answers from states, and for tracks, each with a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from redis.exceptions import RedisError

from model.api import Predictor
from model.jit import compiling
from stream.api.answers.atlases import Atlases
from stream.api.answers.networks import CAPACITY, Networks
from stream.api.answers.questions import Questions
from stream.api.answers.states import States
from stream.api.answers.tracks import Tracks
from stream.api.handlers import Handlers
from stream.api.http.server import Server
from stream.api.http.tickets import Tickets
from stream.api.live.newest import Newest, Published
from stream.api.live.topics import Source, TopicFollower, now_ms
from stream.api.metrics import Metrics
from stream.api.options import ApiOptions
from stream.api.trips.pages import Feeds
from stream.api.trips.table import TripTable
from stream.config.security import Refused, redis_refusal, shown
from stream.config.settings import Settings
from stream.http.access import Access
from stream.kafka import admin
from stream.kafka.records.record_columns import Records
from stream.store.redis_store import RedisStore
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.fetching import fetch_weights

if TYPE_CHECKING:
    from stream.tracing.requests import RequestTracer

log = logging.getLogger(__name__)

SERVICE: Final = "pathcast-serve"  # in traces
READY_S: Final = 1.0  # for which an answer of Redis counts: anybody may ask whether we are ready
ANSWER_S: Final = 2.0
REACH_S: Final = 8.0  # a Redis that has not answered by then counts as unreachable
RETRY_S: Final = 0.5


class Loaded(NamedTuple):
    """The servers and weights that answers need."""

    store: RedisStore
    networks: tuple[Predictor, Predictor]  # of the same weights
    inputs: int  # partitions of the pings topic
    tracer: RequestTracer | None  # None: requests are not traced


async def load(stack: AsyncExitStack, settings: Settings, how: ApiOptions) -> Loaded:
    """Reaches Redis and Kafka, and loads the weights. `stack` closes what was opened. Raises as `process.serve`."""
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
    return Loaded(store, await asyncio.to_thread(_load, settings.weights), inputs, tracer)


class Api:
    """The parts of the API."""

    def __init__(
        self,
        how: ApiOptions,
        settings: Settings,
        loaded: Loaded,
        server: Server,
        following: TopicFollower,
        announcements: AnnouncementReader | None,
        trips: TripTable,
    ) -> None:
        """Adds its pages to the server, and its topic to those that are followed."""
        keep_ms, pings = int(how.keep_s * 1000), settings.topics.pings
        self._store = loaded.store
        self._checked: tuple[float, list[str]] = (-READY_S, [])
        self._following = following
        self.newest = Newest(how.most_entities, keep_ms)
        sources = [Source(settings.topics.forecasts, self._update, keep_ms)]
        following.add(sources, self.newest.expire)
        states = States(
            loaded.store,
            pings,
            lambda: len(following.partitions.get(pings, ())) or loaded.inputs,
            self.newest.partition,
        )
        load = None
        if settings.registry is not None:
            load = partial(_fetch, settings.registry, how.registry_cache)
        networks = Networks(loaded.networks[0], load)
        self._atlases = None
        if announcements is not None and settings.atlases is not None:
            self._atlases = Atlases(announcements, settings.atlases)
        self.questions = Questions(
            states,
            networks,
            self._atlases,
            is_heard=lambda entity_id: self.newest.row(entity_id) is not None,
            stale_ms=how.stale_s * 1000,
            clock_ms=now_ms,
        )
        self.tracks = Tracks(loaded.networks[1])
        metrics = Metrics(server.registry)
        access = Access(how.token, how.origins)
        gate = server.gate(access=access, metrics=metrics, tickets=Tickets(), tracer=loaded.tracer)
        server.add(Handlers(self.questions, self.tracks, self.newest, server, gate, Feeds(trips)).pages, self.reasons)
        metrics.watch(
            {
                "entities": lambda: len(self.newest),
                "lag_records": lambda: following.lag(sources),
                "caught_up": lambda: following.caught_up,
                "questions_waiting": lambda: self.questions.waiting,
                "tracks_waiting": lambda: self.tracks.waiting,
                "connections": lambda: server.open_connections,
                "networks": lambda: len(networks.versions),
                "batches": lambda: self.questions.batches,
                "store_failures": lambda: states.failures,
                "kafka_failures": lambda: following.failures,
                "records": lambda: following.records(sources),
                "records_refused": lambda: self.newest.refused + trips.refused,
                "trips": lambda: len(trips),
                "entities_crowded_out": lambda: self.newest.crowded_out,
                "connections_closed": lambda: server.connections.closed,
            }
        )

    def _update(self, records: Records) -> None:
        columns = zip(records.values.each(), records.timestamps_ms.tolist(), strict=True)
        self.newest.update([Published(value, time_ms) for value, time_ms in columns if value is not None], now_ms())

    async def reasons(self) -> list[str]:
        """Returns why it cannot answer now: for anybody, so it names no address and no entity."""
        then_s, reasons = self._checked
        if time.monotonic() - then_s >= READY_S:
            reasons = await self._away()
            self._checked = time.monotonic(), reasons
        own = [] if self._following.caught_up else ["the forecasts are not read up to now"]
        return own + reasons

    async def _away(self) -> list[str]:
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._store.peek(("", 0))
        except (RedisError, OSError, TimeoutError, Refused):
            return ["Redis is away"]
        return []

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Returns what works in the background until it is cancelled."""
        return [self.questions.run(), *([] if self._atlases is None else [self._atlases.run()])]

    async def close(self) -> None:
        self.tracks.close()
        self.questions.thread.shutdown(wait=False, cancel_futures=True)


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
    """Returns how many partitions the pings topic has. Raises as `admin.connect` and `admin.partitions_of`."""
    with admin.connect(settings.bootstrap, settings.kafka) as client:
        admin.partitions_of(client, settings.topics.forecasts)
        return admin.partitions_of(client, settings.topics.pings)


def _load(weights: str) -> tuple[Predictor, Predictor]:
    """Loads the weights twice, and compiles all that answers need, so that the first question waits for nothing."""
    log.info("loading weights %s", weights)
    with compiling(lambda progress: log.info("%s", progress)):
        first, second = (Predictor.load(weights, capacity=CAPACITY) for _ in range(2))
        first.warm_atlas()
    return first, second


def _fetch(registry: str, cache: Path | None, version: str) -> Predictor:
    return fetch_weights(registry, version, CAPACITY, cache)
