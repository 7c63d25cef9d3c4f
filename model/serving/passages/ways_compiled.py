"""Finds by which way pings came: the fast version of `ways_in` and `velocities` in `model.atlas.ways`.

Shapes: N pings, I ways in, S windows of W fixes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.atlas.ways import FULL_MPS, I64, IN_S, MAX_APART_MS, MAX_MPS, MIN_STEP_S, Approach
from model.jit import compiled
from model.kinematics.features import FIX
from model.serving.passages.nearest_compiled import apart_m, east_scale

_I: Final = len(IN_S)
_IN_MS: Final = np.round(1000 * np.array(IN_S)).astype(np.int64)


def approaches(rings: NDArray[Any], row: I64, newest: I64, size: I64) -> Approach:
    """Returns by which ways pings [N] came. Each is the fix at newest [N] of the window of size [N] in a row [N] of
    rings, FIX [S, W], which wrap.
    """
    found = Approach.none(len(row))
    _approaches(rings, row, newest, size, *found)
    return found


def approaches_of(windows: Sequence[NDArray[Any]]) -> Approach:
    """Returns by which ways the last pings of windows [N] came, FIX each, the oldest first."""
    stops = np.cumsum([len(one) for one in windows], dtype=np.int64)
    sizes = np.diff(stops, prepend=0)
    ring = np.concatenate(windows)[None] if windows else np.zeros((1, 0), FIX)
    return approaches(ring, np.zeros(len(windows), np.int64), stops - 1, sizes)


@compiled
def _approaches(rings, row, newest, size, in_m, velocity_mps, came):  # type: ignore[no-untyped-def]
    for i in range(len(row)):
        came[i] = set_approach(rings[row[i]], newest[i], size[i], in_m[i], velocity_mps[i])


@compiled
def set_approach(ring, newest, size, in_m, velocity_mps):  # type: ignore[no-untyped-def]
    """Sets in_m [I, 2] and velocity_mps [2] to how the fix at `newest` of a window in a ring, FIX [W], came there.
    Returns whether it came from anywhere."""
    places, here = len(ring), ring[newest]
    scale, later_ms, later_e, later_n, asked, came = east_scale(here), here.ts_ms, 0.0, 0.0, 0, False
    for back in range(1, size):
        fix = ring[(newest - back) % places]
        apart_ms = later_ms - fix.ts_ms
        if apart_ms > MAX_APART_MS:
            break
        e, north = apart_m(here, scale, fix.lat_e7, fix.lon_e7)
        if back == 1:
            came = True
            step_s = max(apart_ms / 1000.0, MIN_STEP_S)
            v_e, v_n = apart_m(fix, east_scale(fix), here.lat_e7, here.lon_e7)
            v_e, v_n = v_e / step_s, v_n / step_s
            speed = np.hypot(v_e, v_n)
            less = min(speed, MAX_MPS) / max(speed, FULL_MPS)
            velocity_mps[0], velocity_mps[1] = v_e * less, v_n * less
        while asked < _I and fix.ts_ms <= here.ts_ms - _IN_MS[asked]:
            share = (here.ts_ms - _IN_MS[asked] - fix.ts_ms) / apart_ms
            in_m[asked, 0], in_m[asked, 1] = e + (later_e - e) * share, north + (later_n - north) * share
            asked += 1
        if asked == _I:
            break
        later_ms, later_e, later_n = fix.ts_ms, e, north
    for rest in range(asked, _I):  # the track began later
        in_m[rest, 0], in_m[rest, 1] = later_e, later_n
    return came


@compiled
def shorten(e, north):  # type: ignore[no-untyped-def]
    """`ways.shorten` of one velocity."""
    speed = np.hypot(e, north)
    less = min(speed, MAX_MPS) / max(speed, FULL_MPS)
    return e * less, north * less
