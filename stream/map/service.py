"""Starts the parts of `pathcast map`, and stops them.

look which topics there are -> follow them -> listen -> ... a signal -> end the streams -> stop
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from aiokafka.errors import KafkaError

from stream.api.http.application import Gate, Pages, application
from stream.api.live.open_streams import OpenStreams
from stream.api.live.topics import TopicsFollowing
from stream.api.metrics import Metrics
from stream.api.running import run_parts
from stream.config.http_access import MAP_TOKEN, Address
from stream.config.security import PLAIN_KAFKA, KafkaSecurity, kafka_refusal
from stream.http.connections import Connections
from stream.http.limits import Buckets
from stream.http.server import Listening
from stream.kafka import admin
from stream.kafka.reading import reader
from stream.map.access import MapAccess
from stream.map.fleet.fleet import Fleet
from stream.map.handlers import Handlers, Shown
from stream.map.metrics import COUNTS, PREFIX, SIZES
from stream.map.routes import ROUTES, STREAMS
from stream.map.sources.ends import EndsOfLogs
from stream.map.sources.streets import Streets
from stream.map.sources.topics import Kind, Reading
from stream.versions.announcement_reader import AnnouncementReader
from stream.wire import Topics

log = logging.getLogger(__name__)

ISOLATION: Final = "read_committed"  # forecasts of an aborted transaction never were any
FOLDER: Final = Path(__file__).parent / "page"
POLL_RECORDS: Final = 200  # some 13 ms on the event loop
FOREVER_MS: Final = 10**15  # of the compacted topic: there, a tombstone ends an entity
PAGES: Final = Pages(ROUTES, STREAMS, "/ is the page; stream/map/routes.py has what else there is")


@dataclass(frozen=True)
class Showing:
    """The settings of `pathcast map`."""

    bootstrap: str
    topics: Topics
    address: Address
    kafka: KafkaSecurity = PLAIN_KAFKA
    token: str | None = None
    source: Kind | None = None  # None: the latest topic, if there is one
    atlases: Path | None = None
    basemap: Path | None = None
    title: str = "pathcast"
    folder: Path = FOLDER
    rate_per_s: float = 50.0  # requests of one client
    burst: float = 100.0
    behind_proxy: bool = False
    most_connections: int = 1_024
    most_streams: int = 200
    most_entities: int = 20_000
    keep_s: float = 600.0
    stale_s: float = 300.0
    expire_s: float = 3_600.0


class Service:
    """The parts, once they are there."""

    def __init__(
        self, how: Showing, kind: Kind, consumer: Any, asker: Any, announcements: AnnouncementReader | None
    ) -> None:
        """Takes two started consumers: one follows the topics, one asks where logs end."""
        expire_ms = FOREVER_MS if kind == "latest" else int(how.expire_s * 1000)
        keep_ms = int(how.keep_s * 1000)
        self.fleet = Fleet(how.most_entities, keep_ms=keep_ms, stale_ms=int(how.stale_s * 1000), expire_ms=expire_ms)
        self.reading = Reading(self.fleet)
        sources = self.reading.sources(how.topics, kind, int(how.expire_s * 1000), keep_ms)
        refusal = partial(kafka_refusal, how.bootstrap, how.kafka)
        self.following = TopicsFollowing(consumer, sources, refusal, self.fleet.tick, POLL_RECORDS)
        self.ends = EndsOfLogs(asker, how.topics, self.fleet)
        self.streets = Streets(announcements, how.atlases, lambda: self.ends.has(how.topics.models))
        metrics, connections = Metrics(PREFIX, SIZES, COUNTS), Connections(how.most_connections)
        access = MapAccess(how.token)
        gate = Gate(access, Buckets(how.rate_per_s, how.burst), how.behind_proxy, connections, metrics)
        shown = Shown(how.title, kind, how.keep_s, how.stale_s, secrets.token_hex(4), how.folder.resolve(), how.basemap)
        self.streams = OpenStreams(how.most_streams, metrics, gate.client)
        handlers = Handlers(shown, self.fleet, self.streets, gate, access, self.streams, self.reasons)
        self.listening = Listening(application(handlers.by_route, gate, PAGES), connections)
        metrics.watch(
            {
                "entities": lambda: len(self.fleet),
                "fills": lambda: len(self.fleet.fills),
                "lag_records": lambda: self.following.lag,
                "caught_up": lambda: self.following.caught_up,
                "connections": lambda: self.listening.connections,
                "records": lambda: self.following.records,
                "records_refused": lambda: self.fleet.refused + self.fleet.newest.refused + self.reading.unreadable,
                "kafka_failures": lambda: self.following.failures,
                "entities_crowded_out": lambda: self.fleet.newest.crowded_out,
                "connections_closed": lambda: connections.closed,
            }
        )

    def reasons(self) -> list[str]:
        """Returns why the map cannot be drawn now: for anybody, so it names no address and no entity."""
        return [] if self.following.caught_up else ["the topics are not read up to now"]

    async def run(self, stopping: asyncio.Event) -> None:
        """Works until `stopping` is set. Raises what ends a part: none should end."""
        parts = [self.following.run(), self.ends.run()]
        if self.streets.can_look:
            parts.append(self.streets.run())
        await run_parts(parts, stopping)

    async def stop(self) -> None:
        await self.streams.close()
        await self.listening.stop()


async def show(how: Showing, stopped_by: Sequence[int]) -> None:
    """Shows the map until one of these signals comes.

    Raises ConnectionError if Kafka does not answer, ValueError if there is nothing to follow or a setting is wrong,
    Refused, OSError if the address cannot be used.
    """
    if how.token is None and not how.address.loopback:
        log.warning("anybody who reaches %s may see where everybody is: %s is not set", how.address, MAP_TOKEN)
    stopping = asyncio.Event()
    for number in stopped_by:
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    kind = await asyncio.to_thread(_kind, how)
    servers, access = how.bootstrap.split(","), how.kafka.arguments()
    async with AsyncExitStack() as stack:
        try:
            consumer = await stack.enter_async_context(reader(servers, access, ISOLATION))
            asker = await stack.enter_async_context(reader(servers, access, ISOLATION))
            announcements = None
            if how.atlases is not None:
                announcements = await stack.enter_async_context(
                    AnnouncementReader.opened(how.bootstrap, how.topics, how.kafka)
                )
            service = Service(how, kind, consumer, asker, announcements)
            stack.push_async_callback(service.stop)
            address = await service.listening.start(how.address)
            log.info("listening at http://%s, as process %d, from the %s topic", address, os.getpid(), kind)
            await service.run(stopping)
        except KafkaError as error:
            refusal = kafka_refusal(how.bootstrap, how.kafka, error)
            raise refusal or ConnectionError(f"Kafka at {how.bootstrap} failed: {error!r}") from error


def _kind(how: Showing) -> Kind:
    """Returns which topic is followed. Raises as `admin.connected` and `admin.partitions_of`."""
    with admin.connected(how.bootstrap, how.kafka) as client:
        latest, forecasts = admin.describe(client, [how.topics.latest, how.topics.forecasts])
        if how.source == "forecasts" or (how.source is None and latest.partitions is None):
            if forecasts.partitions is None:
                admin.partitions_of(client, how.topics.forecasts)
            return "forecasts"
        if latest.partitions is None:
            raise ValueError(f"there is no topic {how.topics.latest} at {how.bootstrap}: start pathcast beside latest")
        return "latest"
