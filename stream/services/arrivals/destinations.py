"""The destinations and geofences that are in force, as the records of their topic have it. Knows no broker.

What is asked counts for the forecasts that were published since: a service that begins with old forecasts must not take
a ping of last week for an arrival. Since when is the time of the record or, if that is earlier, of its setting.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from stream.services.arrivals.estimate import Area
from stream.wire import MAX_RECORD_BYTES, NO_TIME_MS
from stream.wire.arrivals import Destination, DestinationRecord, Geofence, Reached, loads_destination
from stream.wire.escape import escaped

log: Final = logging.getLogger(__name__)

MOST: Final = 100_000  # destinations and geofences, some 500 bytes each; more are refused
MOST_WARNED: Final = 20  # lines of the log about records that cannot be used, one a record

FOR_ALL: Final = ""  # no entity's id
Place = tuple[str, str]  # entity, destination


class _Goal(NamedTuple):
    destination: Destination
    since_ms: int


class _Fence(NamedTuple):
    area: Area
    since_ms: int


class InForce:
    """What is asked for now. Records are added in the order of the topic."""

    def __init__(self, most: int = MOST) -> None:
        self.refused = 0
        self._most = most
        self._by_key: dict[bytes, DestinationRecord] = {}
        self._goals: dict[str, dict[bytes, _Goal]] = {}  # by entity
        self._fences: dict[str, dict[bytes, _Fence]] = {}  # by entity, and those FOR_ALL
        self._reached: dict[Place, int] = {}  # when that was set at which the entity has arrived
        self._warned = 0

    def __len__(self) -> int:
        """The number of destinations and geofences."""
        return len(self._by_key)

    def put(self, key: bytes | None, value: bytes | None, ts_ms: int = NO_TIME_MS) -> None:
        """Takes a record and its timestamp. One that cannot be read takes its key's former record back, as one without
        a value does: it has replaced that, and compaction will delete it.
        """
        if key is None:
            self._refuse("a record without a key")
            return
        found = None
        if value is not None:
            try:
                if len(value) > MAX_RECORD_BYTES:
                    raise ValueError(f"{len(value)} bytes, at most {MAX_RECORD_BYTES}")
                found = loads_destination(value)
            except ValueError as error:
                self._refuse(f"{key[:80]!r}: {error}")
        if isinstance(found, Reached):
            place = (found.entity_id, found.destination_id)
            self._reached[place] = max(found.set_ts, self._reached.get(place, found.set_ts))
            while len(self._reached) > self._most:
                self._reached.pop(next(iter(self._reached)))
            return
        self._take_back(key)
        if found is None:
            return
        if len(self._by_key) >= self._most:
            self._refuse(f"{key[:80]!r}: there are {self._most:,} already")
            return
        self._by_key[key] = found
        if isinstance(found, Destination):
            since_ms = found.set_ts if ts_ms == NO_TIME_MS else min(found.set_ts, ts_ms)
            self._goals.setdefault(found.entity_id, {})[key] = _Goal(found, since_ms)
        else:
            self.add_geofence(key, found, ts_ms)

    def add_geofence(self, key: bytes, fence: Geofence, since_ms: int) -> None:
        """Adds a geofence that need be in no topic, as one of a file."""
        self._fences.setdefault(fence.entity_id or FOR_ALL, {})[key] = _Fence(Area.of(fence), since_ms)

    def destinations(self, entity_id: str, at_ms: int) -> list[Destination]:
        """Returns where an entity is to go and has not arrived yet, for a forecast that was published at a time, or at
        NO_TIME_MS.
        """
        return [
            one.destination
            for one in self._goals.get(entity_id, {}).values()
            if _counts(one.since_ms, at_ms)
            and self._reached.get((entity_id, one.destination.destination_id)) != one.destination.set_ts
        ]

    def areas(self, entity_id: str, at_ms: int) -> list[Area]:
        """Returns the geofences of an entity, and those for all, for such a forecast."""
        some = (one for whose in (entity_id, FOR_ALL) for one in self._fences.get(whose, {}).values())
        return [one.area for one in some if _counts(one.since_ms, at_ms)]

    def has(self, entity_id: str) -> bool:
        """Returns whether anything may be asked of an entity."""
        return FOR_ALL in self._fences or entity_id in self._goals or entity_id in self._fences

    def _take_back(self, key: bytes) -> None:
        before = self._by_key.pop(key, None)
        if isinstance(before, Destination):
            del self._goals[before.entity_id][key]
            if not self._goals[before.entity_id]:
                del self._goals[before.entity_id]
        elif isinstance(before, Geofence):
            whose = before.entity_id or FOR_ALL
            del self._fences[whose][key]
            if not self._fences[whose]:
                del self._fences[whose]

    def _refuse(self, why: str) -> None:
        self.refused += 1
        self._warned += 1
        if self._warned <= MOST_WARNED:
            log.warning("the destinations topic has what cannot be used: %s", escaped(why[:300]))


def _counts(since_ms: int, at_ms: int) -> bool:
    return at_ms == NO_TIME_MS or at_ms >= since_ms
