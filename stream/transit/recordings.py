"""Reads the pings of trips from a recorded file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from stream.adapters.files import RecordedRows
from stream.tracks.clean import parse
from stream.transit.assigning import Assigner
from stream.transit.replaying import TripPing
from stream.wire import Ping, Record


def trip_pings(
    rows: RecordedRows,
    left: dict[str, int],
    progress: Callable[[int], object],
    assigner: Assigner | None = None,
    *,
    ignores_names: bool = False,
) -> Iterator[TripPing]:
    """Yields the rows that are pings on a trip, and counts the others in `left`: rejects, and pings without_trip.
    Of all pings, those whose trip was found are `assigned`.

    Args:
        assigner: finds the trips of vehicles that name none; None: these are left out.
        ignores_names: whether the trips of all vehicles are to be found.
    """
    now_ms = time.time_ns() // 1_000_000
    for number, row in enumerate(rows):
        if number % 1024 == 0:
            progress(number)
        ping = parse(Record("", 0, 0, now_ms, row.key, row.value))
        if not isinstance(ping, Ping):
            left["rejects"] += 1
            continue
        left["pings"] += 1
        trip_id = None if ignores_names else ping.trip_id
        if assigner is not None:
            found = assigner.find(ping.entity_id, ping.ts / 1000, ping.lat, ping.lon, trip_id, route_of(ping))
            trip_id = None if found is None else found.trip_id
            left["assigned"] += found is not None and found.assigned
        if trip_id is None:
            left["without_trip"] += 1
            continue
        speed_mps = float("nan") if ping.speed_mps is None else ping.speed_mps
        yield TripPing(ping.entity_id, trip_id, ping.ts / 1000, ping.lat, ping.lon, speed_mps)


def route_of(ping: Ping) -> str | None:
    """Returns the route that a vehicle names, in the attribute `route_id`; None if it names none."""
    route_id = (ping.attrs or {}).get("route_id")
    return None if route_id is None else str(route_id)
