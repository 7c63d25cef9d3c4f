"""The records of trips under way: how far a vehicle is on its trip of a schedule, and when it reaches its stops ahead.

    <prefix>.trips.v1   START_DATE/TRIP_ID/ENTITY_ID   TripUnderWay, compacted; no value once the trip is over

Only `pathcast beside transit` writes them. A record is in the partition whose number is that of its entity's pings. Two
vehicles may name one trip; whoever wants one record for each trip takes the one with the latest `ts`.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated, Final, Literal

import msgspec

from stream.wire.ids import ID_CHARS, ID_SEPARATOR
from stream.wire.messages import EPOCH_MS, WireStruct, decode, means

Position = Literal["incoming", "stopped", "under_way"]
Prediction = Literal["predicted", "unknown", "skipped"]


class StopAhead(WireStruct, frozen=True, kw_only=True):
    """A stop that the vehicle has not left yet."""

    sequence: Annotated[int, means("its stop_sequence in the schedule")]
    stop_id: Annotated[str, means("its id in the schedule")]
    name: Annotated[str | None, means("what the schedule calls it")] = None
    lat: Annotated[float, means("latitude in degrees, WGS84")]
    lon: Annotated[float, means("longitude in degrees, WGS84")]
    scheduled_arrival_ts: Annotated[int, means(f"the schedule's time of arrival, {EPOCH_MS}")]
    scheduled_departure_ts: Annotated[int, means(f"the schedule's time of departure, {EPOCH_MS}")]
    prediction: Annotated[
        Prediction,
        means("predicted: the next four fields are there; unknown: nobody can tell, as behind a detour; skipped: the "
              "vehicle does not call there"),
    ] = "predicted"  # fmt: skip
    arrival_ts: Annotated[int | None, means(f"the time of arrival, {EPOCH_MS}")] = None
    departure_ts: Annotated[int | None, means(f"the time of departure, {EPOCH_MS}")] = None
    early_ts: Annotated[int | None, means(f"nine times in ten it arrives from then on, to late_ts, {EPOCH_MS}")] = None
    late_ts: Annotated[int | None, means(f"nine times in ten it arrives by then, from early_ts on, {EPOCH_MS}")] = None


class TripUnderWay(WireStruct, frozen=True, kw_only=True):
    """A vehicle on a trip of the schedule, and the times at which it reaches its stops ahead."""

    update_id: Annotated[str, means("always the same for the same trip, vehicle and ts: drop duplicates by it")]
    trip_id: Annotated[str, means("the trip in the schedule")]
    start_date: Annotated[str, means("its service day, as YYYYMMDD")]
    start_time: Annotated[str, means("when it begins by the schedule, as HH:MM:SS of the service day; may pass 24:00")]
    route_id: Annotated[str, means("its route in the schedule")]
    direction_id: Annotated[int | None, means("0 or 1, where the schedule has it")] = None
    headsign: Annotated[str | None, means("where the schedule says that it goes")] = None
    entity_id: Annotated[str, means("the vehicle")]
    ts: Annotated[int, means(f"the time that it is predicted for: until then pings are known, {EPOCH_MS}")]
    ping_ts: Annotated[int, means(f"the vehicle's newest ping on its path, {EPOCH_MS}")]
    lat: Annotated[float, means("latitude of that ping in degrees, WGS84")]
    lon: Annotated[float, means("longitude of that ping in degrees, WGS84")]
    heading_deg: Annotated[float | None, means("its direction, in degrees clockwise from north")] = None
    speed_mps: Annotated[float | None, means("its speed in metres a second")] = None
    along_m: Annotated[float, means("metres along the trip's path")]
    position: Annotated[Position, means("what it does towards the first stop of stops; stopped: it stands there")]
    delay_s: Annotated[float | None, means("seconds behind the schedule; below 0: before it")] = None
    assigned: Annotated[
        bool | None, means("true: the vehicle does not name its trip, which was found by its way and time")
    ] = None
    feed: Annotated[str, means("which schedule the trip is of: the begin of the SHA-256 of its zip")]
    stops: Annotated[tuple[StopAhead, ...], means("the stops ahead in their order, the next one first")]


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(TripUnderWay)


def dumps_trip(trip: TripUnderWay) -> bytes:
    return _ENCODER.encode(trip)


def loads_trip(raw: bytes) -> TripUnderWay:
    """Parses a record of the trips topic. Raises msgspec.DecodeError (a ValueError) for anything else."""
    return decode(_DECODER, raw)


def trip_key(start_date: str, trip_id: str, entity_id: str) -> str:
    return f"{start_date}/{trip_id}/{entity_id}"


def update_id(start_date: str, trip_id: str, entity_id: str, ts: int) -> str:
    joined = ID_SEPARATOR.join(["trip", start_date, trip_id, entity_id, str(ts)])
    return blake2b(joined.encode(), digest_size=ID_CHARS // 2).hexdigest()
