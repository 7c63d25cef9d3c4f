"""The map, put together: the fleet in memory, the streets of its atlas, and what its page is told."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final

from aiokafka import AIOKafkaConsumer

from stream.api.http.server import Server
from stream.api.live.topics import TopicFollower
from stream.api.map.access import MapAccess
from stream.api.map.fleet.fleet import Fleet
from stream.api.map.handlers import Handlers, PageSettings
from stream.api.map.sources.ends import EndsOfLogs
from stream.api.map.sources.streets import Streets
from stream.api.map.sources.topics import FleetReader
from stream.api.metrics import Metrics
from stream.api.options import Kind, MapOptions
from stream.api.trips.table import TripTable
from stream.config.settings import Settings
from stream.kafka import admin
from stream.versions.announcement_reader import AnnouncementReader

POLL_RECORDS: Final = 200  # some 13 ms on the event loop
FOREVER_MS: Final = 10**15  # of the compacted topic: there, a tombstone ends an entity
# Of the metrics.
PREFIX: Final = "pathcast_map_"
SIZES: Final = {
    "entities": "Entities in memory.",
    "fills": "Entities whose gap fills are in memory.",
    "arrivals": "Entities with arrivals in memory.",
    "trips": "Trips under way in memory.",
    "lag_records": "Records in the logs that were not read yet.",
    "caught_up": "1: what was in the logs at the start is read.",
    "connections": "Open connections.",
}
COUNTS: Final = {
    "records": "Records that were read.",
    "records_refused": "Records that are none, or have numbers that cannot be drawn.",
    "kafka_failures": "Reads of the topics that failed.",
    "entities_crowded_out": "Entities that were left out because there were too many.",
    "connections_closed": "Connections that were closed because they sent nothing, or were too many.",
}


class LiveMap:
    """The parts of the map."""

    def __init__(
        self,
        how: MapOptions,
        settings: Settings,
        kind: Kind,
        server: Server,
        following: TopicFollower,
        asker: AIOKafkaConsumer,
        announcements: AnnouncementReader | None,
        trips: TripTable,
    ) -> None:
        """Adds its pages to the server, and its topics to those that are followed. `asker` is a started consumer that
        asks where logs end."""
        topics, keep_ms = settings.topics, int(how.keep_s * 1000)
        expire_ms = FOREVER_MS if kind == "latest" else int(how.expire_s * 1000)
        self._following = following
        self.fleet = Fleet(
            how.most_entities, keep_ms=keep_ms, stale_ms=int(how.stale_s * 1000), expire_ms=expire_ms, trips=trips
        )
        fleet_reader = FleetReader(self.fleet)
        sources = fleet_reader.sources(topics, kind, int(how.expire_s * 1000), keep_ms)
        following.add(sources, self.fleet.tick)
        self.ends = EndsOfLogs(asker, topics, self.fleet, lambda: following.partitions)
        self.streets = Streets(announcements, settings.atlases, lambda: topics.models in following.partitions)
        tiles = "" if how.basemap is None else how.basemap.origin
        metrics, access = Metrics(server.registry, PREFIX, SIZES, COUNTS), MapAccess(how.token, tiles)
        gate = server.gate(access=access, metrics=metrics)
        shown = PageSettings(how.title, kind, how.keep_s, how.stale_s, how.folder.resolve(), how.basemap)
        server.add(Handlers(shown, self.fleet, self.streets, server, gate, access).pages, self.reasons)
        metrics.watch(
            {
                "entities": lambda: len(self.fleet),
                "fills": lambda: len(self.fleet.fills),
                "arrivals": lambda: len(self.fleet.arrivals),
                "trips": lambda: len(trips),
                "lag_records": lambda: following.lag(sources),
                "caught_up": lambda: following.caught_up,
                "connections": lambda: server.open_connections,
                "records": lambda: following.records(sources),
                "records_refused": lambda: self.fleet.refused + self.fleet.newest.refused + fleet_reader.unreadable,
                "kafka_failures": lambda: following.failures,
                "entities_crowded_out": lambda: self.fleet.newest.crowded_out,
                "connections_closed": lambda: server.connections.closed,
            }
        )

    async def reasons(self) -> list[str]:
        """Returns why the map cannot be drawn now: for anybody, so it names no address and no entity."""
        return [] if self._following.caught_up else ["the topics are not read up to now"]

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Returns what works in the background until it is cancelled."""
        return [self.ends.run(), *([self.streets.run()] if self.streets.can_look else [])]


def find_kind(settings: Settings, how: MapOptions) -> Kind:
    """Returns which topic is followed. Raises as `admin.connect` and `admin.partitions_of`."""
    topics = settings.topics
    with admin.connect(settings.bootstrap, settings.kafka) as client:
        latest, forecasts = admin.describe(client, [topics.latest, topics.forecasts])
        if how.source == "forecasts" or (how.source is None and latest.partitions is None):
            if forecasts.partitions is None:
                admin.partitions_of(client, topics.forecasts)
            return "forecasts"
        if latest.partitions is None:
            raise ValueError(f"there is no topic {topics.latest} at {settings.bootstrap}: start pathcast beside latest")
        return "latest"
