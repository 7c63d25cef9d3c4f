"""Made-up forecasts and gap fills for the tests of `stream.client`. Tests import this; it tests nothing itself."""

from __future__ import annotations

from forecast_rig import forecast_of

from stream.wire import Anchor, Forecast, GapFill, GapPoint, Horizon, Latency, ModelRef, NextStep, Src
from stream.wire.ids import forecast_id, gap_id
from stream.wire.positions import turn

T0 = 1_700_000_000_000
VERSION = "0123456789abcdef"


def forecast(
    entity: str = "bus-1", step: int = 0, *, lat: float = 30.0, lon: float = -97.0, ts: int | None = None
) -> Forecast:
    """The forecast of an entity's ping number `step`, a minute after the one before; it drives to the north-east."""
    at = T0 + 60_000 * step if ts is None else ts
    horizons = tuple(
        Horizon(h_s, round(lat + h_s * 1e-5, 7), round(turn(lon + h_s * 2e-5), 7), (h_s * 10, h_s * 2, h_s * 5))
        for h_s in (60.0, 300.0, 900.0)
    )
    return forecast_of(
        entity,
        Anchor(at, lat, lon),
        NextStep(dt_s=30.0, d_east_m=28.0, d_north_m=33.0, d_lat=3e-4, d_lon=6e-4, cov_m2=(90.0, 10.0, 120.0)),
        horizons,
        forecast_id=forecast_id(entity, at, VERSION),
        model=ModelRef("small", VERSION),
        latency_ms=Latency(1.0, 2.0, 3.0),
        src=Src("t.pings.v1", 0, step),
    )


def gap_fill(entity: str = "bus-1", revision: int = 0, *, lat: float = 30.0, lon: float = -97.0) -> GapFill:
    """Five minutes of silence with four synthetic positions; revision 2 is retracted and has none."""
    points = tuple(
        GapPoint(T0 + 60_000 * number, lat + number * 1e-3, lon + number * 1e-3, (25.0, 0.0, 25.0))
        for number in range(1, 5)
    )
    return GapFill(
        gap_id=gap_id(entity, T0),
        entity_id=entity,
        revision=revision,
        status=("provisional", "final", "retracted")[revision],  # type: ignore[arg-type]
        start=Anchor(T0, lat, lon),
        end=Anchor(T0 + 300_000, lat + 5e-3, lon + 5e-3),
        reason="silence",
        method="model",
        points=() if revision == 2 else points,
        length_m=740.0,
        max_sigma_m=5.0,
        model=ModelRef("small", VERSION),
        issued_ts=T0 + 300_500,
    )
