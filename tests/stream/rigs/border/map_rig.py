"""Forecasts that are made up, and the map's server in this process without Kafka. Tests import this; it tests nothing
itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from forecast_rig import forecast_of
from prometheus_client import generate_latest

from stream.api.http.application import Gate
from stream.api.http.server import Server
from stream.api.live.newest import Published
from stream.api.map.access import MapAccess
from stream.api.map.fleet.fleet import Fleet
from stream.api.map.handlers import Handlers, PageSettings
from stream.api.map.service import COUNTS, PREFIX, SIZES
from stream.api.map.sources.basemap import Basemap
from stream.api.map.sources.streets import Streets
from stream.api.metrics import Metrics
from stream.api.options import ServerOptions
from stream.config.http_access import Address
from stream.wire import Anchor, AtlasRef, Branch, GapFill, GapPoint, Horizon, Latency, ModelRef, NextStep, Src, Window
from stream.wire.messages import dumps

SECRET: Final = "0123456789abcdef"
SERVER_ID: Final = "00c0ffee"
T0: Final = 1_700_000_000_000
OPEN: Final = 1e9  # requests per second: no limit
M_PER_DEG: Final = 111_195.08  # of latitude, on the sphere of `stream.wire.positions`


def forecast(
    entity_id: str,
    ts: int,
    lat: float = 30.0,
    lon: float = -97.0,
    *,
    to: Sequence[tuple[float, float, float]] = ((60.0, 30.0, -97.0),),
    cov_m2: tuple[float, float, float] = (100.0, 0.0, 100.0),
    dt_s: float = 20.0,
    d_lat: float = 0.0,
    d_lon: float = 0.0,
    status: Any = "ok",
    cache: Any = "hit",
    weights: str = "w1",
    atlas: str | None = None,
    branches: tuple[Branch, ...] | None = None,
    latency_ms: float = 6.0,
    partition: int = 0,
    offset: int = 0,
) -> bytes:
    """A record of the forecasts topic; `to` has h_s, lat and lon of each horizon."""
    step = NextStep(
        dt_s=dt_s,
        d_east_m=d_lon * M_PER_DEG,
        d_north_m=d_lat * M_PER_DEG,
        d_lat=d_lat,
        d_lon=d_lon,
        cov_m2=cov_m2,
    )
    return dumps(
        forecast_of(
            entity_id,
            Anchor(ts, lat, lon),
            step,
            [Horizon(h_s, a, b, cov_m2) for h_s, a, b in to],
            model=ModelRef("small", weights),
            atlas=None if atlas is None else AtlasRef(atlas, 3, False),
            branches=branches,
            status=status,
            window=Window(1, ts, ts),
            cache=cache,
            latency_ms=Latency(latency_ms, 0.0, 0.0),
            src=Src("pathcast.pings.v1", partition, offset),
        )
    )


def gapfill(entity_id: str, start: int, end: int, *, revision: int = 0, status: Any = "provisional") -> GapFill:
    middle = GapPoint((start + end) // 2, 30.05, -97.05, (1.0, 0.0, 1.0))
    return GapFill(
        gap_id=f"{entity_id}-{start}",
        entity_id=entity_id,
        revision=revision,
        status=status,
        start=Anchor(start, 30.0, -97.0),
        end=Anchor(end, 30.1, -97.1),
        reason="silence",
        method="test",
        points=() if status == "retracted" else (middle,),
        length_m=1.0,
        max_sigma_m=1.0,
        model=ModelRef("small", "w1"),
        issued_ts=end,
    )


def fleet_of(*records: bytes, most: int = 1_000, stale_ms: int = 300_000, expire_ms: int = 3_600_000) -> Fleet:
    """A fleet that has heard these forecasts."""
    fleet = Fleet(most, keep_ms=600_000, stale_ms=stale_ms, expire_ms=expire_ms)
    if records:
        publish(fleet, *records)
    return fleet


def publish(fleet: Fleet, *records: bytes, now_ms: int = T0) -> None:
    """Has the fleet hear forecasts that were published just now."""
    fleet.update([Published(one, now_ms) for one in records], now_ms)


class Served:
    """A server, and a client of it."""

    def __init__(
        self,
        base: str,
        client: aiohttp.ClientSession,
        fleet: Fleet,
        gate: Gate,
        server: Server,
    ) -> None:
        self.base, self.client, self.fleet = base, client, fleet
        self.gate, self.server = gate, server

    def metrics(self) -> bytes:
        return generate_latest(self.server.registry)

    async def get(self, path: str, **more: Any) -> tuple[int, Any]:
        async with self.client.get(self.base + path, **more) as said:
            return said.status, json.loads(await said.read())


@asynccontextmanager
async def served(
    fleet: Fleet,
    folder: Path,
    *,
    token: str | None = None,
    basemap: Basemap | None = None,
    streets: Streets | None = None,
    rate_per_s: float = OPEN,
    burst: float = OPEN,
    most_streams: int = 8,
) -> AsyncIterator[Served]:
    async def reasons() -> list[str]:
        return []

    server = Server(ServerOptions(Address("127.0.0.1", 0), rate_per_s, burst, False, 64, most_streams))
    server.id = SERVER_ID
    access = MapAccess(token, "" if basemap is None else basemap.origin)
    gate = server.gate(access=access, metrics=Metrics(server.registry, PREFIX, SIZES, COUNTS))
    shown = PageSettings("a fleet", "forecasts", 600.0, 300.0, folder, basemap)
    handlers = Handlers(shown, fleet, streets or Streets(None, None), server, gate, access, lambda: T0)
    server.add(handlers.pages, reasons)
    address = await server.start()
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:  # of an address, too
            yield Served(f"http://{address}", client, fleet, gate, server)
            await server.streams.close()
    finally:
        await server.stop()


class Events:
    """What a stream sends, event by event."""

    def __init__(self, said: aiohttp.ClientResponse) -> None:
        self._said = said

    async def next(self, *names: str) -> dict[str, Any]:
        """The next event of these names; of any, if none is given."""
        while True:
            block: dict[str, str] = {}
            while line := (await self._said.content.readuntil(b"\n")).decode().rstrip("\n"):
                name, _, value = line.partition(":")
                block[name] = value.removeprefix(" ")
            if "data" in block and (not names or block["event"] in names):
                return {"event": block["event"], **json.loads(block["data"])}
