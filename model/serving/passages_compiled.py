"""Asks passages for pings and gaps, one row at a time, and moves forecasts and fills: the fast version of
`model.atlas.buckets.around`, of `ways_in` and `velocities` in `model.atlas.ways`, and of `model.atlas.asking`,
`believing.combine` and `filling`.

tests/model/atlas holds this module to them: a change there needs a change here.

Shapes: N rows, Q questions of each, I ways in, P passages, J nearest ones, n passages of a bucket, S numbers of a
signature. Of gap fills: N gaps, P asked times of all gaps together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.atlas import asking, believing, branching, filling
from model.atlas import buckets as at
from model.atlas.asking import Estimate
from model.atlas.atlas import Atlas
from model.atlas.branching import Branches
from model.atlas.passages import Ids
from model.atlas.published import NUMBERS, Published
from model.atlas.questions import Questions
from model.atlas.ways import FULL_MPS, I64, IN_M, IN_S, MAX_APART_MS, MAX_MPS, MIN_STEP_S, ON_M, SPEED_MPS, Approach
from model.jit import compiled
from model.kinematics.features import FIX
from model.kinematics.geo import E7, F64, M_PER_DEG, MIN_COS_LAT
from model.kinematics.queries import GapEnds

_I: Final = len(IN_S)
_IN_MS: Final = np.round(1000 * np.array(IN_S)).astype(np.int64)
_J: Final = asking.NEAREST
_TIMES_S: Final = asking.TIMES_S
_W: Final = len(_TIMES_S)
_B: Final = asking.BESIDE
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
_LOG_HORIZONS: Final = np.log(np.array(believing.HORIZONS_S))
_NOBODY: Final = np.empty(0, np.uint64)
_PART: Final = 128  # passages of a bucket that are compared at a time
assert _I == 3  # `_set_apart` has no loop over them
assert filling.MOST <= _J
# The passages that are nearest to a ping or a gap, nearest first, and what is found of each. It is a record, because
# numba counts in every function who refers to an array, and that took longer than all the rest. Nobody counts who
# refers to a record: it has to lie in an array that the caller keeps.
_NEAR: Final = np.dtype(
    [
        ("row", "<i8", _J),
        ("place", "<i8", _J),  # of its bucket
        ("mark", "<i4", _J),  # -1 where there is none
        ("apart", "<f8", _J),  # squared metres
        ("weight", "<f8", _J),
        ("last", "<i8", _J),  # of the places at asking.TIMES_S, that is known
        ("way", "<f8", (_B + 1, 2, _J)),  # the first of these places, in metres from its own ping
        ("own", "<f8", (2, _J)),  # where its own ping is
        ("begin", "<f8", (3, _J)),  # when it was beside the ping or the gap's start, and where
        ("end", "<f8", (3, _J)),  # when it was beside the gap's end, and where
        ("far", "<f8", _J),  # from there, squared metres
        ("went", "<f8", (2, _J)),  # for one question
        ("led", "<i8", _J),  # which way on it goes, of those told apart; one more: elsewhere; -1: not known far enough
        ("leader", "<i8", branching.WAYS),  # the passage that goes each of these ways, and is nearest to the ping
        ("led_weight", "<f8", branching.WAYS),
        ("led_count", "<i8", branching.WAYS),
        ("candidate", "<f8", _PART),  # squared metres
    ],
    align=True,
)

# What passages are compared with along a gap, in metres and m/s from its start.
_ENDS: Final = np.dtype(
    [
        ("to_e", "<f8"),
        ("to_n", "<f8"),
        ("gap_s", "<f8"),
        ("before_e", "<f8"),
        ("before_n", "<f8"),
        ("after_e", "<f8"),
        ("after_n", "<f8"),
        ("has_before", "<i8"),
        ("has_after", "<i8"),
    ]
)


def estimate(
    version: Published,
    fixes: NDArray[Any],
    approach: Approach,
    dt_s: F64,
    vehicle: Ids = _NOBODY,
    mine: Ids = _NOBODY,
) -> Estimate:
    """Returns where pings, FIX [N], that came by `approach` will be dt_s [N, Q] seconds later. If it is known whose the
    passages are, `vehicle` [P], and whose the pings, `mine` [N], nobody is compared with itself.
    """
    shape = dt_s.shape
    found = Estimate(np.zeros((*shape, 2)), np.zeros((*shape, 3)), np.zeros(shape))
    whose = _read_only(vehicle), _read_only(mine)
    _estimate(*_columns(version), *whose, fixes, approach.in_m, approach.velocity_mps, dt_s, *found, _room())
    return found


def answer_questions(version: Published, questions: Questions, vehicle: Ids) -> Estimate:
    """Returns where the things of questions were later, at believing.HORIZONS_S, by the passages of others. It is known
    whose the passages are: `vehicle` [P]."""
    dt_s = np.tile(believing.HORIZONS_S, (len(questions), 1))
    approach = approaches_of(questions.windows)
    found = estimate(version, questions.last, approach, dt_s, vehicle, questions.rows["id"])
    return found._replace(n=np.where(approach.came[:, None], found.n, 0.0))


def move(
    mean: F64,
    cov: F64,
    sound: NDArray[np.bool_],
    last: NDArray[Any],
    dt_s: F64,
    atlases: Sequence[Atlas],
    which: I64,
    approach: Approach,
) -> tuple[I64, Branches]:
    """Moves means [N, Q, 2] and covariances [N, Q, 3] of sound rows [N], in place, to where passages went that came as
    the row's last fix did: an index `which` [N] into `atlases`, or -1 for none. Returns how many passages [N] each row
    rests on; one with 0 is not changed. With it come the branches of the rows at all questions but the first, which is
    the next ping.
    """
    rests_on = np.zeros(len(mean), np.int64)
    parted = Branches.none(len(mean), dt_s.shape[1] - 1)
    for number, atlas in enumerate(atlases):
        if (rows := sound & (which == number) & approach.came).any():
            believed = 1.0 / atlas.belief.scale, atlas.belief.log_wide
            asked = rows, last, *approach[:2], dt_s
            _move(*_columns(atlas.passages), *believed, *asked, mean, cov, rests_on, *parted, _room())
    return rests_on, parted


def move_fills(
    mean: F64,
    cov: F64,
    sound: NDArray[np.bool_],
    start: NDArray[Any],
    ends: GapEnds,
    of: I64,
    t_s: F64,
    atlases: Sequence[Atlas],
    which: I64,
) -> I64:
    """Moves the means [P, 1, 2] and covariances [P, 1, 3] of fills of sound gaps [N], in place, to ways on which
    passages went from the gap's start, FIX [N], to its end: an index `which` [N] into `atlases`, or -1 for none. `of`
    [P] rises. Returns how many passages [N] each fill rests on; one with 0 is not changed.
    """
    rests_on = np.zeros(len(start), np.int64)
    begin = np.searchsorted(of, np.arange(len(start) + 1))
    for number, atlas in enumerate(atlases):
        if (rows := sound & (which == number)).any():
            _fill(*_columns(atlas.passages), rows, start, *ends[:6], begin, t_s, mean, cov, rests_on, _room())
    return rests_on


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


def _columns(version: Published) -> list[NDArray[Any]]:
    """Returns the columns of a version as they are asked: the signatures in one line."""
    columns: tuple[NDArray[Any], ...] = version._replace(signature=version.signature.reshape(-1))
    return [_read_only(column) for column in columns]


def _room() -> NDArray[Any]:
    return np.zeros(1, _NEAR)


def _read_only(column: NDArray[Any]) -> NDArray[Any]:
    """Returns a view that cannot be written to, as a mapped file cannot: numba compiles for one kind of arrays only."""
    view = np.ascontiguousarray(column).view()
    view.flags.writeable = False
    return view


@compiled
def _approaches(rings, row, newest, size, in_m, velocity_mps, came):  # type: ignore[no-untyped-def]
    for i in range(len(row)):
        came[i] = set_approach(rings[row[i]], newest[i], size[i], in_m[i], velocity_mps[i])


@compiled
def set_approach(ring, newest, size, in_m, velocity_mps):  # type: ignore[no-untyped-def]
    """Sets in_m [I, 2] and velocity_mps [2] to how the fix at `newest` of a window in a ring, FIX [W], came there.
    Returns whether it came from anywhere."""
    places, here = len(ring), ring[newest]
    scale, later_ms, later_e, later_n, asked, came = _scale(here), here.ts_ms, 0.0, 0.0, 0, False
    for back in range(1, size):
        fix = ring[(newest - back) % places]
        apart_ms = later_ms - fix.ts_ms
        if apart_ms > MAX_APART_MS:
            break
        e, north = _apart_m(here, scale, fix.lat_e7, fix.lon_e7)
        if back == 1:
            came = True
            step_s = max(apart_ms / 1000.0, MIN_STEP_S)
            v_e, v_n = _apart_m(fix, _scale(fix), here.lat_e7, here.lon_e7)
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
def _estimate(  # type: ignore[no-untyped-def]
    bucket,
    stop,
    origin_e7,
    signature,
    on,
    known,
    mark,
    vehicle,
    mine,
    fixes,
    in_m,
    velocity_mps,
    dt_s,
    mean,
    cov,
    n,
    room,
):
    near = room[0]
    for i in range(len(fixes)):
        me = mine[i] if len(mine) else np.uint64(0)
        count = _ask(
            bucket, stop, origin_e7, signature, on, known, mark, vehicle, me, fixes, in_m, velocity_mps, i, near
        )
        for q in range(dt_s.shape[1] if count else 0):
            n[i, q], e, north, ee, en, nn = _middle(on, near, count, dt_s[i, q])
            mean[i, q, 0], mean[i, q, 1] = e, north
            cov[i, q, 0], cov[i, q, 1], cov[i, q, 2] = ee, en, nn


@compiled
def _move(  # type: ignore[no-untyped-def]
    bucket, stop, origin_e7, signature, on, known, mark, over_scale, log_wide,
    rows, last, in_m, velocity_mps, dt_s, mean, cov, rests_on, share, branch, room,
):  # fmt: skip
    near, vehicle, me = room[0], np.empty(0, np.uint64), np.uint64(0)
    for i in range(len(rows)):
        if not rows[i]:
            continue
        count = _ask(
            bucket, stop, origin_e7, signature, on, known, mark, vehicle, me, last, in_m, velocity_mps, i, near
        )
        for q in range(dt_s.shape[1] if count else 0):
            found = _middle(on, near, count, dt_s[i, q])
            if found[0] >= asking.LEAST and _combine(mean[i, q], cov[i, q], found, dt_s[i, q], over_scale, log_wide):
                rests_on[i] = count
        if rests_on[i]:
            _set_branches(on, near, count, dt_s[i, 1:], share[i], branch[i])


@compiled
def _set_branches(on, near, count, dt, share, branch):  # type: ignore[no-untyped-def]
    """Sets the shares [M] and the places [M, H, 2] of the branches of a ping at some times [H]."""
    ahead_s = _known_ahead_s(near, count, dt)
    if ahead_s == 0.0:
        return
    ways, total = _tell_apart(on, near, count, ahead_s)
    chosen = 0
    while chosen < branching.MOST:
        most = -1
        for way in range(ways):
            enough = near.led_count[way] > 1 and near.led_weight[way] >= branching.LEAST_SHARE * total
            if enough and (most < 0 or near.led_weight[way] > near.led_weight[most]):
                most = way
        if most < 0:
            break
        share[chosen] = near.led_weight[most] / total
        for h in range(len(dt)):
            if dt[h] <= ahead_s:
                branch[chosen, h, 0], branch[chosen, h, 1] = _middle_of_way(on, near, count, most, dt[h])
        near.led_count[most] = 0
        chosen += 1
    if chosen == 1:
        share[0] = 0.0
        branch[0] = np.nan


@compiled
def _known_ahead_s(near, count, dt):  # type: ignore[no-untyped-def]
    """Returns the longest of some times [H] up to which half of the passages are known, by weight; 0 if there is
    none."""
    ahead_s, total = 0.0, 0.0
    for j in range(count):
        total += near.weight[j]
    for h in range(len(dt)):
        known = 0.0
        for j in range(count):
            if near.begin[0, j] + dt[h] <= _TIMES_S[near.last[j]]:
                known += near.weight[j]
        if known >= total / 2 and total >= asking.LEAST and dt[h] > ahead_s:
            ahead_s = dt[h]
    return ahead_s


@compiled
def _tell_apart(on, near, count, ahead_s):  # type: ignore[no-untyped-def]
    """Finds which way each passage goes that is known for ahead_s. Returns how many ways there are, and the weight of
    these passages."""
    ways, total, near_m2 = 0, 0.0, filling.BESIDE_M**2
    for j in range(count):
        near.led[j] = -1
        if near.begin[0, j] + ahead_s > _TIMES_S[near.last[j]]:
            continue
        at_e, at_n = _at(on, near, j, near.begin[0, j] + ahead_s)
        e, north = at_e + near.own[0, j], at_n + near.own[1, j]
        near.went[0, j], near.went[1, j] = e, north
        total += near.weight[j]
        near.led[j] = branching.WAYS
        for way in range(ways):
            leader = near.leader[way]
            to_e, to_n = near.went[0, leader], near.went[1, leader]
            if (
                _set_reached(on, near.row[leader], near, leader, e, north, ahead_s) <= near_m2
                or _set_reached(on, near.row[j], near, j, to_e, to_n, ahead_s) <= near_m2
            ):
                near.led[j] = way
                break
        if near.led[j] == branching.WAYS and ways < branching.WAYS:
            near.leader[ways], near.led_weight[ways], near.led_count[ways] = j, 0.0, 0
            near.led[j] = ways
            ways += 1
        if near.led[j] < branching.WAYS:
            near.led_weight[near.led[j]] += near.weight[j]
            near.led_count[near.led[j]] += 1
    return ways, total


@compiled
def _middle_of_way(on, near, count, way, dt):  # type: ignore[no-untyped-def]
    """Returns where the passages of a way were after dt seconds: their mean, in metres from the ping."""
    sum_e, sum_n = 0.0, 0.0
    for j in range(count):
        if near.led[j] == way:
            at_e, at_n = _at(on, near, j, near.begin[0, j] + dt)
            sum_e += near.weight[j] * (at_e + near.own[0, j])
            sum_n += near.weight[j] * (at_n + near.own[1, j])
    return sum_e / near.led_weight[way], sum_n / near.led_weight[way]


@compiled
def _combine(mean, cov, found, dt, over_scale, log_wide):  # type: ignore[no-untyped-def]
    """`believing.combine` of one question, in place. Returns whether anything is believed."""
    log_dt, horizon = np.log(dt), 0
    while horizon < len(_LOG_HORIZONS) - 2 and log_dt > _LOG_HORIZONS[horizon + 1]:
        horizon += 1
    part = (log_dt - _LOG_HORIZONS[horizon]) / (_LOG_HORIZONS[horizon + 1] - _LOG_HORIZONS[horizon])
    part = min(max(part, 0.0), 1.0)
    over = over_scale[horizon] + part * (over_scale[horizon + 1] - over_scale[horizon])
    wide = log_wide[horizon] + part * (log_wide[horizon + 1] - log_wide[horizon])
    return _mix(mean, cov, found, over, wide)


@compiled
def _mix(mean, cov, found, over, log_wide):  # type: ignore[no-untyped-def]
    n, there_e, there_n, ee, en, nn = found
    few = 1 + believing.FEW / (n + 0.1)
    s_ee = (ee + believing.RECEIVER_M**2) * few
    s_en, s_nn = en * few, (nn + believing.RECEIVER_M**2) * few
    of_model = (cov[0] + cov[2]) / 2 * over
    share = of_model / (of_model + (s_ee + s_nn) / 2)
    if not share > 0:
        return False
    less = 1 / max(over, 1e-12)
    off_e, off_n = there_e - mean[0], there_n - mean[1]
    wide, both = np.exp(share * log_wide), share * (1 - share)
    cov[0] = (share * s_ee * less + (1 - share) * cov[0] + both * off_e * off_e) * wide
    cov[1] = (share * s_en * less + (1 - share) * cov[1] + both * off_e * off_n) * wide
    cov[2] = (share * s_nn * less + (1 - share) * cov[2] + both * off_n * off_n) * wide
    mean[0], mean[1] = mean[0] + share * off_e, mean[1] + share * off_n
    return True


@compiled
def _ask(  # type: ignore[no-untyped-def]
    bucket, stop, origin_e7, signature, on, known, mark, vehicle, me, fixes, in_m, velocity_mps, i, near
):
    """Finds the passages nearest to a ping, how much each counts and where it was beside the ping. Returns how many
    there are."""
    count = _nearest(bucket, stop, origin_e7, signature, mark, vehicle, me, fixes[i], in_m, velocity_mps, i, near)
    wide2 = max(near.apart[asking.RANK], asking.NEAR_M**2) if count > asking.RANK else asking.NEAR_M**2
    scale = _scale(fixes[i])
    for j in range(count):
        near.weight[j] = np.exp(-0.5 * near.apart[j] * (1 / wide2 + 1 / asking.KERNEL_M**2))
        _set_way(stop, origin_e7, signature, on, known, near.row[j], near.place[j], fixes[i], scale, near, j)
    _set_beside(near)
    return count


@compiled
def _fill(  # type: ignore[no-untyped-def]
    bucket,
    stop,
    origin_e7,
    signature,
    on,
    known,
    mark,
    rows,
    start,
    chord_en,
    gap_s,
    before_mps,
    after_mps,
    has_before,
    has_after,
    begin,
    t_s,
    mean,
    cov,
    rests_on,
    room,
):
    near, ends = room[0], np.zeros(1, _ENDS)
    for i in range(len(rows)):
        if not rows[i] or gap_s[i] < filling.MIN_GAP_S or gap_s[i] > filling.MAX_GAP_S:
            continue
        to_e, to_n, scale = chord_en[i, 0], chord_en[i, 1], _scale(start[i])
        gap = ends[0]
        gap.to_e, gap.to_n, gap.gap_s = to_e, to_n, gap_s[i]
        gap.has_before, gap.has_after = has_before[i] > 0, has_after[i] > 0
        gap.before_e, gap.before_n = _shortened(before_mps[i, 0], before_mps[i, 1])
        gap.after_e, gap.after_n = _shortened(after_mps[i, 0], after_mps[i, 1])
        count = _along(bucket, stop, origin_e7, signature, on, known, mark, start[i], scale, gap, near)
        for j in range(count):
            _set_way(stop, origin_e7, signature, on, known, near.row[j], near.place[j], start[i], scale, near, j)
        _set_beside(near)
        for j in range(count):
            near.weight[j] = 1 / (filling.NEAR_M**2 + near.apart[j])
            _set_reached(on, near.row[j], near, j, to_e, to_n, gap_s[i])
        for place in range(begin[i], begin[i + 1] if count else begin[i]):
            found = _ask_gap(on, near, count, t_s[place] / gap_s[i], to_e, to_n)
            _mix(mean[place, 0], cov[place, 0], found, 1.0, 0.0)
        rests_on[i] = count


@compiled
def _ask_gap(on, near, count, done, to_e, to_n):  # type: ignore[no-untyped-def]
    """Returns how many passages there are, and where the thing was when a share of a gap was done: mean and covariance
    of the passages along it."""
    total, e, north, ee, en, nn = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(count):
        at_e, at_n = _at(on, near, j, near.begin[0, j] + done * (near.end[0, j] - near.begin[0, j]))
        near.went[0, j] = at_e - (1 - done) * near.begin[1, j] - done * (near.end[1, j] - to_e)
        near.went[1, j] = at_n - (1 - done) * near.begin[2, j] - done * (near.end[2, j] - to_n)
        total += near.weight[j]
        e, north = e + near.weight[j] * near.went[0, j], north + near.weight[j] * near.went[1, j]
    e, north = e / total, north / total
    for j in range(count):
        off_e, off_n, of = near.went[0, j] - e, near.went[1, j] - north, near.weight[j] / total
        ee, en, nn = ee + of * off_e * off_e, en + of * off_e * off_n, nn + of * off_n * off_n
    return float(count), e, north, ee, en, nn


@compiled
def _along(  # type: ignore[no-untyped-def]
    bucket, stop, origin_e7, signature, on, known, mark, fix, scale, gap, near
):
    """Finds the passages that went from a gap's start to its end, and returns how many there are."""
    x, y, beside_x, beside_y = _cells(fix)
    count, most = 0, filling.MOST
    for j in range(_J):
        near.mark[j] = -1
    for cell in range(4):
        tile_x, tile_y = (beside_x if cell >= 2 else x) & _MASK, (beside_y if cell % 2 else y) & _MASK
        first = (tile_x << at.COLUMN) | (tile_y << at.OCTANT_BITS)
        place = np.searchsorted(bucket, first)
        while place < len(bucket) and bucket[place] <= first + at.STILL:
            for begin in range(stop[place - 1] if place else 0, stop[place], _J):
                some = min(stop[place] - begin, _J)
                for j in range(some):
                    _set_way(stop, origin_e7, signature, on, known, begin + j, place, fix, scale, near, j)
                _set_beside(near)
                for j in range(some):
                    far = near.far[j]
                    if far > filling.BESIDE_M**2 or (count == most and far >= near.apart[most - 1]):
                        continue
                    to = _set_reached(on, begin + j, near, j, gap.to_e, gap.to_n, gap.gap_s)
                    if to <= filling.BESIDE_M**2:
                        apart = far + to + _differs(stop, signature, on, begin + j, place, gap, near, j)
                        count = _put(near, most, count, begin + j, place, mark[begin + j], apart)
            place += 1
    return count


@compiled
def _differs(stop, signature, on, p, place, gap, near, j):  # type: ignore[no-untyped-def]
    """Returns by how much the way of a passage from a gap's start to its end differs from the gap, beside the places:
    in the time that it took, and in the velocities at both ends."""
    took = np.log((near.end[0, j] - near.begin[0, j]) / gap.gap_s)
    apart = (filling.TOOK_M * took) ** 2
    if gap.has_before:
        begin = stop[place - 1] if place else 0
        each = stop[place] - begin
        k = (NUMBERS - 1) * begin + p + (NUMBERS - 2) * each
        off_e, off_n = signature[k] * SPEED_MPS - gap.before_e, signature[k + each] * SPEED_MPS - gap.before_n
        apart += (off_e * off_e + off_n * off_n) * filling.SPEED_S**2
    if gap.has_after:
        until_s = min(near.end[0, j] + filling.AFTER_S, _TIMES_S[near.last[j]])
        after_s = until_s - near.end[0, j]
        if after_s >= filling.LEAST_AFTER_S:
            e, north = _later(on, p, until_s)
            v_e, v_n = _shortened((e - near.end[1, j]) / after_s, (north - near.end[2, j]) / after_s)
            off_e, off_n = v_e - gap.after_e, v_n - gap.after_n
            apart += (off_e * off_e + off_n * off_n) * filling.SPEED_S**2
        else:
            apart += filling.UNKNOWN_MPS**2 * filling.SPEED_S**2
    return apart


@compiled
def _later(on, p, at_s):  # type: ignore[no-untyped-def]
    """Returns where a passage was at a time of its way on, in metres from its own ping."""
    upper = 2
    while upper < _W - 1 and _TIMES_S[upper] < at_s:
        upper += 1
    share = (at_s - _TIMES_S[upper - 1]) / (_TIMES_S[upper] - _TIMES_S[upper - 1])
    low_e, low_n = 0.0, 0.0
    if upper > 2:
        low_e, low_n = on[p, upper - 3, 0] * ON_M, on[p, upper - 3, 1] * ON_M
    high_e, high_n = on[p, upper - 2, 0] * ON_M, on[p, upper - 2, 1] * ON_M
    return low_e + (high_e - low_e) * share, low_n + (high_n - low_n) * share


@compiled
def _shortened(e, north):  # type: ignore[no-untyped-def]
    """`ways.shortened` of one velocity."""
    speed = np.hypot(e, north)
    less = min(speed, MAX_MPS) / max(speed, FULL_MPS)
    return e * less, north * less


@compiled
def _set_reached(on, p, near, j, to_e, to_n, gap_s):  # type: ignore[no-untyped-def]
    """Sets when a passage was nearest to the end of a gap, and where it was then, if that took about as long as the
    gap; returns how far apart they were, squared."""
    far, e, north = _FAR, to_e - near.own[0, j], to_n - near.own[1, j]
    b_e, b_n = 0.0, 0.0
    first_s, last_s = near.begin[0, j] + filling.QUICKEST * gap_s, near.begin[0, j] + filling.SLOWEST * gap_s
    for number in range(1, near.last[j]):
        from_s, to_s = _TIMES_S[number], _TIMES_S[number + 1]
        low, high = max((first_s - from_s) / (to_s - from_s), 0.0), min((last_s - from_s) / (to_s - from_s), 1.0)
        a_e, a_n = b_e, b_n
        b_e, b_n = on[p, number - 1, 0] * ON_M, on[p, number - 1, 1] * ON_M
        if low > high:
            continue
        d_e, d_n = b_e - a_e, b_n - a_n
        length2 = max(d_e * d_e + d_n * d_n, 1e-9)
        share = min(max(((e - a_e) * d_e + (north - a_n) * d_n) / length2, low), high)
        there_e, there_n = a_e + share * d_e, a_n + share * d_n
        apart = (e - there_e) ** 2 + (north - there_n) ** 2
        if apart < far:
            far = apart
            near.end[0, j], near.end[1, j], near.end[2, j] = from_s + share * (to_s - from_s), there_e, there_n
    return far


@compiled
def _at(on, near, j, at_s):  # type: ignore[no-untyped-def]
    """Returns where a passage was at a time of its known way."""
    upper = 1
    while upper < _W - 1 and _TIMES_S[upper] < at_s:
        upper += 1
    share = (at_s - _TIMES_S[upper - 1]) / (_TIMES_S[upper] - _TIMES_S[upper - 1])
    low_e, low_n = _place(on, near, j, upper - 1)
    high_e, high_n = _place(on, near, j, upper)
    return low_e + (high_e - low_e) * share, low_n + (high_n - low_n) * share


@compiled
def _place(on, near, j, number):  # type: ignore[no-untyped-def]
    """Returns where a passage was at asking.TIMES_S[number]."""
    if number <= 1:
        return near.way[number, 0, j], near.way[number, 1, j]
    return on[near.row[j], number - 2, 0] * ON_M, on[near.row[j], number - 2, 1] * ON_M


@compiled
def _nearest(  # type: ignore[no-untyped-def]
    bucket, stop, origin_e7, signature, mark, vehicle, me, fix, in_m, velocity_mps, i, near
):
    """Finds the passages nearest to a ping, and returns how many there are."""
    x, y, beside_x, beside_y = _cells(fix)
    came_e, came_n = -in_m[i, 0, 0], -in_m[i, 0, 1]
    if np.hypot(came_e, came_n) < at.CAME_M:
        octant, other = np.int64(at.STILL), np.int64(at.STILL)
    else:
        turns = np.arctan2(came_e, came_n) * (4 / np.pi) + 0.5
        octant = np.int64(np.floor(turns))
        other = (octant + (-1 if turns - octant < 0.5 else 1)) % 8
        octant = octant % 8
    scale, count = _scale(fix), 0
    for j in range(_J):
        near.mark[j] = -1
    for cell in range(4):
        tile_x, tile_y = (beside_x if cell >= 2 else x) & _MASK, (beside_y if cell % 2 else y) & _MASK
        for turn in range(2):
            if turn == 1 and other == octant:
                continue
            wanted = (tile_x << at.COLUMN) | (tile_y << at.OCTANT_BITS) | (other if turn else octant)
            place = np.searchsorted(bucket, wanted)
            if place == len(bucket) or bucket[place] != wanted:
                continue
            for part in range(stop[place - 1] if place else 0, stop[place], _PART):
                some = min(stop[place] - part, _PART)
                _set_apart(stop, origin_e7, signature, place, part, some, fix, scale, in_m, velocity_mps, i, near)
                for j in range(some if len(vehicle) else 0):
                    if vehicle[part + j] == me:
                        near.candidate[j] = _FAR
                least = near.apart[_J - 1] if count == _J else _FAR
                for j in range(some):
                    if near.candidate[j] < least:
                        count = _put(near, _J, count, part + j, place, mark[part + j], near.candidate[j])
                        least = near.apart[_J - 1] if count == _J else _FAR
    return count


@compiled
def _set_apart(  # type: ignore[no-untyped-def]
    stop, origin_e7, signature, place, part, some, fix, scale, in_m, velocity_mps, i, near
):
    """Sets how far apart from a ping some passages of a bucket are, from `part` on, squared: several at a time."""
    origin_e, origin_n = _apart_m(fix, scale, origin_e7[place, 0], origin_e7[place, 1])
    a_e, a_n, b_e, b_n = in_m[i, 0, 0], in_m[i, 0, 1], in_m[i, 1, 0], in_m[i, 1, 1]
    c_e, c_n, v_e, v_n = in_m[i, 2, 0], in_m[i, 2, 1], velocity_mps[i, 0], velocity_mps[i, 1]
    of_a, of_b, of_c, of_v = _IN_WEIGHTS2[0], _IN_WEIGHTS2[1], _IN_WEIGHTS2[2], asking.SPEED_S**2
    begin = stop[place - 1] if place else 0
    # Unsigned: so numba asks of none whether it is negative.
    n, first = np.uint64(stop[place] - begin), np.uint64((NUMBERS - 1) * begin + part)
    for j in range(np.uint64(some)):
        k = first + j
        north, e = origin_n + signature[k] * _M, origin_e + signature[k + n] * scale
        k += np.uint64(2) * n
        was_a = (e + signature[k] * IN_M - a_e) ** 2 + (north + signature[k + n] * IN_M - a_n) ** 2
        k += np.uint64(2) * n
        was_b = (e + signature[k] * IN_M - b_e) ** 2 + (north + signature[k + n] * IN_M - b_n) ** 2
        k += np.uint64(2) * n
        was_c = (e + signature[k] * IN_M - c_e) ** 2 + (north + signature[k + n] * IN_M - c_n) ** 2
        k += np.uint64(2) * n
        off_v = (signature[k] * SPEED_MPS - v_e) ** 2 + (signature[k + n] * SPEED_MPS - v_n) ** 2
        near.candidate[j] = e * e + north * north + of_a * was_a + of_b * was_b + of_c * was_c + of_v * off_v


@compiled
def _set_way(  # type: ignore[no-untyped-def]
    stop, origin_e7, signature, on, known, p, place, fix, scale, near, j
):
    """Sets where a passage of a bucket was at asking.TIMES_S, and where its own ping is, from a FIX record."""
    begin = stop[place - 1] if place else 0
    each, first = stop[place] - begin, (NUMBERS - 1) * begin + p
    e, north = _apart_m(fix, scale, origin_e7[place, 0], origin_e7[place, 1])
    near.own[0, j], near.own[1, j] = e + signature[first + each] * scale, north + signature[first] * _M
    near.way[0, 0, j], near.way[0, 1, j] = signature[first + 2 * each] * IN_M, signature[first + 3 * each] * IN_M
    for number in range(2, _B + 1):
        near.way[number, 0, j], near.way[number, 1, j] = on[p, number - 2, 0] * ON_M, on[p, number - 2, 1] * ON_M
    near.last[j] = known[p] + 1


@compiled
def _cells(fix):  # type: ignore[no-untyped-def]
    """Returns the column and row of the cell of a FIX record, and of the nearest ones beside and above or below it."""
    lat = min(max(fix.lat_e7 / E7, -at.MAX_LAT_DEG), at.MAX_LAT_DEG) * _RAD
    column = (fix.lon_e7 / E7 / 360.0 + 0.5) * _TILES
    row = (0.5 - np.arcsinh(np.tan(lat)) / (2 * np.pi)) * _TILES
    x, y = np.int64(np.floor(column)), np.int64(np.floor(row))
    return x, y, x + (-1 if column - x < 0.5 else 1), y + (-1 if row - y < 0.5 else 1)


@compiled
def _put(near, most, count, row, place, mark, far):  # type: ignore[no-untyped-def]
    """Puts a passage where it belongs among the nearest. Returns how many there are."""
    if count == most and far >= near.apart[most - 1]:
        return count
    alike = 0
    for j in range(_J):
        alike += near.mark[j] == mark
    if alike < asking.MOST_OF_ONE:
        count = min(count + 1, most)
        j = count - 1
    else:
        j = count - 1
        while near.mark[j] != mark:
            j -= 1
        if far >= near.apart[j]:
            return count
    while j > 0 and near.apart[j - 1] > far:
        near.row[j], near.place[j] = near.row[j - 1], near.place[j - 1]
        near.mark[j], near.apart[j] = near.mark[j - 1], near.apart[j - 1]
        j -= 1
    near.row[j], near.place[j], near.mark[j], near.apart[j] = row, place, mark, far
    return count


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
def _set_beside(near):  # type: ignore[no-untyped-def]
    """Sets when some passages were nearest to the ping, where they were then, and how far apart, several at a time."""
    for j in range(_J):
        near.far[j] = _FAR
    for number in range(_B):
        from_s, each_s = _TIMES_S[number], _TIMES_S[number + 1] - _TIMES_S[number]
        for j in range(_J):
            a_e, a_n = near.way[number, 0, j], near.way[number, 1, j]
            d_e, d_n = near.way[number + 1, 0, j] - a_e, near.way[number + 1, 1, j] - a_n
            off_e, off_n = -near.own[0, j] - a_e, -near.own[1, j] - a_n
            share = min(max((off_e * d_e + off_n * d_n) / max(d_e * d_e + d_n * d_n, 1e-9), 0.0), 1.0)
            apart = (off_e - share * d_e) ** 2 + (off_n - share * d_n) ** 2
            nearer = (number < near.last[j]) & (apart < near.far[j])
            near.far[j] = apart if nearer else near.far[j]
            near.begin[0, j] = from_s + share * each_s if nearer else near.begin[0, j]
            near.begin[1, j] = a_e + share * d_e if nearer else near.begin[1, j]
            near.begin[2, j] = a_n + share * d_n if nearer else near.begin[2, j]


@compiled
def _middle(on, near, count, dt):  # type: ignore[no-untyped-def]
    """Returns the sum of the weights of the nearest passages of which it is known how far they went in dt seconds, and
    the mean and the covariance of that."""
    total, sum_e, sum_n = 0.0, 0.0, 0.0
    for j in range(count):
        at_s = near.begin[0, j] + dt
        step = np.int64((at_s - _TIMES_S[0]) / _GRID_S)
        upper = _UPPER[step] if step < len(_UPPER) else _W - 1
        while upper < _W - 1 and _TIMES_S[upper] < at_s:
            upper += 1
        share = (at_s - _TIMES_S[upper - 1]) / (_TIMES_S[upper] - _TIMES_S[upper - 1])
        if near.last[j] < upper or share > 1:
            near.went[0, j] = _FAR
            continue
        low_e, low_n = _place(on, near, j, upper - 1)
        high_e, high_n = _place(on, near, j, upper)
        near.went[0, j] = low_e + (high_e - low_e) * share - near.begin[1, j]
        near.went[1, j] = low_n + (high_n - low_n) * share - near.begin[2, j]
        total += near.weight[j]
        sum_e, sum_n = sum_e + near.weight[j] * near.went[0, j], sum_n + near.weight[j] * near.went[1, j]
    if total < asking.LEAST:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    e, north = sum_e / total, sum_n / total
    for _ in range(asking.ROUNDS):
        pulls, sum_e, sum_n = 0.0, 0.0, 0.0
        for j in range(count):
            if near.went[0, j] == _FAR:
                continue
            off_e, off_n = near.went[0, j] - e, near.went[1, j] - north
            pull = near.weight[j] / max(np.sqrt(off_e * off_e + off_n * off_n), asking.MIDDLE_M)
            pulls, sum_e, sum_n = pulls + pull, sum_e + pull * near.went[0, j], sum_n + pull * near.went[1, j]
        e, north = sum_e / pulls, sum_n / pulls
    ee, en, nn = 0.0, 0.0, 0.0
    for j in range(count):
        if near.went[0, j] != _FAR:
            off_e, off_n, of = near.went[0, j] - e, near.went[1, j] - north, near.weight[j] / total
            ee, en, nn = ee + of * off_e * off_e, en + of * off_e * off_n, nn + of * off_n * off_n
    return total, e, north, ee, en, nn
