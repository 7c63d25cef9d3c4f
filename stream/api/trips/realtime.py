"""Makes GTFS-Realtime of trips under way: TripUpdates and VehiclePositions, each a full data set. Pure functions.

The specification is https://gtfs.org/documentation/realtime/reference/. It counts in whole seconds, and wants the times
of a trip to increase from stop to stop: where two of ours fall into the same second, the later one is put off by one.

    a record -> its entity, as a dict with the names of the specification -> protobuf, or JSON

The JSON is protobuf's own mapping (https://protobuf.dev/programming-guides/json/): numbers of 64 bits are texts there,
and floats of 32 bits have as few digits from 6 on as tell them apart. It is written from the dict, as
protobuf's own writer takes seven times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
from google.transit import gtfs_realtime_pb2 as pb

from stream.wire.trips import StopAhead, TripUnderWay

VERSION: Final = "2.0"
Kind = Literal["trip-updates", "vehicle-positions"]
Entity = dict[str, Any]

_POSITIONS: Final = {"incoming": "INCOMING_AT", "stopped": "STOPPED_AT", "under_way": "IN_TRANSIT_TO"}
_ENCODER: Final = msgspec.json.Encoder()


class Numbers(NamedTuple):
    """Says how numbers are written, where the two forms of a message differ."""

    int64: Callable[[int], int | str]
    float32: Callable[[float], float]


def _shorten(value: float) -> float:
    single = float(np.float32(value))
    rounded = (float(f"{single:.{digits}g}") for digits in range(6, 9))  # from 6 on, as protobuf's own writer has them
    return next((one for one in rounded if np.float32(one) == single), float(f"{single:.9g}"))


IN_PROTOBUF: Final = Numbers(int, float)
IN_JSON: Final = Numbers(str, _shorten)


def update_entity(trip: TripUnderWay, numbers: Numbers) -> Entity | None:
    """Returns when a trip reaches its stops ahead; None if there are none."""
    if not trip.stops:
        return None
    update: Entity = {
        "trip": _name_trip(trip),
        "vehicle": {"id": trip.entity_id},
        "timestamp": numbers.int64(trip.ts // 1000),
        "stop_time_update": _calls(trip.stops, numbers.int64),
    }
    if trip.delay_s is not None:
        update["delay"] = round(trip.delay_s)
    return {"id": f"{trip.start_date}/{trip.trip_id}", "trip_update": update}


def position_entity(trip: TripUnderWay, numbers: Numbers) -> Entity:
    """Returns where the vehicle of a trip is."""
    position = {"latitude": trip.lat, "longitude": trip.lon, "bearing": trip.heading_deg, "speed": trip.speed_mps}
    vehicle: Entity = {
        "trip": _name_trip(trip),
        "vehicle": {"id": trip.entity_id},
        "position": {name: numbers.float32(value) for name, value in position.items() if value is not None},
        "timestamp": numbers.int64(min(trip.ping_ts, trip.ts) // 1000),  # nothing may be newer than the feed
    }
    if trip.stops:
        vehicle["current_stop_sequence"], vehicle["stop_id"] = trip.stops[0].sequence, trip.stops[0].stop_id
        vehicle["current_status"] = _POSITIONS[trip.position]
    return {"id": trip.entity_id, "vehicle": vehicle}


def newest_of_vehicles(trips: Iterable[TripUnderWay]) -> list[TripUnderWay]:
    """Returns one trip of each vehicle: of several, the last heard."""
    newest: dict[str, TripUnderWay] = {}
    for trip in trips:
        other = newest.get(trip.entity_id)
        if other is None or trip.ping_ts > other.ping_ts:
            newest[trip.entity_id] = trip
    return list(newest.values())


class Writer:
    """Writes one feed again and again: bytes are made anew only of trips that have changed since.

    Messages of protobuf that stand one behind the other are one message, with the entities of all. So each entity is
    kept as a message of its own, without a header.
    """

    def __init__(self, kind: Kind, *, as_json: bool) -> None:
        self._kind, self._as_json = kind, as_json
        self._parts: dict[tuple[str, str, str], tuple[TripUnderWay, bytes]] = {}

    def write(self, trips: Iterable[TripUnderWay], now_ms: int) -> bytes:
        """Returns the feed as of a time (ms UTC), which no trip is later than. Trips have different names."""
        some = trips if self._kind == "trip-updates" else newest_of_vehicles(trips)
        names = {(trip.start_date, trip.trip_id, trip.entity_id): trip for trip in some}
        for name in self._parts.keys() - names.keys():
            del self._parts[name]
        parts = [part for name, trip in names.items() if (part := self._part(name, trip))]
        seconds = IN_JSON.int64(now_ms // 1000) if self._as_json else now_ms // 1000
        header = {"gtfs_realtime_version": VERSION, "incrementality": "FULL_DATASET", "timestamp": seconds}
        if not self._as_json:
            return b"".join([_message(header=header), *parts])
        head = _ENCODER.encode({"header": header})
        return b"".join([head[:-1], b', "entity": [', b", ".join(parts), b"]}"]) if parts else head

    def _part(self, name: tuple[str, str, str], trip: TripUnderWay) -> bytes:
        known = self._parts.get(name)
        if known is not None and known[0] is trip:
            return known[1]
        numbers = IN_JSON if self._as_json else IN_PROTOBUF
        updates = self._kind == "trip-updates"
        entity = update_entity(trip, numbers) if updates else position_entity(trip, numbers)
        part = b""
        if entity is not None:
            part = _ENCODER.encode(entity) if self._as_json else _message(entity=[entity])
        self._parts[name] = trip, part
        return part


def _message(**fields: Any) -> bytes:
    return bytes(pb.FeedMessage(**fields).SerializePartialToString(deterministic=True))


def _name_trip(trip: TripUnderWay) -> Entity:
    descriptor = {
        "trip_id": trip.trip_id,
        "route_id": trip.route_id,
        "start_date": trip.start_date,
        "start_time": trip.start_time,
        "schedule_relationship": "SCHEDULED",
    }
    return descriptor if trip.direction_id is None else {**descriptor, "direction_id": trip.direction_id}


def _calls(stops: Iterable[StopAhead], int64: Callable[[int], int | str]) -> list[Entity]:
    """Returns when the stops are reached and left."""
    calls: list[Entity] = []
    left_s = 0  # when the stop before is left
    for stop in stops:
        call: Entity = {"stop_sequence": stop.sequence, "stop_id": stop.stop_id}
        calls.append(call)
        if stop.prediction != "predicted" or stop.arrival_ts is None:
            call["schedule_relationship"] = "SKIPPED" if stop.prediction == "skipped" else "NO_DATA"
            continue
        call["schedule_relationship"] = "SCHEDULED"
        arrival_s = max(round(stop.arrival_ts / 1000), left_s + 1)
        left_s = max(round((stop.departure_ts or stop.arrival_ts) / 1000), arrival_s)
        call["arrival"] = {"time": int64(arrival_s), "delay": arrival_s - round(stop.scheduled_arrival_ts / 1000)}
        call["departure"] = {"time": int64(left_s), "delay": left_s - round(stop.scheduled_departure_ts / 1000)}
        if stop.early_ts is not None and stop.late_ts is not None:
            uncertainty_s = max(1, round((stop.late_ts - stop.early_ts) / 2_000))
            call["arrival"]["uncertainty"] = call["departure"]["uncertainty"] = uncertainty_s
    return calls
