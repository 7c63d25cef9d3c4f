"""Records of trips under way, made of a schedule. Tests import this; it tests nothing itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from stream.transit.schedule import Schedule, Trip
from stream.transit.schedule.days import day_of
from stream.wire import NO_TIME_MS, Record
from stream.wire.trips import StopAhead, TripUnderWay, dumps_trip, trip_key, update_id

FEED: Final = Path(__file__).parents[2] / "transit" / "austin.zip"
DAY: Final = "20161216"


def under_way(schedule: Schedule, trip: Trip, late_s: float = 60.0, first: int = 1, **more: Any) -> TripUnderWay:
    """Returns a trip whose vehicle is as late at each stop from the number `first` on, 30 s before that stop."""
    start_s = schedule.days.start_s(day_of(DAY))
    stops = []
    for number in range(first, len(trip.stops_N)):
        place = schedule.stops[trip.stops_N[number]]
        arrival_ms = round(1000 * (start_s + trip.arrival_N[number]))
        departure_ms = round(1000 * (start_s + trip.departure_N[number]))
        stops.append(
            StopAhead(
                sequence=int(trip.sequence_N[number]),
                stop_id=trip.stops_N[number],
                lat=place[0],
                lon=place[1],
                scheduled_arrival_ts=arrival_ms,
                scheduled_departure_ts=departure_ms,
                prediction="predicted",
                arrival_ts=round(arrival_ms + 1000 * late_s),
                departure_ts=round(departure_ms + 1000 * late_s),
                early_ts=round(arrival_ms + 1000 * late_s) - 40_000,
                late_ts=round(arrival_ms + 1000 * late_s) + 80_000,
            )
        )
    ts = (stops[0].arrival_ts or 0) - 30_000
    begins_s = int(trip.departure_N[0])
    record = TripUnderWay(
        update_id=update_id(DAY, trip.trip_id, "v-1", ts),
        trip_id=trip.trip_id,
        start_date=DAY,
        start_time=f"{begins_s // 3600:02}:{begins_s // 60 % 60:02}:{begins_s % 60:02}",
        route_id=trip.route_id,
        direction_id=trip.direction_id,
        entity_id=f"v-{trip.trip_id}",
        ts=ts,
        ping_ts=ts,
        lat=stops[0].lat,
        lon=stops[0].lon,
        heading_deg=90.0,
        speed_mps=5.0,
        along_m=100.0,
        position="under_way",
        delay_s=late_s,
        feed="0" * 16,
        stops=tuple(stops),
    )
    return msgspec.structs.replace(record, **more)


def record_of(trip: TripUnderWay, offset: int = 0) -> Record:
    """Returns the record of the topic."""
    key = trip_key(trip.start_date, trip.trip_id, trip.entity_id).encode()
    return Record("pathcast.trips.v1", 0, offset, NO_TIME_MS, key, dumps_trip(trip))
