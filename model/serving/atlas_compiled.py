"""Reads an atlas for forecasts and gap fills and moves them, one row at a time: the fast version of
`model.atlas.cells.keys`, `model.atlas.estimate.levels`, `version_features`, `inputs` and `combine` of
`model.atlas.head`, with the head between the last two, and `model.atlas.bend`.

tests/model/serving/test_atlas_compiled.py and test_bend.py hold this module to them: a change there needs a change
here.

Shapes: N rows, Q questions of each, K keys of the atlas, H its horizons, L levels. Of gap fills: N gaps, P asked times
of all gaps together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas import bend, cells, estimate, head, outcomes
from model.atlas.atlas import Atlas
from model.atlas.published import UNIT
from model.jit import compiled
from model.kinematics import motion as m
from model.kinematics.answer_bounds import ATLAS_HIDDEN, ATLAS_OUT
from model.kinematics.geo import E7, F64
from model.parameters.reading import Parameters
from model.serving.step_compiled import displaced

_L: Final = cells.LEVELS
_ZOOMS: Final = np.array(cells.ZOOMS)
_FINEST: Final = cells.ZOOMS[-1]
_SPEEDS: Final = np.array(cells.SPEEDS_MPS)
_HORIZONS: Final = np.array(outcomes.HORIZONS_S)
_RAD: Final = np.pi / 180.0
_CM2: Final = outcomes.CM_PER_M**2


class Weights(NamedTuple):
    """The layers of the head, float32: weights [outputs, inputs] and biases [outputs]."""

    first: NDArray[np.float32]
    first_bias: NDArray[np.float32]
    second: NDArray[np.float32]
    second_bias: NDArray[np.float32]
    last: NDArray[np.float32]
    last_bias: NDArray[np.float32]

    @classmethod
    def of(cls, weights: Parameters) -> Weights:
        layers = [f"atlas.{name}" for name in ("first", "second", "last")]
        found = [(weights[f"{one}.weight"], weights[f"{one}.bias"]) for one in layers]
        return cls(*(array for pair in found for array in pair))


def move(
    mean: F64,
    cov: F64,
    sound: NDArray[np.bool_],
    kin: F64,
    last: NDArray[Any],
    dt_s: F64,
    atlases: Sequence[Atlas],
    which: NDArray[np.int64],
    weights: Weights,
) -> NDArray[np.int64]:
    """Moves means [N, Q, 2] and covariances [N, Q, 3] of sound rows [N], in place, by what the atlas of each has of its
    last fix: an index `which` [N] into `atlases`, or -1 for none. Returns how many outcomes [N] each row rests on; one
    with 0 is not changed.
    """
    pings = np.zeros(len(mean), np.int64)
    for number, atlas in enumerate(atlases):
        if (rows := sound & (which == number)).any():
            _move(mean, cov, rows, kin, last, dt_s, *_columns(atlas), *atlas.span, *weights, pings)
    return pings


def move_fills(
    mean: F64,
    cov: F64,
    sound: NDArray[np.bool_],
    before: NDArray[Any],
    before_stop: NDArray[np.int64],
    gap_s: F64,
    of: NDArray[np.int64],
    t_s: F64,
    atlases: Sequence[Atlas],
    which: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Moves the means [P, 1, 2] of fills of sound gaps [N], whose covariances are [P, 1, 3], in place, by what the
    atlas of each gap has of its start: an index `which` [N] into `atlases`, or -1 for none. The fixes before all gaps
    are concatenated; those of the i-th end before before_stop[i]. `of` [P] rises. Returns how many outcomes [N] each
    fill rests on; one with 0 is not changed.
    """
    pings = np.zeros(len(gap_s), np.int64)
    begin = np.searchsorted(of, np.arange(len(gap_s) + 1))
    for number, atlas in enumerate(atlases):
        if (rows := sound & (which == number)).any():
            _bend(mean, cov, rows, before, before_stop, gap_s, begin, t_s, *_columns(atlas), pings)
    return pings


def _columns(atlas: Atlas) -> Iterator[NDArray[Any]]:
    sums = atlas.sums
    return map(_read_only, (sums.key, sums.n, sums.off_cm, sums.off_cm2))


def _read_only(column: NDArray[Any]) -> NDArray[Any]:
    """Returns a view that cannot be written to, as a mapped file cannot: numba compiles for one kind of arrays only."""
    view = column.view()
    view.flags.writeable = False
    return view


@compiled
def _move(  # type: ignore[no-untyped-def]
    mean, cov, rows, kin, last, dt_s, key, n, off_cm, off_cm2, from_ms, to_ms,
    first, first_bias, second, second_bias, last_layer, last_bias, pings,
):  # fmt: skip
    place = np.empty(_L, np.int64)
    count, var, apart = np.empty(_L), np.empty(_L), np.empty((_L, 2))
    x, raw = np.empty(head.OF_VERSION, np.float32), np.empty(ATLAS_OUT, np.float32)
    one, two = np.empty(ATLAS_HIDDEN[0], np.float32), np.empty(ATLAS_HIDDEN[1], np.float32)
    span, here_bias = _log_h(to_ms - from_ms, head.MAX_SPAN_H), np.empty_like(first_bias)
    for i in range(len(rows)):
        k = kin[i]
        if not rows[i] or k[m.DT] == 0.0 or k[m.DT] * 1000.0 > outcomes.MAX_APART_MS:
            continue
        step_s = max(k[m.DT], outcomes.MIN_STEP_S)
        v_e, v_n = k[m.D_E] / step_s, k[m.D_N] / step_s
        if not _find(key, last[i], v_e, v_n, k[m.W_E], k[m.W_N], place):
            continue
        speed = np.sqrt(v_e * v_e + v_n * v_n)
        floored = np.sqrt(speed * speed + head.SPEED_FLOOR_MPS**2)
        a_e, a_n = v_e / floored, v_n / floored
        age = _log_h(last[i].ts_ms - to_ms, head.MAX_AGE_H)
        for o in range(len(here_bias)):  # what is the same for all questions of the ping
            here_bias[o] = first_bias[o] + age * first[o, head.OF_VERSION] + span * first[o, head.OF_VERSION + 1]
        seen = 0.0
        for j in range(dt_s.shape[1]):
            dt = dt_s[i, j]
            lag = -outcomes.DAMPING_S * np.expm1(-dt / outcomes.DAMPING_S)
            bent_e, bent_n = mean[i, j, 0] - v_e * lag, mean[i, j, 1] - v_n * lag
            var0 = (cov[i, j, 0] + cov[i, j, 2]) / 2
            sigma = np.sqrt(var0)
            _levels(n, off_cm, off_cm2, place, dt, bent_e, bent_n, var0, count, var, apart)
            x[0], x[1] = np.log(dt) / 4, k[m.LOG_DT] / 4
            x[2], x[3] = speed / (speed + head.USUAL_MPS), np.log(sigma) / 4
            x[4] = _bounded((bent_e * a_e + bent_n * a_n) / sigma)
            x[5] = abs(_bounded((bent_e * a_n - bent_n * a_e) / sigma))
            any_seen = False
            for level in range(_L):
                any_seen |= count[level] > 0
                seen = max(seen, count[level])
                aside_e, aside_n = apart[level, 0] / sigma, apart[level, 1] / sigma
                along, across = aside_e * a_e + aside_n * a_n, aside_e * a_n - aside_n * a_e
                at = head.OF_QUESTION + head.OF_LEVEL * level
                x[at] = count[level] / (count[level] + head.SOME)
                x[at + 1] = count[level] / (count[level] + head.MANY)
                x[at + 2], x[at + 3] = _bounded(along), abs(_bounded(across))
                wide = np.sqrt(var[level])
                x[at + 4] = wide / (wide + sigma)
            if not any_seen:
                continue
            _layer(x, first, here_bias, True, one)
            _layer(one, second, second_bias, True, two)
            _layer(two, last_layer, last_bias, False, raw)
            var1 = var[_L - 1] * (1 + head.FEW / (count[_L - 1] + 0.5))
            share = var0 / (var0 + var1)
            both = (var0 * var1 / (var0 + var1) + share * var1 + (1 - share) * var0) / 2
            more = share / (share + (1 - share) * np.exp(-np.float64(raw[head.SHARE])))
            on_e, on_n = more * apart[_L - 1, 0], more * apart[_L - 1, 1]
            for level in range(_L):
                lean = np.tanh(np.float64(raw[level]))
                on_e, on_n = on_e + lean * apart[level, 0], on_n + lean * apart[level, 1]
            width = np.log(both / var0) + np.float64(raw[head.WIDTH])
            width = np.exp(min(max(width, -head.MAX_LOG_WIDTH), head.MAX_LOG_WIDTH))
            mean[i, j, 0], mean[i, j, 1] = mean[i, j, 0] + on_e, mean[i, j, 1] + on_n
            for c in range(3):
                cov[i, j, c] *= width
        pings[i] = np.int64(np.ceil(seen))


@compiled
def _bend(  # type: ignore[no-untyped-def]
    mean, cov, rows, before, before_stop, gap_s, begin, t_s, key, n, off_cm, off_cm2, pings
):
    place = np.empty(_L, np.int64)
    count, var, apart = np.empty(_L), np.empty(_L), np.empty((_L, 2))
    for i in range(len(rows)):
        oldest, start = (before_stop[i - 1] if i > 0 else 0), before_stop[i] - 1
        if not rows[i] or start == oldest or gap_s[i] < bend.MIN_GAP_S or gap_s[i] > bend.MAX_GAP_S:
            continue
        apart_ms = before[start].ts_ms - before[start - 1].ts_ms
        if apart_ms <= 0 or apart_ms > outcomes.MAX_APART_MS:
            continue
        w_e, w_n, d_e, d_n = 0.0, 0.0, 0.0, 0.0
        for at in range(oldest + 1, start + 1):
            d_e, d_n = displaced(before[at - 1], before[at])
            w_e, w_n = (1.0 - m.WINDOW_MEMORY) * w_e + d_e, (1.0 - m.WINDOW_MEMORY) * w_n + d_n
        step_s = max(apart_ms / 1000.0, outcomes.MIN_STEP_S)
        if not _find(key, before[start], d_e / step_s, d_n / step_s, w_e, w_n, place):
            continue
        _levels(n, off_cm, off_cm2, place, gap_s[i], 0.0, 0.0, 0.0, count, var, apart)
        end_e, end_n, seen = apart[_L - 1, 0], apart[_L - 1, 1], count.max()
        for p in range(begin[i], begin[i + 1]):
            _levels(n, off_cm, off_cm2, place, t_s[p], 0.0, 0.0, 0.0, count, var, apart)
            seen, done = max(seen, count.max()), t_s[p] / gap_s[i]
            var0 = (cov[p, 0, 0] + cov[p, 0, 2]) / 2
            share = bend.SHARE * var0 / (var0 + var[_L - 1])
            mean[p, 0, 0] += share * (apart[_L - 1, 0] - done * end_e)
            mean[p, 0, 1] += share * (apart[_L - 1, 1] - done * end_n)
        pings[i] = np.int64(np.ceil(seen - bend.ROUNDING))


@compiled
def _find(key, fix, v_e, v_n, w_e, w_n, place):  # type: ignore[no-untyped-def]
    """Finds the places of the ping's keys, -1 where there is none. Returns whether there is any."""
    lat = min(max(fix.lat_e7 / E7, -cells.MAX_LAT_DEG), cells.MAX_LAT_DEG) * _RAD
    x = np.int64(np.floor((fix.lon_e7 / E7 / 360.0 + 0.5) * 2.0**_FINEST)) % (1 << _FINEST)
    y = np.int64(np.floor((0.5 - np.arcsinh(np.tan(lat)) / (2 * np.pi)) * 2.0**_FINEST)) % (1 << _FINEST)
    speed, kind = np.hypot(v_e, v_n), 0
    while kind < len(_SPEEDS) and speed >= _SPEEDS[kind]:
        kind += 1
    motion = (np.int64(cells.STILL if kind == 0 else _octant(v_e, v_n)) << 4) | kind
    any_found = False
    came = cells.STILL if np.hypot(w_e, w_n) < cells.CAME_M else _octant(w_e, w_n)
    for level in range(_L):
        above = _FINEST - _ZOOMS[level]
        wanted = (np.int64(level) << cells.LEVEL_SHIFT) | ((x >> above) << 40) | ((y >> above) << 20) | motion
        if level == _L - 1:
            wanted |= np.int64(came) << cells.CAME_SHIFT
        low, high = 0, len(key)
        while low < high:
            mid = (low + high) // 2
            if key[mid] < wanted:
                low = mid + 1
            else:
                high = mid
        found = low < len(key) and key[low] == wanted
        place[level] = low if found else -1
        any_found |= found
    return any_found


@compiled
def _octant(east, north):  # type: ignore[no-untyped-def]
    return np.int64(np.floor(np.arctan2(east, north) * (4 / np.pi) + 0.5)) % 8


@compiled
def _levels(n, off_cm, off_cm2, place, dt, prior_e, prior_n, var0, count, var, apart):  # type: ignore[no-untyped-def]
    """`estimate.levels` of one question; `apart` is from the forecast to the estimates."""
    upper = 1
    while upper < len(_HORIZONS) - 1 and _HORIZONS[upper] < dt:
        upper += 1
    share = (dt - _HORIZONS[upper - 1]) / (_HORIZONS[upper] - _HORIZONS[upper - 1])
    share = min(max(share, 0.0), 1.0)
    near = min(dt / _HORIZONS[0], 1.0) ** 2
    off_e, off_n, length2 = prior_e, prior_n, 2 * var0 + prior_e * prior_e + prior_n * prior_n
    for level in range(_L):
        seen, sum_e, sum_n, square = 0.0, 0.0, 0.0, 0.0
        at = place[level]
        if at >= 0:
            low, high = upper - 1, upper
            seen = (n[at, low] * (1 - share) + n[at, high] * share) / UNIT
            scale = near / outcomes.CM_PER_M
            sum_e = (off_cm[at, low, 0] * (1 - share) + off_cm[at, high, 0] * share) * scale
            sum_n = (off_cm[at, low, 1] * (1 - share) + off_cm[at, high, 1] * share) * scale
            square = (off_cm2[at, low] * (1 - share) + off_cm2[at, high] * share) * (near / _CM2)
        weight = seen + estimate.PRIOR
        off_e, off_n = (sum_e + estimate.PRIOR * off_e) / weight, (sum_n + estimate.PRIOR * off_n) / weight
        length2 = (square + estimate.PRIOR * length2) / weight
        count[level] = seen
        var[level] = max((length2 - off_e * off_e - off_n * off_n) / 2, estimate.MIN_SIGMA_M**2)
        apart[level, 0], apart[level, 1] = off_e - prior_e, off_n - prior_n


@compiled
def _log_h(ms, most_h):  # type: ignore[no-untyped-def]
    return np.float32(np.log1p(min(max(ms / head.MS_PER_H, 0.0), most_h)) / 4)


@compiled
def _layer(x, weight, bias, bent, out):  # type: ignore[no-untyped-def]
    for o in range(len(out)):
        total = bias[o]
        for i in range(len(x)):
            total += x[i] * weight[o, i]
        out[o] = max(total, np.float32(0.0)) if bent else total


@compiled
def _bounded(x):  # type: ignore[no-untyped-def]
    return x / (1 + abs(x))
