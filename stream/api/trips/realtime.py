"""Makes GTFS-Realtime of trips under way: TripUpdates and VehiclePositions, each a full data set. Pure functions.

The specification is https://gtfs.org/documentation/realtime/reference/. It counts in whole seconds, and wants the times
of a trip to increase from stop to stop: where two of ours fall into the same second, the later one is put off by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.transit import gtfs_realtime_pb2 as pb

from stream.wire.trips import StopAhead, TripUnderWay

VERSION: Final = "2.0"
Kind = Literal["trip-updates", "vehicle-positions"]

_CALLS: Final = pb.TripUpdate.StopTimeUpdate
_POSITIONS: Final = {
    "incoming": pb.VehiclePosition.INCOMING_AT,
    "stopped": pb.VehiclePosition.STOPPED_AT,
    "under_way": pb.VehiclePosition.IN_TRANSIT_TO,
}


def update_entity(trip: TripUnderWay) -> pb.FeedEntity | None:
    """Returns when a trip reaches its stops ahead; None if there are none."""
    if not trip.stops:
        return None
    entity = pb.FeedEntity(id=f"{trip.start_date}/{trip.trip_id}")
    update = entity.trip_update
    _name_trip(update.trip, trip)
    update.vehicle.id = trip.entity_id
    update.timestamp = trip.ts // 1000
    if trip.delay_s is not None:
        update.delay = round(trip.delay_s)
    after_s = 0
    for stop in trip.stops:
        after_s = _add_call(update, stop, after_s)
    return entity


def position_entity(trip: TripUnderWay) -> pb.FeedEntity:
    """Returns where the vehicle of a trip is."""
    entity = pb.FeedEntity(id=trip.entity_id)
    vehicle = entity.vehicle
    _name_trip(vehicle.trip, trip)
    vehicle.vehicle.id = trip.entity_id
    vehicle.position.latitude, vehicle.position.longitude = trip.lat, trip.lon
    if trip.heading_deg is not None:
        vehicle.position.bearing = trip.heading_deg
    if trip.speed_mps is not None:
        vehicle.position.speed = trip.speed_mps
    vehicle.timestamp = min(trip.ping_ts, trip.ts) // 1000  # nothing may be newer than the feed
    if trip.stops:
        vehicle.current_stop_sequence, vehicle.stop_id = trip.stops[0].sequence, trip.stops[0].stop_id
        vehicle.current_status = _POSITIONS[trip.position]
    return entity


def newest_of_vehicles(trips: Iterable[TripUnderWay]) -> list[TripUnderWay]:
    """Returns one trip of each vehicle: of several, the last heard."""
    newest: dict[str, TripUnderWay] = {}
    for trip in trips:
        other = newest.get(trip.entity_id)
        if other is None or trip.ping_ts > other.ping_ts:
            newest[trip.entity_id] = trip
    return list(newest.values())


def trip_updates(trips: Iterable[TripUnderWay], now_ms: int) -> pb.FeedMessage:
    """Returns when each trip reaches its stops ahead, as of a time (ms UTC), which no trip is later than. Trips have
    different names."""
    return _message([update_entity(trip) for trip in trips], now_ms)


def vehicle_positions(trips: Iterable[TripUnderWay], now_ms: int) -> pb.FeedMessage:
    """Returns where the vehicles of trips are, as of a time (ms UTC), which no trip is later than."""
    return _message([position_entity(trip) for trip in newest_of_vehicles(trips)], now_ms)


def _message(entities: Iterable[pb.FeedEntity | None], now_ms: int) -> pb.FeedMessage:
    message = _begin(now_ms)
    message.entity.extend(one for one in entities if one is not None)
    return message


def encode(message: pb.FeedMessage, *, as_json: bool) -> bytes:
    """Returns the message as protobuf, or as protobuf's own JSON with the names of the specification."""
    if as_json:
        return _as_json(message)
    return bytes(message.SerializeToString(deterministic=True))


class Writer:
    """Writes one feed again and again: bytes are made anew only of trips that have changed since.

    Messages of protobuf that stand one behind the other are one message, with the entities of all. So each entity is
    kept as a message of its own, without a header.
    """

    def __init__(self, kind: Kind, *, as_json: bool) -> None:
        self._kind, self._as_json = kind, as_json
        self._parts: dict[tuple[str, str, str], tuple[TripUnderWay, bytes]] = {}

    def write(self, trips: Iterable[TripUnderWay], now_ms: int) -> bytes:
        """Returns what `encode` returns of `trip_updates` or `vehicle_positions`."""
        some = trips if self._kind == "trip-updates" else newest_of_vehicles(trips)
        names = {(trip.start_date, trip.trip_id, trip.entity_id): trip for trip in some}
        for name in self._parts.keys() - names.keys():
            del self._parts[name]
        parts = [part for name, trip in names.items() if (part := self._part(name, trip))]
        head = encode(_begin(now_ms), as_json=self._as_json)
        if not self._as_json:
            return b"".join([head, *parts])
        return b"".join([head[:-1], b', "entity": [', b", ".join(parts), b"]}"]) if parts else head

    def _part(self, name: tuple[str, str, str], trip: TripUnderWay) -> bytes:
        known = self._parts.get(name)
        if known is not None and known[0] is trip:
            return known[1]
        entity = update_entity(trip) if self._kind == "trip-updates" else position_entity(trip)
        part = b""
        if entity is not None and self._as_json:
            part = _as_json(entity)
        elif entity is not None:
            part = bytes(pb.FeedMessage(entity=[entity]).SerializePartialToString(deterministic=True))
        self._parts[name] = trip, part
        return part


def _as_json(message: Message) -> bytes:
    text: str = MessageToJson(message, preserving_proto_field_name=True, indent=None)
    return text.encode()


def _begin(now_ms: int) -> pb.FeedMessage:
    message = pb.FeedMessage()
    message.header.gtfs_realtime_version = VERSION
    message.header.incrementality = pb.FeedHeader.FULL_DATASET
    message.header.timestamp = now_ms // 1000
    return message


def _name_trip(descriptor: pb.TripDescriptor, trip: TripUnderWay) -> None:
    descriptor.trip_id, descriptor.route_id = trip.trip_id, trip.route_id
    descriptor.start_date, descriptor.start_time = trip.start_date, trip.start_time
    descriptor.schedule_relationship = pb.TripDescriptor.SCHEDULED
    if trip.direction_id is not None:
        descriptor.direction_id = trip.direction_id


def _add_call(update: pb.TripUpdate, stop: StopAhead, after_s: int) -> int:
    """Adds a stop, which is reached after a time (s UTC). Returns when it is left, or that time if nobody knows."""
    call = update.stop_time_update.add(stop_sequence=stop.sequence, stop_id=stop.stop_id)
    if stop.prediction != "predicted" or stop.arrival_ts is None:
        skipped = stop.prediction == "skipped"
        call.schedule_relationship = _CALLS.SKIPPED if skipped else _CALLS.NO_DATA
        return after_s
    call.schedule_relationship = _CALLS.SCHEDULED
    arrival_s = max(round(stop.arrival_ts / 1000), after_s + 1)
    departure_s = max(round((stop.departure_ts or stop.arrival_ts) / 1000), arrival_s)
    uncertainty_s = 0
    if stop.early_ts is not None and stop.late_ts is not None:
        uncertainty_s = max(1, round((stop.late_ts - stop.early_ts) / 2_000))
    for event, time_s, scheduled_ts in (
        (call.arrival, arrival_s, stop.scheduled_arrival_ts),
        (call.departure, departure_s, stop.scheduled_departure_ts),
    ):
        event.time, event.delay = time_s, time_s - round(scheduled_ts / 1000)
        if uncertainty_s:
            event.uncertainty = uncertainty_s
    return departure_s
