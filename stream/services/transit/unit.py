"""Publishes the trips under way of one partition, and says which are over. `stream.services.member` runs it.

What the trips are, the fleet says (`fleet`), which reads all partitions by itself: the records that come here tell only
how far the group has come. The unit keeps when it last published each trip. At a takeover the topic says that, as
records and offsets are written in one transaction: so what is over is ended, whoever began it, and nothing is repeated.
Until the fleet has come as far as the owner before us had, the unit is silent.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from stream.kafka.reading import bounds, reread
from stream.kafka.records.record_columns import Records
from stream.services.plan import Plan, Taken, answer
from stream.services.transit.fleet import Fleet, Former, UnderWay
from stream.services.transit.records import key_parts, record_of
from stream.transit.schedule.days import day_of
from stream.wire import Outgoing, Record, Topics
from stream.wire.ids import EVENT_ID, event_headers
from stream.wire.trips import TripUnderWay, dumps_trip, loads_trip, trip_key

log: Final = logging.getLogger(__name__)

OUTCOMES: Final = ("updates", "ended")  # published
# After a ping a trip is published again as soon as this share of `--transit-every` is over: vehicles may report each
# second, and a record of 30 stops has 8 KB.
SOONEST: Final = 1 / 3


class Published(NamedTuple):
    """Holds what was published of a trip last: the time that it was predicted for, and its newest ping; ms UTC."""

    ts: int
    ping_ts: int
    former: Former | None = None  # at a takeover, of a vehicle that names no trip


class TransitUnit:
    """Publishes the trips of one partition number."""

    def __init__(
        self, topics: Topics, number: int, fleet: Fleet, every_s: float, published: dict[str, Published], needs: int = 0
    ) -> None:
        """Takes what is published, and up to which offset of its partition the fleet must have folded. The fleet begins
        with the trips that were found before, as their vehicles name none."""
        self.number = number
        self._topics = topics
        self._fleet = fleet
        self._every_ms = int(1000 * every_s)
        self._published = published
        self._needs = needs
        self._counts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        for one in published.values():
            if one.former is not None:
                fleet.believe(one.former)
        self._headers = event_headers("trip", topics.pings, number)

    @property
    def waiting(self) -> int:
        return 0

    @property
    def counts(self) -> Mapping[str, int]:
        return self._counts

    @property
    def needed(self) -> Mapping[str, int]:
        """Returns the offset up to which the fleet has folded: nothing beyond is in any record yet."""
        return {self._topics.pings: max(self._needs, self._fleet.offsets.get(self.number, 0))}

    def fold(self, records: Records) -> None:
        """Leaves the records to the fleet, which reads them by itself."""

    def take_outgoing(self, quiet_ms: int | None) -> list[Outgoing]:
        """Returns a tombstone for each trip that is over, and a record for each that is due."""
        if not self._fleet.caught_up or self._fleet.offsets.get(self.number, 0) < self._needs:
            return []
        now_ms = self._fleet.look()
        under_way = {trip_key(*key_parts(trip)): trip for trip in self._fleet.under_way(self.number)}
        over = [key for key in self._published if key not in under_way]
        for key in over:
            del self._published[key]
        self._counts["ended"] += len(over)
        ended = [answer(self._topics.trips, self.number, key, None) for key in over]
        updates = [
            self._update(key, trip, now_ms) for key, trip in under_way.items() if self._is_due(key, trip, now_ms)
        ]
        self._counts["updates"] += len(updates)
        return [*ended, *updates]

    def _is_due(self, key: str, trip: UnderWay, now_ms: int) -> bool:
        before = self._published.get(key)
        if before is None:
            return True
        after_ms = now_ms - before.ts
        is_heard = trip.vehicle.ping_ms > before.ping_ts
        return after_ms >= self._every_ms or (is_heard and after_ms >= SOONEST * self._every_ms)

    def _update(self, key: str, trip: UnderWay, now_ms: int) -> Outgoing:
        record = record_of(trip, now_ms)
        self._published[key] = Published(now_ms, trip.vehicle.ping_ms)
        event = (EVENT_ID, record.update_id.encode())
        return answer(self._topics.trips, self.number, key, dumps_trip(record), (*self._headers, event))

    def metadata(self) -> str:
        return ""


async def take_over(plan: Plan, topics: Topics, fleet: Fleet, every_s: float, taken: Taken) -> TransitUnit:
    """Reads the partition of the topic, and returns the unit. Raises KafkaError."""
    servers, access = plan.bootstrap.split(","), plan.kafka.arguments()
    partition = topics.trips, taken.number
    begin, end = (await bounds(servers, [partition], access=access))[partition]
    published: dict[str, Published] = {}
    async for records in reread(servers, partition, begin, end, access=access):
        for record in records:
            take(record, published)
    return TransitUnit(topics, taken.number, fleet, every_s, published, taken.starts[topics.pings].offset)


def take(record: Record, published: dict[str, Published]) -> None:
    """Notes what one record of the topic says of its trip."""
    key = (record.key or b"").decode(errors="replace")
    published.pop(key, None)
    if record.value is not None:
        try:
            trip = loads_trip(record.value)
            former = _former_of(trip) if trip.assigned else None
        except ValueError as error:
            log.warning("%s/%d:%d is none of ours: %s", *record[:3], error)
            published[key] = Published(0, 0)  # so that it is replaced or ended
        else:
            published[key] = Published(trip.ts, trip.ping_ts, former)


def _former_of(trip: TripUnderWay) -> Former:
    day = day_of(trip.start_date)
    return Former(trip.feed, trip.entity_id, trip.trip_id, day, trip.ping_ts / 1000, trip.along_m)
