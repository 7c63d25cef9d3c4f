"""The newest record of each trip under way, as the trips topic has it. It belongs to one event loop."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from stream.wire import Record
from stream.wire.trips import StopAhead, TripUnderWay, loads_trip

log: Final = logging.getLogger(__name__)

SILENT_MS: Final = 600_000  # behind the newest record: who wrote it has ended without a word
MOST_TRIPS: Final = 100_000  # under way at once, some 10 KB each
MOST_WARNED: Final = 5


class TripTable:
    """The trips under way."""

    def __init__(self, most: int = MOST_TRIPS) -> None:
        self.newest_ms = 0  # the latest `ts` of all
        self.changes = 0  # goes up with each record
        self.refused = 0
        self._most = most
        self._by_key: dict[bytes, TripUnderWay] = {}  # the one that was heard longest ago first

    def __len__(self) -> int:
        return len(self._by_key)

    def take(self, records: Iterable[Record]) -> None:
        """Takes records of the topic: each replaces the one of its key, and one without a value ends it. What is no
        record of a trip is counted and left out."""
        for record in records:
            key = record.key or b""
            self._by_key.pop(key, None)
            self.changes += 1
            if record.value is None:
                continue
            try:
                trip = loads_trip(record.value)
            except ValueError as error:
                self.refused += 1
                if self.refused <= MOST_WARNED:
                    log.warning("%s/%d:%d is no trip: %s", record.topic, record.partition, record.offset, error)
                continue
            self._by_key[key] = trip
            self.newest_ms = max(self.newest_ms, trip.ts)
            if len(self._by_key) > self._most:
                del self._by_key[next(iter(self._by_key))]

    def under_way(self) -> list[TripUnderWay]:
        """Returns the trips in the order of their service days and ids: of several vehicles that name the same trip,
        the one that was heard last, and none that nobody has written of for SILENT_MS."""
        newest: dict[tuple[str, str], TripUnderWay] = {}
        for trip in self._by_key.values():
            name = trip.start_date, trip.trip_id
            other = newest.get(name)
            if self._is_heard(trip) and (
                other is None or (trip.ping_ts, trip.entity_id) > (other.ping_ts, other.entity_id)
            ):
                newest[name] = trip
        return [newest[name] for name in sorted(newest)]

    def of(self, entity_id: str) -> TripUnderWay | None:
        """Returns the trip that a vehicle is on."""
        trips = [trip for trip in self._by_key.values() if trip.entity_id == entity_id and self._is_heard(trip)]
        return max(trips, key=lambda trip: trip.ping_ts, default=None)

    def calls(self, stop_id: str) -> list[tuple[TripUnderWay, StopAhead]]:
        """Returns the trips that are predicted to reach a stop, the soonest first."""
        calls = [(trip, stop) for trip in self.under_way() for stop in trip.stops if stop.stop_id == stop_id]
        ahead = [(trip, stop) for trip, stop in calls if stop.arrival_ts is not None]
        return sorted(ahead, key=lambda call: (call[1].arrival_ts or 0, call[0].trip_id))

    def _is_heard(self, trip: TripUnderWay) -> bool:
        return trip.ts >= self.newest_ms - SILENT_MS
