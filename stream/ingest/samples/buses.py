"""Replays buses of Austin, the recording of `pathcast demo`, as a GTFS-Realtime feed over HTTP."""

from __future__ import annotations

import csv
import gzip
import hashlib
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiohttp import web
from google.transit.gtfs_realtime_pb2 import FeedMessage

from stream.config.http_access import Address, unusable
from stream.ingest.samples import Clock

PATH: Final = "/vehicle-positions.pb"
CONTENT_TYPE: Final = "application/x-protobuf"
SHOWN_MS: Final = 15 * 60_000  # a bus that has been silent for longer is not in the feed
AUSTIN: Final = Path(__file__).parents[2] / "demo" / "sample" / "austin_buses.csv.gz"


class Bus(NamedTuple):
    """One recorded position."""

    ms: int
    lat: float
    lon: float
    speed_mps: float | None
    route_id: str
    trip_id: str


Recording = Mapping[str, Sequence[Bus]]


def recording() -> Recording:
    """Returns the positions of each bus, by time."""
    found: dict[str, list[Bus]] = defaultdict(list)
    with gzip.open(AUSTIN, "rt", newline="") as file:
        for row in csv.DictReader(file):
            speed_mps = float(row["speed_mps"]) if row["speed_mps"] else None
            at = Bus(int(row["t"]), float(row["lat"]), float(row["lon"]), speed_mps, row["route_id"], row["trip_id"])
            found[row["entity_id"]].append(at)
    return {vehicle: sorted(buses) for vehicle, buses in found.items()}


def render_feed(buses: Recording, clock: Clock, now_ms: int) -> bytes:
    """Returns the feed at a time: the newest position of each bus."""
    until_ms = clock.recorded_ms(now_ms)
    message = FeedMessage()
    message.header.gtfs_realtime_version = "2.0"
    message.header.timestamp = (until_ms + clock.shift_ms) // 1000
    for vehicle, recorded in buses.items():
        found = bisect_right(recorded, until_ms, key=lambda bus: bus.ms)
        if found and until_ms - recorded[found - 1].ms <= SHOWN_MS:
            _add(message, vehicle, recorded[found - 1], clock.shift_ms)
    return bytes(message.SerializeToString())


def _add(message: Any, vehicle: str, bus: Bus, shift_ms: int) -> None:
    item = message.entity.add(id=vehicle)
    item.vehicle.vehicle.id = vehicle
    item.vehicle.trip.trip_id = bus.trip_id
    item.vehicle.trip.route_id = bus.route_id
    item.vehicle.timestamp = (bus.ms + shift_ms) // 1000
    item.vehicle.position.latitude = bus.lat
    item.vehicle.position.longitude = bus.lon
    if bus.speed_mps is not None:
        item.vehicle.position.speed = bus.speed_mps


async def serve(address: Address, speedup: float) -> web.AppRunner:
    """Serves the feed at `address` and PATH until the runner is cleaned up. Raises OSError if it cannot be used."""
    buses = recording()
    times = [bus.ms for recorded in buses.values() for bus in recorded]
    clock = Clock(min(times), max(times), time.time_ns() // 1_000_000, speedup)

    async def answer(request: web.Request) -> web.Response:
        body = render_feed(buses, clock, time.time_ns() // 1_000_000)
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        return web.Response(body=body, content_type=CONTENT_TYPE, headers={"ETag": tag})

    app = web.Application()
    app.router.add_get(PATH, answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, address.host, address.port).start()
    except OSError as error:
        await runner.cleanup()
        raise unusable(address, error) from error
    return runner
