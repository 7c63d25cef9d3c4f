"""Knows all trips under way, of all partitions: folds pings in the order of their times, and has no clock.

Paces of links are learnt from all buses, so each member knows the whole fleet, and whoever takes a partition over knows
its trips already. `following` feeds it, `unit` asks it for the trips of one partition, `snapshot` keeps it.

    a ping, and the trip that it names or that was found -> the feed that the trip began with, or else the present one
        -> its predictor

A vehicle is on the trip that its newest ping names, or that was found for it. That trip is over once the vehicle has
reached its last stop, is on another trip, or was silent for LOST_S of the stream's time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple

from stream.services.stream_time import StreamTime
from stream.transit.assigning import Assigner
from stream.transit.assigning.assigner import Found
from stream.transit.predicting.asking import Run
from stream.transit.predicting.predictor import LEARN_EVERY_S, LOST_S, MANY_TRIPS, Predictor
from stream.transit.recordings import route_of
from stream.wire import Ping

TICK_S: Final = 10.0  # of the stream's time, between two looks for what is over and what is asked to learn from
OUTCOMES: Final = ("on_path", "off_path", "late", "unknown_trip", "without_trip", "reject")


@dataclass(eq=False)
class Feed:
    """A schedule with its predictor."""

    hash: str  # the begin of the SHA-256 of its zip
    predictor: Predictor

    def __post_init__(self) -> None:
        self.assigner = Assigner(self.predictor.schedule)


@dataclass(slots=True)
class Vehicle:
    """The trip that a vehicle is on, and its newest ping on the path."""

    feed: Feed
    trip_id: str
    at_s: float  # of the newest ping that names a trip
    ping_ms: int = 0
    lat_deg: float = 0.0
    lon_deg: float = 0.0
    heading_deg: float | None = None
    speed_mps: float | None = None
    assigned: bool = False  # the vehicle names no trip, and this one was found


class Former(NamedTuple):
    """A trip that was found for a vehicle that names none, as it was published last."""

    feed: str  # its hash
    entity_id: str
    trip_id: str
    day: date
    at_s: float
    along_m: float


class UnderWay(NamedTuple):
    """A trip under way."""

    entity_id: str
    vehicle: Vehicle
    run: Run


class Fleet:
    """All vehicles on trips."""

    def __init__(self, feed: Feed, *, assigns: bool = True) -> None:
        """`assigns`: whether the trips of vehicles are found that name none; else these are on no trip."""
        self.feed = feed
        self._assigns = assigns
        self.older: list[Feed] = []  # of which trips are under way still
        self.time = StreamTime()
        self.offsets: dict[int, int] = {}  # the next one of each partition: all before are folded
        self.quiet_ms: int | None = None  # a time by the machine's clock when all was folded
        self.caught_up = False
        self.counts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self.vehicles: dict[int, dict[str, Vehicle]] = {}  # by partition
        self._partition_of: dict[str, int] = {}
        self._looked_s = 0.0
        self._now_ms = 0

    def fold(self, partition: int, ping: Ping, published_ms: int) -> None:
        """Takes a ping. Those of one vehicle should come in the order of their times; a late one moves nothing."""
        at_ms = min(ping.ts, published_ms) if published_ms >= 0 else ping.ts
        self.time = self.time.after(ping.entity_id, at_ms, published_ms)
        found = self._find(ping)
        self.counts["without_trip" if found is None else self._fold(partition, ping, found)] += 1
        if self.time.now_ms / 1000 - self._looked_s >= TICK_S:
            self._look(self.time.now_ms / 1000)

    def _find(self, ping: Ping) -> Found | None:
        """Returns the trip that a ping names, or else the one that the vehicle is on by its way and time."""
        if not self._assigns:
            return None if ping.trip_id is None else Found(ping.trip_id, False)
        place = ping.entity_id, ping.ts / 1000, ping.lat, ping.lon
        return self.feed.assigner.find(*place, ping.trip_id, route_of(ping))

    def lacks_index(self, ping: Ping) -> bool:
        """Returns whether the ping's trip is to be found, and the index for that is not made."""
        return self._assigns and ping.trip_id is None and not self.feed.assigner.has_index

    def make_index(self) -> None:
        """Makes the index. It may be done in a thread, if nothing is folded meanwhile."""
        self.feed.assigner.make_index()

    def believe(self, former: Former) -> None:
        """Takes a trip that was found before a restart, if it is of the present feed."""
        if self._assigns and former.feed == self.feed.hash:
            self.feed.assigner.believe(*former[1:])

    def _fold(self, partition: int, ping: Ping, found: Found) -> str:
        t_s, entity_id, trip_id = ping.ts / 1000, ping.entity_id, found.trip_id
        feed = self._feed_of(entity_id, trip_id, t_s)
        run = self._observe(feed, ping, trip_id, t_s)
        vehicle = self._vehicle(partition, entity_id, feed, trip_id, t_s)
        if run is None:
            return "unknown_trip"
        if run.progress.at_s != t_s:
            return "off_path" if run.seen_s == t_s else "late"
        if vehicle.trip_id == trip_id:
            vehicle.assigned = found.assigned
            vehicle.ping_ms, vehicle.lat_deg, vehicle.lon_deg = ping.ts, ping.lat, ping.lon
            vehicle.heading_deg, vehicle.speed_mps = ping.heading_deg, ping.speed_mps
        return "on_path"

    def _observe(self, feed: Feed, ping: Ping, trip_id: str, t_s: float) -> Run | None:
        """Returns the trip that the ping is of, with it; None if the feed does not have it."""
        speed_mps = float("nan") if ping.speed_mps is None else ping.speed_mps
        feed.predictor.observe(ping.entity_id, trip_id, t_s, ping.lat, ping.lon, speed_mps)
        return feed.predictor.runs.get((trip_id, ping.entity_id))

    def _feed_of(self, entity_id: str, trip_id: str, t_s: float) -> Feed:
        for feed in self.older:
            run = feed.predictor.runs.get((trip_id, entity_id))
            if run is not None and t_s - run.seen_s <= LOST_S:
                return feed
        return self.feed

    def _vehicle(self, partition: int, entity_id: str, feed: Feed, trip_id: str, t_s: float) -> Vehicle:
        """Returns the vehicle, which is now on that trip, unless the ping is older than its newest."""
        before = self._partition_of.get(entity_id)
        if before is not None and before != partition:  # partitions were added, and keys lie in others now
            self._drop(entity_id)
            before = None
        of_partition = self.vehicles.setdefault(partition, {})
        vehicle = of_partition.get(entity_id)
        if vehicle is None or (t_s >= vehicle.at_s and (vehicle.trip_id, vehicle.feed) != (trip_id, feed)):
            vehicle = of_partition[entity_id] = Vehicle(feed, trip_id, t_s)
            self._partition_of[entity_id] = partition
        vehicle.at_s = max(vehicle.at_s, t_s)
        return vehicle

    def under_way(self, partition: int) -> Iterator[UnderWay]:
        """Yields the trips of the vehicles of a partition that have a place on their path and are not over."""
        for entity_id, vehicle in self.vehicles.get(partition, {}).items():
            run = vehicle.feed.predictor.runs.get((vehicle.trip_id, entity_id))
            if run is not None and vehicle.ping_ms and not is_finished(run):
                yield UnderWay(entity_id, vehicle, run)

    def look(self) -> int:
        """Returns the present time of the stream, in ms UTC, after ending what is over by then."""
        self._now_ms = max(self._now_ms, self.time.at(self.quiet_ms))
        if self._now_ms / 1000 - self._looked_s >= TICK_S:
            self._look(self._now_ms / 1000)
        return self._now_ms

    def _look(self, now_s: float) -> None:
        self._looked_s = now_s
        for feed in (self.feed, *self.older):
            feed.predictor.forget(now_s)
            self._learn(feed.predictor, now_s)
        self.older = [feed for feed in self.older if feed.predictor.runs]
        silent = [
            entity_id
            for of_partition in self.vehicles.values()
            for entity_id, vehicle in of_partition.items()
            if now_s - vehicle.at_s > LOST_S
        ]
        for entity_id in silent:
            self._drop(entity_id)

    def _learn(self, predictor: Predictor, now_s: float) -> None:
        """Asks of each trip, every so often, what is learnt from later: also of trips that others publish, so that a
        member which takes them over answers as they did."""
        every_s = LEARN_EVERY_S * max(1.0, len(predictor.runs) / MANY_TRIPS)
        for run in predictor.runs.values():
            if not run.questions or now_s - run.questions[-1].at_s >= every_s:
                predictor.answer_one(run, now_s)

    def forget(self, entity_id: str) -> None:
        """Makes an entity one that never was."""
        self._drop(entity_id)
        for feed in (self.feed, *self.older):
            feed.predictor.forget_entity(entity_id)
            feed.assigner.forget_entity(entity_id)

    def _drop(self, entity_id: str) -> None:
        partition = self._partition_of.pop(entity_id, None)
        if partition is not None:
            del self.vehicles[partition][entity_id]

    def put(self, partition: int, entity_id: str, vehicle: Vehicle) -> None:
        """Adds a vehicle that was known before."""
        self.vehicles.setdefault(partition, {})[entity_id] = vehicle
        self._partition_of[entity_id] = partition

    def adopt(self, feed: Feed) -> None:
        """Takes a feed for the trips that begin from now on. Trips under way keep theirs until they end."""
        before = self.feed
        feed.predictor.learn_from(before.predictor)
        if before.predictor.runs:
            self.older.append(before)
        self.feed = feed

    @property
    def trips(self) -> int:
        """Returns how many trips are under way."""
        return sum(1 for partition in self.vehicles for _ in self.under_way(partition))


def is_finished(run: Run) -> bool:
    """Returns whether the vehicle has reached its last stop."""
    reached_N = run.pattern.reached_N
    return run.passed >= len(reached_N) or bool(run.progress.along_m + 1e-6 >= reached_N[-1])
