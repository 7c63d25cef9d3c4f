"""What the model said, as records to publish. Knows rounding, status and ids; folds nothing and decides nothing.

Published numbers are rounded to what they can mean: 1e-7 degrees (1.1 cm), 0.01 m, 1e-4 m2, 0.001 s. So replays that
differ in the last bits of a float publish the same bytes, nearly always, and no reader stores noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import Fill, Forecasts
from stream.track import Fix, Gap
from stream.wire import (
    E7,
    Anchor,
    Cache,
    Forecast,
    GapFill,
    GapPoint,
    Horizon,
    Latency,
    ModelRef,
    NextStep,
    Outgoing,
    Record,
    Src,
    Status,
    Topics,
    Window,
    dumps,
    event_headers,
    forecast_id,
    gap_id,
)

DEG_DIGITS: Final = 7
M_DIGITS: Final = 2
M2_DIGITS: Final = 4
S_DIGITS: Final = 3
WARMUP_BELOW: Final = 8  # pings: with fewer the design's protocol does not score a forecast either
M_PER_DEG: Final = 111_195.08  # on the mean sphere, along a meridian

GapStatus = Literal["provisional", "final", "retracted"]


class Answered(NamedTuple):
    """An accepted ping that a forecast answers. The window ends with it."""

    record: Record
    entity_id: str
    anchor: Fix
    window: Window
    late: bool
    cache: Cache


def forecasts(
    rows: Sequence[Answered],
    said: Forecasts,
    horizons_s: Sequence[float],
    model: ModelRef,
    topics: Topics,
    clocks_ms: tuple[float, float, float],
) -> list[Outgoing]:
    """One forecast record per row. `clocks_ms`: when records were fetched, the batch started, the model answered."""
    fetched_ms, started_ms, answered_ms = clocks_ms
    queue_ms, infer_ms = _ms(started_ms - fetched_ms), _ms(answered_ms - started_ms)
    tables = zip(
        rows,
        said.fallback.tolist(),
        _rounded(said.next_dt_s, S_DIGITS),
        _rounded(said.next_en_m, M_DIGITS),
        _rounded(said.next_lat, DEG_DIGITS),
        _rounded(said.next_lon, DEG_DIGITS),
        _rounded(said.next_cov_m2, M2_DIGITS),
        _rounded(said.lat, DEG_DIGITS),
        _rounded(said.lon, DEG_DIGITS),
        _rounded(said.cov_m2, M2_DIGITS),
        strict=True,
    )
    out = []
    for row, fallback, dt_s, (east, north), next_lat, next_lon, next_cov, lats, lons, covs in tables:
        record, ts = row.record, row.anchor.ts_ms
        lat, lon = row.anchor.lat_e7 / E7, row.anchor.lon_e7 / E7
        forecast = Forecast(
            forecast_id=forecast_id(row.entity_id, ts, model.version),
            entity_id=row.entity_id,
            anchor=Anchor(ts, lat, lon),
            next=NextStep(
                dt_s=dt_s,
                d_east_m=east,
                d_north_m=north,
                d_lat=round(next_lat - lat, DEG_DIGITS),
                d_lon=round((next_lon - lon + 180.0) % 360.0 - 180.0, DEG_DIGITS),
                cov_m2=tuple(next_cov),
            ),
            horizons=tuple(map(Horizon, horizons_s, lats, lons, map(tuple, covs))),
            model=model,
            status=_status(row, fallback),
            window=row.window,
            cache=row.cache,
            latency_ms=Latency(_ms(fetched_ms - record.timestamp_ms), queue_ms, infer_ms),
            src=Src(record.topic, record.partition, record.offset),
        )
        headers = event_headers("forecast", forecast.forecast_id, record)
        out.append(Outgoing(topics.forecasts, row.entity_id.encode(), dumps(forecast), headers, record))
    return out


def gap_fill(
    record: Record, entity_id: str, gap: Gap, status: GapStatus, fill: Fill | None, model: ModelRef, topics: Topics
) -> Outgoing:
    """One gap fill record; `fill` is None for a retracted one, which has no points any more.

    `issued_ts` is the timestamp of the record that made us say so, not a clock: a replay publishes the same bytes.
    """
    points = () if fill is None else _points(gap, fill)
    start, end = _anchor(gap.start), _anchor(gap.end)
    filled = GapFill(
        gap_id=gap_id(entity_id, start.ts),
        entity_id=entity_id,
        revision=0 if status == "provisional" else 1,
        status=status,
        start=start,
        end=end,
        reason="late" if status == "retracted" else gap.reason,
        method="none" if fill is None else fill.method,
        points=points,
        length_m=0.0 if fill is None else _length_m(start, points, end),
        max_sigma_m=0.0 if fill is None else _max_sigma_m(fill.cov_m2),
        model=model,
        issued_ts=record.timestamp_ms,
    )
    headers = event_headers("gapfill", f"{filled.gap_id}.{filled.revision}", record)
    return Outgoing(topics.gapfills, entity_id.encode(), dumps(filled), headers, record)


def _status(row: Answered, fallback: bool) -> Status:
    if row.late:
        return "stale"
    if fallback:
        return "fallback_cv"
    return "warmup" if row.window.n < WARMUP_BELOW else "ok"


def _rounded(values: NDArray[Any], digits: int) -> Any:
    # + 0.0 turns -0.0 into 0.0, which would otherwise be published with its sign.
    return (np.round(values, digits) + 0.0).tolist()


def _ms(elapsed_ms: float) -> float:
    """At least 0: the clocks of a producer and of this machine may disagree."""
    return round(max(elapsed_ms, 0.0), S_DIGITS)


def _anchor(fix: Fix) -> Anchor:
    return Anchor(fix.ts_ms, fix.lat_e7 / E7, fix.lon_e7 / E7)


def _points(gap: Gap, fill: Fill) -> tuple[GapPoint, ...]:
    lats, lons = _rounded(fill.lat, DEG_DIGITS), _rounded(fill.lon, DEG_DIGITS)
    covs = _rounded(fill.cov_m2, M2_DIGITS)
    return tuple(map(GapPoint, gap.times_ms, lats, lons, map(tuple, covs)))


def _length_m(start: Anchor, points: Sequence[GapPoint], end: Anchor) -> float:
    """The length of the filled path, on local planes."""
    ends: list[Anchor | GapPoint] = [start, *points, end]
    path = np.array([(place.lat, place.lon) for place in ends])  # M + 2, 2
    d_lat, d_lon = np.diff(path, axis=0).T
    d_lon = (d_lon + 180.0) % 360.0 - 180.0
    east = d_lon * np.cos(np.radians(path[1:, 0]))
    return float(round(float(np.hypot(d_lat, east).sum()) * M_PER_DEG, M_DIGITS))


def _max_sigma_m(cov_m2: NDArray[Any]) -> float:
    """The largest standard deviation at any point in any direction: the root of the larger eigenvalue."""
    if not len(cov_m2):
        return 0.0
    ee, en, nn = cov_m2.T
    larger = (ee + nn) / 2 + np.hypot((ee - nn) / 2, en)
    return float(round(float(np.sqrt(larger.max())), M_DIGITS))
