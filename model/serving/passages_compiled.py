"""Asks passages for pings, one row at a time: the fast version of `model.passages.buckets.around`, of `ways_in` and
`velocities` in `model.passages.ways`, and of `model.passages.asking`.

tests/model/passages/test_passages.py holds this module to them: a change there needs a change here.

Shapes: N rows, Q questions of each, I ways in, P passages, J = asking.NEAREST.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.jit import compiled
from model.kinematics.geo import E7, F64, M_PER_DEG, MIN_COS_LAT
from model.passages import asking
from model.passages import buckets as at
from model.passages.asking import Estimate
from model.passages.published import Published
from model.passages.ways import FULL_MPS, I64, IN_M, IN_S, MAX_APART_MS, MAX_MPS, MIN_STEP_S, ON_M, SPEED_MPS

_I: Final = len(IN_S)
_IN_MS: Final = np.round(1000 * np.array(IN_S)).astype(np.int64)
_J: Final = asking.NEAREST
_TIMES_S: Final = asking.TIMES_S
_W: Final = len(_TIMES_S)
_GRID_S: Final = 15.0
# For each multiple of _GRID_S after the first place, the first place that is not before it; at least the second.
_UPPER: Final = np.maximum(np.searchsorted(_TIMES_S, np.arange(_TIMES_S[0], _TIMES_S[-1], _GRID_S)), 1)
_IN_WEIGHTS2: Final = np.array(asking.IN_WEIGHTS) ** 2
_TILES: Final = float(1 << at.ZOOM)
_MASK: Final = (1 << at.ZOOM) - 1
_TURN: Final = 360 * E7
_RAD: Final = np.pi / 180.0
_M: Final = M_PER_DEG / E7
_FAR: Final = np.inf


def estimate(version: Published, fixes: NDArray[Any], in_m: F64, velocity_mps: F64, dt_s: F64) -> Estimate:
    """Returns where pings, FIX [N], will be dt_s [N, Q] seconds later; in_m [N, I, 2] and velocity_mps [N, 2] as in
    `asking.neighbours`.
    """
    shape = dt_s.shape
    found = Estimate(np.zeros((*shape, 2)), np.zeros((*shape, 3)), np.zeros(shape))
    _estimate(*version, fixes, in_m, velocity_mps, dt_s, *found)
    return found


def ways(rings: NDArray[Any], row: I64, newest: I64, size: I64) -> tuple[F64, F64, NDArray[np.bool_]]:
    """Returns by which ways pings came: in_m [N, I, 2] and velocity_mps [N, 2], as `estimate` takes them, and which
    [N] came from anywhere. Each is the fix at newest [N] of the window of size [N] in a row [N] of rings, FIX [S, W],
    which wrap.
    """
    n = len(row)
    found = np.zeros((n, _I, 2)), np.zeros((n, 2)), np.zeros(n, np.bool_)
    _ways(rings, row, newest, size, *found)
    return found


@compiled
def _ways(rings, row, newest, size, in_m, velocity_mps, came):  # type: ignore[no-untyped-def]
    places = rings.shape[1]
    for i in range(len(row)):
        ring, at_place = rings[row[i]], newest[i]
        here = ring[at_place]
        scale, later_ms, later_e, later_n, asked = _scale(here), here.ts_ms, 0.0, 0.0, 0
        for back in range(1, size[i]):
            fix = ring[(at_place - back) % places]
            apart_ms = later_ms - fix.ts_ms
            if apart_ms > MAX_APART_MS:
                break
            e, north = _apart_m(here, scale, fix.lat_e7, fix.lon_e7)
            if back == 1:
                came[i] = True
                step_s = max(apart_ms / 1000.0, MIN_STEP_S)
                v_e, v_n = _apart_m(fix, _scale(fix), here.lat_e7, here.lon_e7)
                v_e, v_n = v_e / step_s, v_n / step_s
                speed = np.hypot(v_e, v_n)
                less = min(speed, MAX_MPS) / max(speed, FULL_MPS)
                velocity_mps[i, 0], velocity_mps[i, 1] = v_e * less, v_n * less
            while asked < _I and fix.ts_ms <= here.ts_ms - _IN_MS[asked]:
                share = (here.ts_ms - _IN_MS[asked] - fix.ts_ms) / apart_ms
                in_m[i, asked, 0], in_m[i, asked, 1] = e + (later_e - e) * share, north + (later_n - north) * share
                asked += 1
            if asked == _I:
                break
            later_ms, later_e, later_n = fix.ts_ms, e, north
        for rest in range(asked, _I):  # the track began later
            in_m[i, rest, 0], in_m[i, rest, 1] = later_e, later_n


@compiled
def _estimate(  # type: ignore[no-untyped-def]
    bucket, stop, lat_e7, lon_e7, ways_in, velocity, on, known, mark, fixes, in_m, velocity_mps, dt_s, mean, cov, n
):
    near, apart, weight = np.empty(_J, np.int64), np.empty(_J), np.empty(_J)
    went, begin = np.empty((_J, 2)), np.empty((_J, 3))
    for i in range(len(fixes)):
        count = _nearest(
            bucket, stop, lat_e7, lon_e7, ways_in, velocity, mark, fixes[i], in_m[i], velocity_mps[i], near, apart
        )
        if count == 0:
            continue
        wide2 = max(apart[asking.RANK], asking.NEAR_M**2) if count > asking.RANK else asking.NEAR_M**2
        scale = _scale(fixes[i])
        for j in range(count):
            p = near[j]
            weight[j] = np.exp(-0.5 * apart[j] * (1 / wide2 + 1 / asking.KERNEL_M**2))
            e, north = _apart_m(fixes[i], scale, lat_e7[p], lon_e7[p])
            _set_beside(ways_in, on, p, known[p] + 1, -e, -north, begin[j])
        for q in range(dt_s.shape[1]):
            n[i, q] = _middle(ways_in, on, known, near, begin, weight, count, dt_s[i, q], went, mean[i, q], cov[i, q])


@compiled
def _nearest(  # type: ignore[no-untyped-def]
    bucket, stop, lat_e7, lon_e7, ways_in, velocity, mark, fix, in_m, velocity_mps, near, apart
):
    """Fills `near` and `apart` with the passages nearest to a ping, and returns how many there are."""
    lat = min(max(fix.lat_e7 / E7, -at.MAX_LAT_DEG), at.MAX_LAT_DEG) * _RAD
    column = (fix.lon_e7 / E7 / 360.0 + 0.5) * _TILES
    row = (0.5 - np.arcsinh(np.tan(lat)) / (2 * np.pi)) * _TILES
    x, y = np.int64(np.floor(column)), np.int64(np.floor(row))
    beside_x, beside_y = x + (-1 if column - x < 0.5 else 1), y + (-1 if row - y < 0.5 else 1)
    came_e, came_n = -in_m[0, 0], -in_m[0, 1]
    if np.hypot(came_e, came_n) < at.CAME_M:
        octant, other = np.int64(at.STILL), np.int64(at.STILL)
    else:
        turns = np.arctan2(came_e, came_n) * (4 / np.pi) + 0.5
        octant = np.int64(np.floor(turns))
        other = (octant + (-1 if turns - octant < 0.5 else 1)) % 8
        octant = octant % 8
    v_e, v_n = velocity_mps[0], velocity_mps[1]
    scale_e = _scale(fix)
    count = 0
    for cell in range(4):
        tile_x, tile_y = (beside_x if cell >= 2 else x) & _MASK, (beside_y if cell % 2 else y) & _MASK
        for turn in range(2):
            if turn == 1 and other == octant:
                continue
            wanted = (tile_x << at.COLUMN) | (tile_y << at.OCTANT_BITS) | (other if turn else octant)
            place = np.searchsorted(bucket, wanted)
            if place == len(bucket) or bucket[place] != wanted:
                continue
            for p in range(stop[place - 1] if place else 0, stop[place]):
                e, north = _apart_m(fix, scale_e, lat_e7[p], lon_e7[p])
                far = e * e + north * north
                for way in range(_I):
                    off_e = e + ways_in[p, way, 0] * IN_M - in_m[way, 0]
                    off_n = north + ways_in[p, way, 1] * IN_M - in_m[way, 1]
                    far += _IN_WEIGHTS2[way] * (off_e * off_e + off_n * off_n)
                w_e, w_n = velocity[p, 0] * SPEED_MPS - v_e, velocity[p, 1] * SPEED_MPS - v_n
                far += (w_e * w_e + w_n * w_n) * asking.SPEED_S**2
                count = _put(near, apart, count, mark, p, far)
    return count


@compiled
def _put(near, apart, count, mark, p, far):  # type: ignore[no-untyped-def]
    """Puts a passage where it belongs among the nearest, of which there are `count`, and returns how many there are."""
    if count == _J and far >= apart[_J - 1]:
        return count
    alike, last = 0, -1
    for j in range(count):
        if mark[near[j]] == mark[p]:
            alike, last = alike + 1, j
    if alike == asking.MOST_OF_ONE:
        if far >= apart[last]:
            return count
        for j in range(last, count - 1):
            near[j], apart[j] = near[j + 1], apart[j + 1]
        count -= 1
    j = min(count, _J - 1)
    while j > 0 and apart[j - 1] > far:
        near[j], apart[j] = near[j - 1], apart[j - 1]
        j -= 1
    near[j], apart[j] = p, far
    return min(count + 1, _J)


@compiled
def _scale(fix):  # type: ignore[no-untyped-def]
    """Returns the metres of 1e-7 degrees of longitude at a FIX record."""
    return _M * max(np.cos(np.radians(fix.lat_e7 / E7)), MIN_COS_LAT)


@compiled
def _apart_m(fix, scale, lat_e7, lon_e7):  # type: ignore[no-untyped-def]
    """`geo.displacement_m` from a FIX record to a place."""
    d_lon = np.int64(lon_e7) - fix.lon_e7
    if abs(d_lon) > _TURN // 2:
        d_lon = (d_lon + _TURN // 2) % _TURN - _TURN // 2
    return d_lon * scale, (np.int64(lat_e7) - fix.lat_e7) * _M


@compiled
def _place(ways_in, on, p, number):  # type: ignore[no-untyped-def]
    """Returns where a passage was at asking.TIMES_S[number]."""
    if number == 0:
        return ways_in[p, 0, 0] * IN_M, ways_in[p, 0, 1] * IN_M
    if number == 1:
        return 0.0, 0.0
    return on[p, number - 2, 0] * ON_M, on[p, number - 2, 1] * ON_M


@compiled
def _set_beside(ways_in, on, p, last, e, north, begin):  # type: ignore[no-untyped-def]
    """Sets `begin` [3] to when a passage was nearest to the ping, e and north of its own, and where it was then."""
    far = np.inf
    b_e, b_n = _place(ways_in, on, p, 0)
    for number in range(min(asking.BESIDE, last)):
        a_e, a_n = b_e, b_n
        b_e, b_n = _place(ways_in, on, p, number + 1)
        d_e, d_n = b_e - a_e, b_n - a_n
        length2 = max(d_e * d_e + d_n * d_n, 1e-9)
        share = min(max(((e - a_e) * d_e + (north - a_n) * d_n) / length2, 0.0), 1.0)
        there_e, there_n = a_e + share * d_e, a_n + share * d_n
        apart = (e - there_e) ** 2 + (north - there_n) ** 2
        if apart < far:
            far = apart
            begin[0] = _TIMES_S[number] + share * (_TIMES_S[number + 1] - _TIMES_S[number])
            begin[1], begin[2] = there_e, there_n


@compiled
def _middle(ways_in, on, known, near, begin, weight, count, dt, went, mean, cov):  # type: ignore[no-untyped-def]
    """Sets the mean [2] and covariance [3] of how far the nearest passages went in dt seconds, and returns the sum of
    the weights of those of which that is known."""
    total, sum_e, sum_n = 0.0, 0.0, 0.0
    for j in range(count):
        at_s = begin[j, 0] + dt
        step = np.int64((at_s - _TIMES_S[0]) / _GRID_S)
        upper = _UPPER[step] if step < len(_UPPER) else _W - 1
        while upper < _W - 1 and _TIMES_S[upper] < at_s:
            upper += 1
        share = (at_s - _TIMES_S[upper - 1]) / (_TIMES_S[upper] - _TIMES_S[upper - 1])
        if known[near[j]] + 1 < upper or share > 1:
            went[j, 0] = _FAR
            continue
        low_e, low_n = _place(ways_in, on, near[j], upper - 1)
        high_e, high_n = _place(ways_in, on, near[j], upper)
        went[j, 0] = low_e + (high_e - low_e) * share - begin[j, 1]
        went[j, 1] = low_n + (high_n - low_n) * share - begin[j, 2]
        total += weight[j]
        sum_e, sum_n = sum_e + weight[j] * went[j, 0], sum_n + weight[j] * went[j, 1]
    if total < asking.LEAST:
        return 0.0
    mean[0], mean[1] = sum_e / total, sum_n / total
    for _ in range(asking.ROUNDS):
        pulls, sum_e, sum_n = 0.0, 0.0, 0.0
        for j in range(count):
            if went[j, 0] == _FAR:
                continue
            off_e, off_n = went[j, 0] - mean[0], went[j, 1] - mean[1]
            pull = weight[j] / max(np.sqrt(off_e * off_e + off_n * off_n), asking.MIDDLE_M)
            pulls, sum_e, sum_n = pulls + pull, sum_e + pull * went[j, 0], sum_n + pull * went[j, 1]
        mean[0], mean[1] = sum_e / pulls, sum_n / pulls
    for j in range(count):
        if went[j, 0] != _FAR:
            e, north, of = went[j, 0] - mean[0], went[j, 1] - mean[1], weight[j] / total
            cov[0], cov[1], cov[2] = cov[0] + of * e * e, cov[1] + of * e * north, cov[2] + of * north * north
    return total
