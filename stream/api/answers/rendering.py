"""Rounds a forecast's numbers as workers publish them, so that the same state gives the same JSON.

It is the counterpart of `stream.engine.answers.Writer`, which writes the bytes of many forecasts at once for the same
horizons; tests/stream/api/answers/test_sameness.py holds this module to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from model.api import Forecasts
from stream.engine.answers import DEG_DIGITS, M2_DIGITS, M_DIGITS, S_DIGITS, WARMUP_BELOW
from stream.engine.branches import SHARE_DIGITS
from stream.wire import E7, Anchor, Branch, BranchPosition, Horizon, NextStep, Status

_DEG, _M2, _M, _S, _SHARE = (10.0**digits for digits in (DEG_DIGITS, M2_DIGITS, M_DIGITS, S_DIGITS, SHARE_DIGITS))
_TURN = 360 * E7


class RenderedForecast(NamedTuple):
    anchor: Anchor
    next: NextStep
    horizons: tuple[Horizon, ...]
    branches: tuple[Branch, ...] | None
    status: Status


def render(forecasts: Forecasts, row: int, last: Any, horizons_s: Sequence[float], window_n: int) -> RenderedForecast:
    """Returns one row of forecasts from the fix `last` (a FIX record). Raises ValueError for a number that is not
    finite."""
    lat_e7, lon_e7 = int(last["lat_e7"]), int(last["lon_e7"])
    there_lat, there_lon = _whole(forecasts.next_lat[row], _DEG), _whole(forecasts.next_lon[row], _DEG)
    d_lon = (there_lon - lon_e7 + _TURN // 2) % _TURN - _TURN // 2
    step = NextStep(
        dt_s=_round(forecasts.next_dt_s[row], _S),
        d_east_m=_round(forecasts.next_en_m[row, 0], _M),
        d_north_m=_round(forecasts.next_en_m[row, 1], _M),
        d_lat=(there_lat - lat_e7) / _DEG,
        d_lon=d_lon / _DEG,
        cov_m2=_cov(forecasts.next_cov_m2[row]),
        dt_early_s=_round(forecasts.next_early_s[row], _S),
        dt_late_s=_round(forecasts.next_late_s[row], _S),
    )
    horizons = tuple(
        Horizon(
            float(h_s),
            _round(forecasts.lat[row, h], _DEG),
            _round(forecasts.lon[row, h], _DEG),
            _cov(forecasts.cov_m2[row, h]),
        )
        for h, h_s in enumerate(horizons_s)
    )
    status: Status = "fallback_cv" if forecasts.fallback[row] else "warmup" if window_n < WARMUP_BELOW else "ok"
    anchor = Anchor(int(last["ts_ms"]), lat_e7 / E7, lon_e7 / E7)
    return RenderedForecast(anchor, step, horizons, _branches(forecasts, row, horizons_s), status)


def _branches(forecasts: Forecasts, row: int, horizons_s: Sequence[float]) -> tuple[Branch, ...] | None:
    branches = []
    for share, lats, lons in zip(
        forecasts.branch_share[row], forecasts.branch_lat[row], forecasts.branch_lon[row], strict=True
    ):
        if share > 0:
            places = zip(map(float, horizons_s), lats, lons, strict=False)  # some may be repeated behind the last one
            known = (place for place in places if np.isfinite(place[1]))
            at = tuple(BranchPosition(h_s, _round(lat, _DEG), _round(lon, _DEG)) for h_s, lat, lon in known)
            branches.append(Branch(_round(share, _SHARE), at))
    return tuple(branches) or None


def _whole(number: Any, scale: float) -> int:
    return int(np.rint(number * scale))


def _round(number: Any, scale: float) -> float:
    """Returns the float that is nearest to the rounded decimal, which is what a reader of the JSON gets."""
    return _whole(number, scale) / scale


def _cov(cov: Any) -> tuple[float, float, float]:
    ee, en, nn = cov
    return _round(ee, _M2), _round(en, _M2), _round(nn, _M2)
