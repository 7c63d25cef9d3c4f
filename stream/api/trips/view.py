"""Makes what the map shows of trips: the stops ahead of a vehicle, the next arrivals at a stop. Times are ms UTC."""

from __future__ import annotations

from typing import Any, Final

from stream.api.trips.table import TripTable
from stream.wire.trips import TripUnderWay

MOST_CALLS: Final = 12  # of a stop


def trip_view(trip: TripUnderWay) -> dict[str, Any]:
    """Returns a trip with its stops ahead, the next one first; `at` is null where nobody knows."""
    stops = [
        {
            "stop_id": stop.stop_id,
            "name": stop.name or stop.stop_id,
            "lat": stop.lat,
            "lon": stop.lon,
            "at": stop.arrival_ts,
            "early_ts": stop.early_ts,
            "late_ts": stop.late_ts,
            "scheduled_ts": stop.scheduled_arrival_ts,
            "prediction": stop.prediction,
        }
        for stop in trip.stops
    ]
    return {"route": trip.route_id, "headsign": trip.headsign, "delay_s": trip.delay_s, "stops": stops}


def stop_view(table: TripTable, stop_id: str) -> dict[str, Any]:
    """Returns the next arrivals at a stop, the soonest first, and the stop's name; without any, `name` is null."""
    calls = table.calls(stop_id)
    arrivals = [
        {
            "entity_id": trip.entity_id,
            "route": trip.route_id,
            "headsign": trip.headsign,
            "at": stop.arrival_ts,
            "early_ts": stop.early_ts,
            "late_ts": stop.late_ts,
        }
        for trip, stop in calls[:MOST_CALLS]
    ]
    name = (calls[0][1].name or stop_id) if calls else None
    return {"stop_id": stop_id, "name": name, "now_ms": table.newest_ms, "arrivals": arrivals}
