"""The records of destinations and arrivals: where entities are to go, and when they will be there.

    <prefix>.destinations.v1   any text    Destination, Geofence, Reached; compacted: null takes a key's record back
    <prefix>.arrivals.v1       entity id   Arrival, Arrived, Inside: only where `pathcast beside arrivals` works

`kind` tells records of one topic apart. Keys of destinations name nothing but the record: `destination_key` and
`geofence_key` give those that `pathcast arrivals set` writes, and any other text does as well. Everybody who works on
arrivals reads all partitions of the destinations topic, so it does not matter which partition a key is in.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated, Any, Final, Literal

import msgspec

from stream.wire.ids import ID_CHARS, ID_SEPARATOR
from stream.wire.messages import MAX_TEXT_CHARS, MAX_TS_MS, MIN_TS_MS, decoded
from stream.wire.record import MAX_ENTITY_ID_CHARS

DEFAULT_ID: Final = "destination"  # of an entity's only destination
MIN_RADIUS_M: Final = 5.0  # below, no receiver can tell
MAX_RADIUS_M: Final = 100_000.0
MAX_CORNERS: Final = 1_000  # of one polygon, over all of its rings

Lat = Annotated[float, msgspec.Meta(ge=-90, le=90)]
Lon = Annotated[float, msgspec.Meta(ge=-180, le=180)]
Radius = Annotated[float, msgspec.Meta(ge=MIN_RADIUS_M, le=MAX_RADIUS_M)]
Time = Annotated[int, msgspec.Meta(ge=MIN_TS_MS, le=MAX_TS_MS)]
_Entity = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ENTITY_ID_CHARS)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT_CHARS)]
Ring = Annotated[tuple[tuple[Lon, Lat], ...], msgspec.Meta(min_length=3, max_length=MAX_CORNERS)]
Rings = Annotated[tuple[Ring, ...], msgspec.Meta(min_length=1, max_length=MAX_CORNERS)]


class _Wire(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record that leaves out each field equal to its default."""


class Circle(_Wire, frozen=True):
    lat: Lat
    lon: Lon
    radius_m: Radius


class Destination(_Wire, frozen=True, kw_only=True, tag_field="kind", tag="destination"):
    """Where an entity is to go: it has arrived when a ping is at most `radius_m` from there.

    `set_ts` is when it was set: a destination that is set again, with a later time, can be arrived at again.
    """

    entity_id: _Entity
    destination_id: _Name = DEFAULT_ID
    lat: Lat
    lon: Lon
    radius_m: Radius
    set_ts: Time
    deadline_ts: Time | None = None


class Geofence(_Wire, frozen=True, kw_only=True, tag_field="kind", tag="geofence"):
    """An area, of which it is told how likely entities are inside at each horizon: a circle, or a polygon.

    `polygon` has rings as GeoJSON has them: [longitude, latitude] pairs, the first ring is the outline and the others
    are holes; the first corner may be repeated at the end. `entity_id` is absent where the area is for all entities.
    """

    geofence_id: _Name
    circle: Circle | None = None
    polygon: Rings | None = None
    entity_id: _Entity | None = None

    def __post_init__(self) -> None:
        if (self.circle is None) == (self.polygon is None):
            raise ValueError("a geofence has either a circle or a polygon")
        if self.polygon is not None and sum(map(len, self.polygon)) > MAX_CORNERS:
            raise ValueError(f"a polygon has at most {MAX_CORNERS} corners")


class Reached(_Wire, frozen=True, kw_only=True, tag_field="kind", tag="reached"):
    """Notes that an entity has arrived at a destination, as it was set then: who goes on knows that this is published.

    It is written in the same transaction as `Arrived`. Another value of the destination's key does not take it back.
    """

    entity_id: _Entity
    destination_id: _Name
    set_ts: Time


class Arrival(_Wire, frozen=True, kw_only=True, tag_field="kind", tag="arrival"):
    """When an entity will be at its destination, as one forecast has it, provided that it goes there.

    Seconds are from the forecast's anchor, `anchor_ts`. It arrives between `early_s` and `late_s` nine times in ten,
    between `early_80_s` and `late_80_s` eight times in ten, and half of the times before `in_s`.
    """

    arrival_id: str
    entity_id: str
    destination_id: str
    set_ts: int
    forecast_id: str
    anchor_ts: int
    distance_m: float  # from the anchor to the edge of the destination, in a straight line
    in_s: float
    early_s: float
    late_s: float
    early_80_s: float
    late_80_s: float
    eta_ts: int  # anchor_ts and in_s: half of the times it has arrived by then
    deadline_ts: int | None = None
    chance_by_deadline: float | None = None  # absent without a deadline
    # How many earlier passages from about here to there it rests on. 0: it rests on the forecast alone.
    passages: int


class Arrived(_Wire, frozen=True, kw_only=True, tag_field="kind", tag="arrived"):
    """A ping was at the destination: once for each time that a destination is set."""

    arrival_id: str
    entity_id: str
    destination_id: str
    set_ts: int
    forecast_id: str  # of the ping's forecast
    ts: int  # of the ping
    lat: float
    lon: float
    deadline_ts: int | None = None
    late_s: float | None = None  # after the deadline; below 0: before it. Absent without a deadline


class Chance(_Wire, frozen=True):
    """How likely the entity is inside, `h_s` seconds after the anchor."""

    h_s: float
    chance: float


class FenceChances(_Wire, frozen=True):
    geofence_id: str
    now: bool  # whether the anchor is inside
    chances: tuple[Chance, ...]


class Inside(_Wire, frozen=True, kw_only=True, tag_field="kind", tag="inside"):
    """How likely an entity is inside each geofence at each horizon of a forecast.

    Geofences are left out in which it is not, and at all horizons hardly is.
    """

    arrival_id: str
    entity_id: str
    forecast_id: str
    anchor_ts: int
    geofences: tuple[FenceChances, ...]


DestinationRecord = Destination | Geofence | Reached  # what the destinations topic holds
ArrivalRecord = Arrival | Arrived | Inside  # what the arrivals topic holds

_ENCODER: Final = msgspec.json.Encoder()
_DESTINATION: Final[msgspec.json.Decoder[DestinationRecord]] = msgspec.json.Decoder(DestinationRecord)
_ARRIVAL: Final[msgspec.json.Decoder[ArrivalRecord]] = msgspec.json.Decoder(ArrivalRecord)


def dumps_arrivals(record: DestinationRecord | ArrivalRecord) -> bytes:
    return _ENCODER.encode(record)


def loads_destination(raw: bytes) -> DestinationRecord:
    """Parses a record of the destinations topic. Raises msgspec.DecodeError (a ValueError) for anything else."""
    return decoded(_DESTINATION, raw)


def loads_arrival(raw: bytes) -> ArrivalRecord:
    """Parses a record of the arrivals topic. Raises msgspec.DecodeError (a ValueError) for anything else."""
    return decoded(_ARRIVAL, raw)


def destination_of(value: Any) -> DestinationRecord:
    """Returns the record that a JSON object stands for, as of a file. Raises msgspec.ValidationError."""
    found: DestinationRecord = msgspec.convert(value, type=DestinationRecord)
    return found


def destination_key(entity_id: str, destination_id: str = DEFAULT_ID) -> str:
    return entity_id if destination_id == DEFAULT_ID else f"{entity_id}/{destination_id}"


def geofence_key(geofence_id: str, entity_id: str | None = None) -> str:
    return f"geofence:{geofence_id}" if entity_id is None else f"geofence:{entity_id}/{geofence_id}"


def reached_key(entity_id: str, destination_id: str) -> str:
    return f"reached:{destination_key(entity_id, destination_id)}"


def arrival_id(kind: Literal["arrival", "arrived", "inside"], *parts: str | int) -> str:
    """Returns the id of a record, always the same for the same parts.

    Of an Arrival these are its forecast's id, the destination's id and when that was set; of an Arrived the entity, the
    destination and when it was set; of an Inside the forecast's id.
    """
    joined = ID_SEPARATOR.join([kind, *map(str, parts)])
    return blake2b(joined.encode(), digest_size=ID_CHARS // 2).hexdigest()
