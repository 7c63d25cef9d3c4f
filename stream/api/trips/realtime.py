"""Makes GTFS-Realtime of trips under way: TripUpdates and VehiclePositions, each a full data set. Pure functions.

The specification is https://gtfs.org/documentation/realtime/reference/. It counts in whole seconds, and wants the times
of a trip to increase from stop to stop: where two of ours fall into the same second, the later one is put off by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from google.protobuf.json_format import MessageToJson
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


def trip_updates(trips: Iterable[TripUnderWay], now_ms: int) -> pb.FeedMessage:
    """Returns when each trip reaches its stops ahead, as of a time (ms UTC). Trips have different names."""
    message = _begin(now_ms)
    for trip in trips:
        if not trip.stops:
            continue
        entity = message.entity.add(id=f"{trip.start_date}/{trip.trip_id}")
        update = entity.trip_update
        _name_trip(update.trip, trip)
        update.vehicle.id = trip.entity_id
        update.timestamp = min(trip.ts, now_ms) // 1000
        if trip.delay_s is not None:
            update.delay = round(trip.delay_s)
        after_s = 0
        for stop in trip.stops:
            after_s = _add_call(update, stop, after_s)
    return message


def vehicle_positions(trips: Iterable[TripUnderWay], now_ms: int) -> pb.FeedMessage:
    """Returns where the vehicles of trips are, as of a time (ms UTC). Of several trips of a vehicle, the last heard."""
    newest: dict[str, TripUnderWay] = {}
    for trip in trips:
        other = newest.get(trip.entity_id)
        if other is None or trip.ping_ts > other.ping_ts:
            newest[trip.entity_id] = trip
    message = _begin(now_ms)
    for entity_id, trip in newest.items():
        vehicle = message.entity.add(id=entity_id).vehicle
        _name_trip(vehicle.trip, trip)
        vehicle.vehicle.id = entity_id
        vehicle.position.latitude, vehicle.position.longitude = trip.lat, trip.lon
        if trip.heading_deg is not None:
            vehicle.position.bearing = trip.heading_deg
        if trip.speed_mps is not None:
            vehicle.position.speed = trip.speed_mps
        vehicle.timestamp = min(trip.ping_ts, now_ms) // 1000  # nothing may be newer than the feed
        if trip.stops:
            vehicle.current_stop_sequence, vehicle.stop_id = trip.stops[0].sequence, trip.stops[0].stop_id
            vehicle.current_status = _POSITIONS[trip.position]
    return message


MAKE: Final = {"trip-updates": trip_updates, "vehicle-positions": vehicle_positions}


def encode(message: pb.FeedMessage, *, as_json: bool) -> bytes:
    """Returns the message as protobuf, or as protobuf's own JSON with the names of the specification."""
    if as_json:
        text: str = MessageToJson(message, preserving_proto_field_name=True, indent=None)
        return text.encode()
    return bytes(message.SerializeToString(deterministic=True))


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
