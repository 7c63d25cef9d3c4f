"""Reads the pings of trips from a recorded file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from stream.adapters.files import RecordedRows
from stream.tracks.clean import parse
from stream.transit.replaying import TripPing
from stream.wire import Ping, Record


def trip_pings(rows: RecordedRows, left: dict[str, int], progress: Callable[[int], object]) -> Iterator[TripPing]:
    """Yields the rows that are pings with a trip, and counts the others in `left`: pings, rejects, without_trip."""
    now_ms = time.time_ns() // 1_000_000
    for number, row in enumerate(rows):
        if number % 1024 == 0:
            progress(number)
        ping = parse(Record("", 0, 0, now_ms, row.key, row.value))
        if not isinstance(ping, Ping):
            left["rejects"] += 1
            continue
        left["pings"] += 1
        if ping.trip_id is None:
            left["without_trip"] += 1
            continue
        speed_mps = float("nan") if ping.speed_mps is None else ping.speed_mps
        yield TripPing(ping.entity_id, ping.trip_id, ping.ts / 1000, ping.lat, ping.lon, speed_mps)
