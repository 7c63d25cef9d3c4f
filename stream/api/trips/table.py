"""The newest record of each trip under way, as the trips topic has it. It belongs to one event loop."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from stream.wire import MAX_TS_MS, Record
from stream.wire.trips import StopAhead, TripUnderWay, loads_trip

log: Final = logging.getLogger(__name__)

SILENT_MS: Final = 600_000  # behind the newest record: who wrote it has ended without a word
MOST_TRIPS: Final = 30_000  # under way at once, 10 to 40 KB each
MOST_WARNED: Final = 5
FAR_MS: Final = 7 * 86_400_000  # from now to a stop: farther ones, and delays of so much, are mistakes
MOST_SEQUENCE: Final = 2**31 - 1
MOST_NUMBER: Final = 1_000.0  # of degrees and of metres a second

_Value = tuple[str, ...]  # what it is, as "stop", and its ids


class TripTable:
    """The trips under way."""

    def __init__(self, most: int = MOST_TRIPS) -> None:
        self.changes = 0  # goes up with each record
        self.refused = 0
        self._most = most
        self._by_key: dict[bytes, TripUnderWay] = {}  # the one that was heard longest ago first
        self._index: defaultdict[_Value, set[bytes]] = defaultdict(set)  # the keys of the trips with a value
        self._newest_ms: int | None = 0  # None: the trip that had it is gone

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def newest_ms(self) -> int:
        """The latest `ts` of those that are held; 0 without any. One that is over says nothing of what is silent: a
        recording may be played again."""
        if self._newest_ms is None:
            self._newest_ms = max((trip.ts for trip in self._by_key.values()), default=0)
        return self._newest_ms

    def take(self, records: Iterable[Record]) -> None:
        """Takes records of the topic: each replaces the one of its key, and one without a value ends it. What is no
        record of a trip is counted and left out."""
        for record in records:
            self.changes += 1
            self._replace(record.key or b"", None if record.value is None else self._parse(record))
            if len(self._by_key) > self._most:
                self._replace(next(iter(self._by_key)), None)

    def _parse(self, record: Record) -> TripUnderWay | None:
        try:
            return check(loads_trip(record.value or b""))
        except ValueError as error:
            self.refused += 1
            if self.refused <= MOST_WARNED:
                log.warning("%s/%d:%d is no trip: %s", record.topic, record.partition, record.offset, error)
            return None

    def _replace(self, key: bytes, trip: TripUnderWay | None) -> None:
        before = self._by_key.pop(key, None)
        had, has = _values(before), _values(trip)
        for value in had - has:
            self._index[value].discard(key)
            if not self._index[value]:
                del self._index[value]
        for value in has - had:
            self._index[value].add(key)
        if before is not None and before.ts == self._newest_ms:
            self._newest_ms = None
        if trip is not None:
            self._by_key[key] = trip
            if self._newest_ms is not None:
                self._newest_ms = max(self._newest_ms, trip.ts)

    def under_way(self) -> list[TripUnderWay]:
        """Returns the trips that `newest_of_trips` finds of those that are heard."""
        return newest_of_trips(self.heard())

    def heard(self) -> list[TripUnderWay]:
        """Returns the trips without those that nobody has written of for SILENT_MS."""
        return list(self._heard(self._by_key))

    def of(self, entity_id: str) -> TripUnderWay | None:
        """Returns the trip that a vehicle is on."""
        trips = self._heard(self._index.get(("vehicle", entity_id), ()))
        return max(trips, key=lambda trip: (trip.ping_ts, _name(trip)), default=None)

    def calls(self, stop_id: str) -> list[tuple[TripUnderWay, StopAhead]]:
        """Returns the trips that are predicted to reach a stop, the soonest first."""
        names = {_name(self._by_key[key]) for key in self._index.get(("stop", stop_id), ())}
        trips = newest_of_trips(trip for name in names for trip in self._heard(self._index[("trip", *name)]))
        calls = [(trip, stop) for trip in trips for stop in trip.stops if stop.stop_id == stop_id]
        ahead = [(trip, stop) for trip, stop in calls if stop.arrival_ts is not None]
        return sorted(ahead, key=lambda call: (call[1].arrival_ts or 0, call[0].trip_id))

    def _heard(self, keys: Iterable[bytes]) -> Iterator[TripUnderWay]:
        since_ms = self.newest_ms - SILENT_MS
        return (trip for key in keys if (trip := self._by_key[key]).ts >= since_ms)


def _values(trip: TripUnderWay | None) -> set[_Value]:
    """Returns what a trip is looked for by."""
    if trip is None:
        return set()
    return {("trip", *_name(trip)), ("vehicle", trip.entity_id), *(("stop", stop.stop_id) for stop in trip.stops)}


def _name(trip: TripUnderWay) -> tuple[str, str]:
    return trip.start_date, trip.trip_id


def newest_of_trips(trips: Iterable[TripUnderWay]) -> list[TripUnderWay]:
    """Returns the trips in the order of their service days and ids: of several vehicles that name the same trip, the
    one that was heard last."""
    newest: dict[tuple[str, str], TripUnderWay] = {}
    for trip in trips:
        other = newest.get(name := _name(trip))
        if other is None or (trip.ping_ts, trip.entity_id) > (other.ping_ts, other.entity_id):
            newest[name] = trip
    return [newest[name] for name in sorted(newest)]


def check(trip: TripUnderWay) -> TripUnderWay:
    """Returns the trip. Raises ValueError if GTFS-Realtime or a map cannot hold its numbers: one such record would
    spoil the answer about all trips, and whoever may write to the topic may write anything."""
    if not 0 <= trip.ts <= MAX_TS_MS or abs(trip.ping_ts - trip.ts) > FAR_MS:
        raise ValueError(f"ts {trip.ts} or ping_ts {trip.ping_ts} is no time of a trip under way")
    if trip.direction_id not in (None, 0, 1):
        raise ValueError(f"direction_id is {trip.direction_id}, expected 0 or 1")
    if abs(1_000 * (trip.delay_s or 0.0)) > FAR_MS:
        raise ValueError(f"delay_s is {trip.delay_s}: more than a week")
    if max(abs(trip.heading_deg or 0.0), abs(trip.speed_mps or 0.0)) > MOST_NUMBER:
        raise ValueError(f"heading_deg {trip.heading_deg} or speed_mps {trip.speed_mps} is none")
    for lat, lon in [(trip.lat, trip.lon), *((stop.lat, stop.lon) for stop in trip.stops)]:
        if abs(lat) > 90 or abs(lon) > 180:
            raise ValueError(f"{lat}, {lon} is no place")
    for stop in trip.stops:
        if not 0 <= stop.sequence <= MOST_SEQUENCE:
            raise ValueError(f"the sequence of a stop is {stop.sequence}")
        times = (stop.scheduled_arrival_ts, stop.scheduled_departure_ts, stop.arrival_ts, stop.departure_ts,
                 stop.early_ts, stop.late_ts)  # fmt: skip
        if any(time is not None and abs(time - trip.ts) > FAR_MS for time in times):
            raise ValueError(f"a time of stop {stop.sequence} is more than a week from ts")
    return trip
