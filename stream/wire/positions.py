"""Reads a forecast at any time, as a subscriber does. It uses the public records alone.

A forecast is a path. It begins at the anchor and goes through the position of `next`, at `next.dt_s` seconds, and
through those of the horizons. It is straight between two of these, and beyond the last it continues as between the last
two. The position of `next` alone is wrong for a ping that comes earlier or later than `next.dt_s`: a ship at 10 m/s
that reports 10 s later is 100 m farther on.

The spread is read in the same way: between two of these places, the standard deviations to the east and to the north
are straight lines over time, and so is their correlation. At the anchor both deviations are 0.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Any, Final, Protocol

from stream.wire.messages import MAX_TS_MS, Anchor, Horizon, NextStep

Cov = tuple[float, float, float]  # ee, en, nn in m²
EARTH_RADIUS_M: Final = 6_371_008.8  # mean radius (IUGG)
FREEDOM: Final = 4  # degrees of freedom of the Student's t that a covariance stands for (README.md)
COV_OF_SCALE: Final = 1.878  # the covariance that is published, over the t's scale matrix
MOST: Final = 1e15  # of metres, seconds, degrees and m²: the sphere is 4e7 m around, and squares stay far below 1e308
MIN_VARIANCE_M2: Final = 1e-4  # one centimetre, as in the evaluation


class Ahead(Protocol):
    """A `Forecast`, or another record that has these parts of one."""

    @property
    def anchor(self) -> Anchor: ...
    @property
    def next(self) -> NextStep: ...
    @property
    def horizons(self) -> tuple[Horizon, ...]: ...


def next_place(forecast: Ahead) -> tuple[int, float, float]:
    """Returns when (ms UTC) and where (latitude and longitude in degrees) the next ping is expected."""
    anchor, step = forecast.anchor, forecast.next
    return anchor.ts + round(1000 * step.dt_s), anchor.lat + step.d_lat, turn(anchor.lon + step.d_lon)


def position_at(forecast: Ahead, ts_ms: int) -> tuple[float, float]:
    """Returns latitude and longitude in degrees at `ts_ms` (milliseconds UTC).

    Raises ValueError for a time before the forecast's anchor, which no forecast covers.
    """
    return position(forecast, _ahead_s(forecast, ts_ms))


def covariance_at(forecast: Ahead, ts_ms: int) -> Cov:
    """Returns the covariance (east, east with north, north; m²) at `ts_ms`. Raises as `position_at`."""
    return covariance(forecast, _ahead_s(forecast, ts_ms))


def position(forecast: Ahead, ahead_s: float) -> tuple[float, float]:
    """Returns latitude and longitude in degrees on the forecast's path, `ahead_s` seconds after its anchor."""
    anchor, step = forecast.anchor, forecast.next
    knots = [(0.0, anchor.lat, anchor.lon), (step.dt_s, anchor.lat + step.d_lat, anchor.lon + step.d_lon)]
    knots += [(horizon.h_s, horizon.lat, horizon.lon) for horizon in forecast.horizons]
    (t0, lat0, lon0), (t1, lat1, lon1) = _around(knots, ahead_s)
    share = (ahead_s - t0) / (t1 - t0)
    return lat0 + share * (lat1 - lat0), turn(lon0 + share * turn(lon1 - lon0))


def covariance(forecast: Ahead, ahead_s: float) -> Cov:
    """Returns the covariance on the forecast's path, `ahead_s` seconds after its anchor."""
    knots = [(0.0, (0.0, 0.0, 0.0)), (forecast.next.dt_s, forecast.next.cov_m2)]
    knots += [(horizon.h_s, horizon.cov_m2) for horizon in forecast.horizons]
    (t0, cov0), (t1, cov1) = _around(knots, ahead_s)
    share = (ahead_s - t0) / (t1 - t0)
    east = max(0.0, _between(math.sqrt(max(cov0[0], 0.0)), math.sqrt(max(cov1[0], 0.0)), share))
    north = max(0.0, _between(math.sqrt(max(cov0[2], 0.0)), math.sqrt(max(cov1[2], 0.0)), share))
    to = _correlation(cov1)
    correlation = _between(_correlation(cov0) if t0 else to, to, share)
    return east * east, min(1.0, max(-1.0, correlation)) * east * north, north * north


def rms_sigma_m(cov_m2: Cov) -> float:
    """Returns the root mean square of the standard deviations to the east and to the north, in metres."""
    return math.sqrt(max(0.0, (cov_m2[0] + cov_m2[2]) / 2))


def max_sigma_m(cov_m2: Cov) -> float:
    """Returns the standard deviation in the direction where it is largest, in metres."""
    ee, en, nn = cov_m2
    return math.sqrt(max((ee + nn) / 2 + math.hypot((ee - nn) / 2, en), 0.0))


def radius2(share: float) -> float:
    """Returns the squared Mahalanobis distance up to which the region reaches that holds this share of what happens.

    For Student's t in two dimensions with ν degrees of freedom, the squared distance by the scale matrix is within x
    with the probability 1 - (1 + x/ν)^(-ν/2) (Kotz & Nadarajah 2004, section 1.2, from the F distribution).
    """
    return FREEDOM * (math.pow(1.0 - share, -2 / FREEDOM) - 1.0) / COV_OF_SCALE


def mahalanobis2(error_en_m: tuple[float, float], cov_m2: Cov) -> float:
    """Returns the squared Mahalanobis distance of an error; deviations are taken as one centimetre at least."""
    ee, nn = max(cov_m2[0], MIN_VARIANCE_M2), max(cov_m2[2], MIN_VARIANCE_M2)
    most = math.sqrt(ee * nn) * (1 - 1e-9)
    en = min(most, max(-most, cov_m2[1]))
    east, north = error_en_m
    return (nn * east * east - 2 * en * east * north + ee * north * north) / (ee * nn - en * en)


def offset_en_m(lat: float, lon: float, to_lat: float, to_lon: float, at_lat: float) -> tuple[float, float]:
    """Returns the metres to the east and to the north from one place to another, both near `at_lat`: the frame of the
    covariances of a forecast whose anchor is there.
    """
    metres = math.radians(1.0) * EARTH_RADIUS_M
    return turn(to_lon - lon) * metres * math.cos(math.radians(at_lat)), (to_lat - lat) * metres


def turn(d_lon: float) -> float:
    """Returns a longitude difference the short way round, so that no path crosses the world at the date line."""
    return (d_lon + 180.0) % 360.0 - 180.0


def _ahead_s(forecast: Ahead, ts_ms: int) -> float:
    if ts_ms < forecast.anchor.ts:
        raise ValueError(f"a forecast from {forecast.anchor.ts} says nothing of an earlier time, {ts_ms}")
    return (ts_ms - forecast.anchor.ts) / 1000


def _around(knots: list[Any], ahead_s: float) -> tuple[Any, Any]:
    """Returns the two places between which a time lies, or the last two. Each place begins with its time."""
    places = sorted({knot[0]: knot for knot in knots}.values())  # one place per time
    right = min(max(bisect_right([place[0] for place in places], ahead_s), 1), len(places) - 1)
    return places[right - 1], places[right]


def _between(low: float, high: float, share: float) -> float:
    return low + share * (high - low)


def _correlation(cov_m2: Cov) -> float:
    spread = math.sqrt(max(cov_m2[0] * cov_m2[2], 0.0))
    return cov_m2[1] / spread if spread else 0.0


def is_possible(forecast: Ahead) -> bool:
    """Returns whether a worker may have written these numbers: so that what is reckoned of them stays finite."""
    anchor, step = forecast.anchor, forecast.next
    numbers = [anchor.lat, anchor.lon, step.dt_s, step.d_east_m, step.d_north_m, step.d_lat, step.d_lon, *step.cov_m2]
    for one in forecast.horizons:
        numbers += (one.h_s, one.lat, one.lon, *one.cov_m2)
    ahead = step.dt_s >= 0 and all(one.h_s > 0 for one in forecast.horizons)
    return ahead and abs(anchor.ts) <= MAX_TS_MS and max(map(abs, numbers)) <= MOST
