"""Reads a forecast at any time, as a subscriber does. It uses the public records alone.

A forecast is a path. It begins at the anchor and goes through the position of `next`, at `next.dt_s` seconds, and
through those of the horizons. It is straight between two of these, and beyond the last it continues as between the last
two. The position of `next` alone is wrong for a ping that comes earlier or later than `next.dt_s`: a ship at 10 m/s
that reports 10 s later is 100 m farther on.
"""

from __future__ import annotations

from bisect import bisect_right

from stream.wire.messages import Forecast


def position_at(forecast: Forecast, ts_ms: int) -> tuple[float, float]:
    """Returns latitude and longitude in degrees at `ts_ms` (milliseconds UTC).

    Raises ValueError for a time before the forecast's anchor, which no forecast covers.
    """
    if ts_ms < forecast.anchor.ts:
        raise ValueError(f"a forecast from {forecast.anchor.ts} says nothing of an earlier time, {ts_ms}")
    return position(forecast, (ts_ms - forecast.anchor.ts) / 1000)


def position(forecast: Forecast, ahead_s: float) -> tuple[float, float]:
    """Returns latitude and longitude in degrees on the forecast's path, `ahead_s` seconds after its anchor."""
    anchor, step = forecast.anchor, forecast.next
    knots = [(0.0, anchor.lat, anchor.lon), (step.dt_s, anchor.lat + step.d_lat, anchor.lon + step.d_lon)]
    knots += [(horizon.h_s, horizon.lat, horizon.lon) for horizon in forecast.horizons]
    knots = sorted({knot[0]: knot for knot in knots}.values())  # one place per time
    right = min(max(bisect_right([knot[0] for knot in knots], ahead_s), 1), len(knots) - 1)
    (t0, lat0, lon0), (t1, lat1, lon1) = knots[right - 1], knots[right]
    share = (ahead_s - t0) / (t1 - t0)
    return lat0 + share * (lat1 - lat0), turn(lon0 + share * turn(lon1 - lon0))


def turn(d_lon: float) -> float:
    """Returns a longitude difference the short way round, so that no path crosses the world at the date line."""
    return (d_lon + 180.0) % 360.0 - 180.0
