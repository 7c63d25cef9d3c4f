"""Forecasts and places that are made up, for the tests of arrivals. It tests nothing itself."""

from __future__ import annotations

import math

from forecast_rig import forecast_of

from stream.wire import Anchor, Forecast, Horizon, ModelRef, NextStep, Src, Status, dumps
from stream.wire.ids import forecast_id
from stream.wire.record import Record

LAT, LON = 30.2672, -97.7431
NOON_MS = 1_490_119_200_000
M_PER_DEG = math.radians(1) * 6_371_008.8


def place(east_m: float, north_m: float = 0.0) -> tuple[float, float]:
    """Degrees, so far from the middle."""
    return LAT + north_m / M_PER_DEG, LON + east_m / (M_PER_DEG * math.cos(math.radians(LAT)))


def forecast(
    entity: str = "12",
    *,
    at_m: float = 0.0,
    mps: float = 8.0,
    ts_ms: int = NOON_MS,
    status: Status = "ok",
    sigma_m: float = 20.0,
    horizons_s: tuple[float, ...] = (60.0, 300.0, 900.0),
) -> Forecast:
    """Of an entity that goes to the east; its spread grows with the time ahead."""
    lat, lon = place(at_m)

    def spread(seconds: float) -> tuple[float, float, float]:
        variance = (sigma_m * (1 + seconds / 60)) ** 2
        return variance, 0.0, variance

    step = place(at_m + 30 * mps)
    return forecast_of(
        entity,
        Anchor(ts_ms, lat, lon),
        NextStep(
            dt_s=30.0, d_east_m=30 * mps, d_north_m=0.0, d_lat=step[0] - lat, d_lon=step[1] - lon, cov_m2=spread(30)
        ),
        [Horizon(h_s, *place(at_m + h_s * mps), spread(h_s)) for h_s in horizons_s],
        forecast_id=forecast_id(entity, ts_ms, "m1"),
        model=ModelRef("small", "m1"),
        status=status,
        src=Src("pathcast.pings.v1", 0, 7),
    )


def record(one: Forecast, offset: int, *, published_ms: int = NOON_MS, number: int = 0) -> Record:
    return Record("pathcast.forecasts.v1", number, offset, published_ms, one.entity_id.encode(), dumps(one))
