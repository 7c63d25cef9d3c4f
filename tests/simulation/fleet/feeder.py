"""Makes what vehicles send: the pings of entities that drive, some of them odd."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from faulty import POISON_MPS
from kafka_log import NO_TIME, NewRecord

from stream.wire import Ping, dumps
from stream.wire.record import FORGET_HEADERS

STEP_MS: Final = 10_000
GAP_MS: Final = 400_000
DAY_MS: Final = 86_400_000
PAST_MS: Final = DAY_MS  # tracks lie a day before the time at which they are sent: their clock is their own


@dataclass
class Vehicle:
    """An entity that drives."""

    entity_id: str
    ts_ms: int
    lat: float
    lon: float
    sent: list[bytes] = field(default_factory=list)


class Feeder:
    """Makes the pings of a world, by its chance alone."""

    def __init__(self, seed: int, entities: int, now_ms: int) -> None:
        self._chance = random.Random(f"feeder {seed}")
        self._live_ms = now_ms
        self._vehicles = [
            Vehicle(f"bus{number}", now_ms - PAST_MS, 30.0 + number, -97.0 - number) for number in range(entities)
        ]
        self._done_deg: dict[str, float] = {}  # how far each has driven, where that says where it is

    def make(self, which: int, odd: str) -> NewRecord:
        """Returns a vehicle's next record. `odd` says how it is not as others, see `plans.ODD`."""
        one, chance = self._vehicles[which % len(self._vehicles)], self._chance
        key = one.entity_id.encode()
        if odd == "junk":
            return NewRecord(key, b'{"entity_id": "%s", "lat": "north"' % key)
        if odd == "blank":
            return NewRecord(None, None)
        if odd == "forget":
            one.sent.clear()
            return NewRecord(key, None, FORGET_HEADERS)
        if odd == "again" and one.sent:
            return NewRecord(key, chance.choice(one.sent[-3:]))
        if odd in (
            "ahead",
            "live",
        ):  # a clock is a day ahead, or right in a record without a time
            self._live_ms += 1_000
            ts_ms = self._live_ms + (DAY_MS if odd == "ahead" else 0)
            ping = Ping(entity_id=one.entity_id, ts=ts_ms, lat=round(one.lat, 6), lon=round(one.lon, 6))
            return NewRecord(key, dumps(ping), timestamp_ms=NO_TIME if odd == "live" else 0)
        if odd == "late" and len(one.sent) > 1:
            ping = Ping(entity_id=one.entity_id, ts=one.ts_ms - STEP_MS // 2, lat=one.lat, lon=one.lon)
            return NewRecord(key, dumps(ping))
        one.ts_ms += GAP_MS if odd == "gap" else STEP_MS
        self._drive(one, far=odd == "gap")
        lat = one.lat + 2.0 if odd == "jump" else one.lat
        more = {"speed_mps": POISON_MPS} if odd == "poison" else {}
        value = dumps(Ping(entity_id=one.entity_id, ts=one.ts_ms, lat=round(lat, 6), lon=round(one.lon, 6), **more))
        one.sent.append(value)
        return NewRecord(key, value, timestamp_ms=NO_TIME if odd == "timeless" else 0)

    def _drive(self, one: Vehicle, *, far: bool) -> None:
        """Takes a vehicle to where it sends next; `far`, after a gap in which it was silent."""
        one.lat += self._chance.uniform(0.0, 4e-4) * (40 if far else 1)
        one.lon += self._chance.uniform(-3e-4, 3e-4)
