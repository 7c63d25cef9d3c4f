"""The records of destinations and arrivals.

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
from stream.wire.messages import EPOCH_MS, MAX_TEXT_CHARS, MAX_TS_MS, MIN_TS_MS, WireStruct, decode, means
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

_DestinationTime = Annotated[int, means(f"when that destination was set, {EPOCH_MS}")]
_Deadline = Annotated[int | None, means(f"the destination's deadline, {EPOCH_MS}")]
_AnchorTime = Annotated[int, means(f"when the forecast's ping was, {EPOCH_MS}")]
_Where = Annotated[str, means("the id of the destination")]
_Who = Annotated[str, means("the entity; also the record's key")]
_ArrivalId = Annotated[str, means("always the same for the same event: drop duplicates by it")]
_ForecastId = Annotated[str, means("the id of the forecast that it was made from")]


class Circle(WireStruct, frozen=True):
    """A circle on the ground."""

    lat: Annotated[Lat, means("latitude of its middle in degrees, WGS84")]
    lon: Annotated[Lon, means("longitude of its middle in degrees, WGS84")]
    radius_m: Annotated[Radius, means("metres")]


class Destination(WireStruct, frozen=True, kw_only=True, tag_field="kind", tag="destination"):
    """The place where an entity is to go. It has arrived when a ping is at most radius_m from there.

    A destination that is set again, with a later `set_ts`, can be arrived at again.
    """

    entity_id: Annotated[_Entity, means("the entity that is to go there")]
    destination_id: Annotated[_Name, means("its name, for an entity with several")] = DEFAULT_ID
    lat: Annotated[Lat, means("latitude in degrees, WGS84")]
    lon: Annotated[Lon, means("longitude in degrees, WGS84")]
    radius_m: Annotated[Radius, means("metres; a ping inside is an arrival")]
    set_ts: Annotated[Time, means(f"when it was set, {EPOCH_MS}")]
    deadline_ts: Annotated[Time | None, means(f"when it has to be there, {EPOCH_MS}")] = None


class Geofence(WireStruct, frozen=True, kw_only=True, tag_field="kind", tag="geofence"):
    """An area, a circle or a polygon: the service publishes how likely entities are inside.

    The rings of a polygon are those of GeoJSON: the first corner may be repeated at the end.
    """

    geofence_id: Annotated[_Name, means("its name")]
    circle: Annotated[Circle | None, means("the area, or absent")] = None
    polygon: Annotated[
        Rings | None,
        means("the area, or absent: rings of [longitude, latitude] in degrees, the outline first, then holes"),
    ] = None
    entity_id: Annotated[_Entity | None, means("the entity that the geofence is for; absent: all entities")] = None

    def __post_init__(self) -> None:
        if (self.circle is None) == (self.polygon is None):
            raise ValueError("a geofence has either a circle or a polygon")
        if self.polygon is not None and sum(map(len, self.polygon)) > MAX_CORNERS:
            raise ValueError(f"a polygon has at most {MAX_CORNERS} corners")


class Reached(WireStruct, frozen=True, kw_only=True, tag_field="kind", tag="reached"):
    """A note of the service, for its successor, that it has published an arrival.

    It is written in the same transaction as `Arrived`. Another value of the destination's key does not take it back.
    """

    entity_id: Annotated[_Entity, means("the entity that has arrived")]
    destination_id: Annotated[_Name, means("the id of the destination")]
    set_ts: Annotated[Time, means(f"when that destination was set, {EPOCH_MS}")]


class Arrival(WireStruct, frozen=True, kw_only=True, tag_field="kind", tag="arrival"):
    """The time at which an entity will be at its destination, provided that it goes there."""

    arrival_id: _ArrivalId
    entity_id: _Who
    destination_id: _Where
    set_ts: _DestinationTime
    forecast_id: _ForecastId
    anchor_ts: _AnchorTime
    distance_m: Annotated[float, means("metres from the anchor to the edge of the destination, in a straight line")]
    in_s: Annotated[float, means("half of the times it is there after so many seconds from the anchor on")]
    early_s: Annotated[float, means("nine times in ten it arrives after so many seconds or more, and late_s or fewer")]
    late_s: Annotated[float, means("nine times in ten it arrives after early_s seconds or more, and so many or fewer")]
    early_80_s: Annotated[float, means("the same for eight times in ten")]
    late_80_s: Annotated[float, means("the same for eight times in ten")]
    eta_ts: Annotated[int, means(f"anchor_ts and in_s, {EPOCH_MS}")]
    deadline_ts: _Deadline = None
    chance_by_deadline: Annotated[
        float | None, means("how likely it is there by the deadline, 0 to 1; absent without one")
    ] = None
    passages: Annotated[int, means("how many earlier passages it rests on; 0: the forecast alone")]


class Arrived(WireStruct, frozen=True, kw_only=True, tag_field="kind", tag="arrived"):
    """The fact that a ping was at the destination. There is one for each time that a destination is set."""

    arrival_id: _ArrivalId
    entity_id: _Who
    destination_id: _Where
    set_ts: _DestinationTime
    forecast_id: _ForecastId
    ts: Annotated[int, means(f"when the ping was, {EPOCH_MS}")]
    lat: Annotated[float, means("latitude of the ping in degrees, WGS84")]
    lon: Annotated[float, means("longitude of the ping in degrees, WGS84")]
    deadline_ts: _Deadline = None
    late_s: Annotated[float | None, means("seconds after the deadline; below 0: before it. Absent without one")] = None


class Chance(WireStruct, frozen=True):
    """The probability that an entity is inside at one time."""

    h_s: Annotated[float, means("seconds after the anchor")]
    chance: Annotated[float, means("the probability, 0 to 1")]


class FenceChances(WireStruct, frozen=True):
    """The probabilities that an entity is inside one geofence."""

    geofence_id: Annotated[str, means("the id of the geofence")]
    now: Annotated[bool, means("whether the anchor is inside")]
    chances: Annotated[tuple[Chance, ...], means("at each horizon of the forecast")]


class Inside(WireStruct, frozen=True, kw_only=True, tag_field="kind", tag="inside"):
    """The probabilities that an entity is inside, for each geofence where it is or is likely to be at some horizon."""

    arrival_id: _ArrivalId
    entity_id: _Who
    forecast_id: _ForecastId
    anchor_ts: _AnchorTime
    geofences: Annotated[tuple[FenceChances, ...], means("those where it is, or is likely to be at some horizon")]


DestinationRecord = Destination | Geofence | Reached  # what the destinations topic holds
ArrivalRecord = Arrival | Arrived | Inside  # what the arrivals topic holds

_ENCODER: Final = msgspec.json.Encoder()
_DESTINATION: Final[msgspec.json.Decoder[DestinationRecord]] = msgspec.json.Decoder(DestinationRecord)
_ARRIVAL: Final[msgspec.json.Decoder[ArrivalRecord]] = msgspec.json.Decoder(ArrivalRecord)


def dumps_arrivals(record: DestinationRecord | ArrivalRecord) -> bytes:
    return _ENCODER.encode(record)


def loads_destination(raw: bytes) -> DestinationRecord:
    """Parses a record of the destinations topic. Raises msgspec.DecodeError (a ValueError) for anything else."""
    return decode(_DESTINATION, raw)


def loads_arrival(raw: bytes) -> ArrivalRecord:
    """Parses a record of the arrivals topic. Raises msgspec.DecodeError (a ValueError) for anything else."""
    return decode(_ARRIVAL, raw)


def destination_of(value: Any) -> DestinationRecord:
    """Returns the record that a JSON object stands for, as of a file. Raises msgspec.ValidationError."""
    record: DestinationRecord = msgspec.convert(value, type=DestinationRecord)
    return record


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
