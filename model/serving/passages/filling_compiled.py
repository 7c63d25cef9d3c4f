"""Moves gap fills to ways on which passages went: the fast version of `model.atlas.filling`.

Shapes: N gaps, P asked times of all gaps together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.atlas import buckets as at
from model.atlas import filling
from model.atlas.atlas import Atlas
from model.atlas.published import NUMBERS
from model.atlas.ways import I64, ON_M, SPEED_MPS
from model.jit import compiled
from model.kinematics.geo import F64
from model.kinematics.queries import GapEnds
from model.serving.passages.believing_compiled import mix
from model.serving.passages.nearest_compiled import (
    TIMES_S,
    J,
    W,
    cells_around,
    columns_of,
    east_scale,
    first_place,
    new_room,
    place_at,
    put,
    set_beside,
    set_reached,
    set_way,
)
from model.serving.passages.ways_compiled import shorten

_MASK: Final = (1 << at.ZOOM) - 1
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
            _fill(*columns_of(atlas.passages), rows, start, *ends[:6], begin, t_s, mean, cov, rests_on, new_room())
    return rests_on


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
        to_e, to_n, scale = chord_en[i, 0], chord_en[i, 1], east_scale(start[i])
        gap = ends[0]
        gap.to_e, gap.to_n, gap.gap_s = to_e, to_n, gap_s[i]
        gap.has_before, gap.has_after = has_before[i] > 0, has_after[i] > 0
        gap.before_e, gap.before_n = shorten(before_mps[i, 0], before_mps[i, 1])
        gap.after_e, gap.after_n = shorten(after_mps[i, 0], after_mps[i, 1])
        count = _along(bucket, stop, origin_e7, signature, on, known, mark, start[i], scale, gap, near)
        for j in range(count):
            set_way(stop, origin_e7, signature, on, known, near.row[j], near.place[j], start[i], scale, near, j)
        set_beside(near, count)
        for j in range(count):
            near.weight[j] = 1 / (filling.NEAR_M**2 + near.apart[j])
            set_reached(on, near.row[j], near, j, to_e, to_n, gap_s[i])
        for place in range(begin[i], begin[i + 1] if count else begin[i]):
            found = _ask_gap(on, near, count, t_s[place] / gap_s[i], to_e, to_n)
            mix(mean, cov, place, 0, found, 1.0, 0.0)
        rests_on[i] = count


@compiled
def _along(  # type: ignore[no-untyped-def]
    bucket, stop, origin_e7, signature, on, known, mark, fix, scale, gap, near
):
    """Finds the passages that went from a gap's start to its end, and returns how many there are."""
    x, y, beside_x, beside_y = cells_around(fix)
    count, most = 0, filling.MOST
    for j in range(J):
        near.mark[j] = -1
    for cell in range(4):
        tile_x, tile_y = (beside_x if cell >= 2 else x) & _MASK, (beside_y if cell % 2 else y) & _MASK
        first = (tile_x << at.COLUMN) | (tile_y << at.OCTANT_BITS)
        place = first_place(bucket, first)
        while place < len(bucket) and bucket[place] <= first + at.STILL:
            for begin in range(stop[place - 1] if place else 0, stop[place], J):
                some = min(stop[place] - begin, J)
                for j in range(some):
                    set_way(stop, origin_e7, signature, on, known, begin + j, place, fix, scale, near, j)
                set_beside(near, some)
                for j in range(some):
                    far = near.far[j]
                    if far > filling.BESIDE_M**2 or (count == most and far >= near.apart[most - 1]):
                        continue
                    to = set_reached(on, begin + j, near, j, gap.to_e, gap.to_n, gap.gap_s)
                    if to <= filling.BESIDE_M**2:
                        apart = far + to + _differs(stop, signature, on, begin + j, place, gap, near, j)
                        count = put(near, most, count, begin + j, place, mark[begin + j], apart)
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
        until_s = min(near.end[0, j] + filling.AFTER_S, TIMES_S[near.last[j]])
        after_s = until_s - near.end[0, j]
        if after_s >= filling.LEAST_AFTER_S:
            e, north = _later(on, p, until_s)
            v_e, v_n = shorten((e - near.end[1, j]) / after_s, (north - near.end[2, j]) / after_s)
            off_e, off_n = v_e - gap.after_e, v_n - gap.after_n
            apart += (off_e * off_e + off_n * off_n) * filling.SPEED_S**2
        else:
            apart += filling.UNKNOWN_MPS**2 * filling.SPEED_S**2
    return apart


@compiled
def _later(on, p, at_s):  # type: ignore[no-untyped-def]
    """Returns where a passage was at a time of its way on, in metres from its own ping."""
    upper = 2
    while upper < W - 1 and TIMES_S[upper] < at_s:
        upper += 1
    share = (at_s - TIMES_S[upper - 1]) / (TIMES_S[upper] - TIMES_S[upper - 1])
    low_e, low_n = 0.0, 0.0
    if upper > 2:
        low_e, low_n = on[p, upper - 3, 0] * ON_M, on[p, upper - 3, 1] * ON_M
    high_e, high_n = on[p, upper - 2, 0] * ON_M, on[p, upper - 2, 1] * ON_M
    return low_e + (high_e - low_e) * share, low_n + (high_n - low_n) * share


@compiled
def _ask_gap(on, near, count, done, to_e, to_n):  # type: ignore[no-untyped-def]
    """Returns how many passages there are, and where the thing was when a share of a gap was done: mean and covariance
    of the passages along it."""
    total, e, north, ee, en, nn = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(count):
        at_e, at_n = place_at(on, near, j, near.begin[0, j] + done * (near.end[0, j] - near.begin[0, j]))
        near.went[0, j] = at_e - (1 - done) * near.begin[1, j] - done * (near.end[1, j] - to_e)
        near.went[1, j] = at_n - (1 - done) * near.begin[2, j] - done * (near.end[2, j] - to_n)
        total += near.weight[j]
        e, north = e + near.weight[j] * near.went[0, j], north + near.weight[j] * near.went[1, j]
    e, north = e / total, north / total
    for j in range(count):
        off_e, off_n, of = near.went[0, j] - e, near.went[1, j] - north, near.weight[j] / total
        ee, en, nn = ee + of * off_e * off_e, en + of * off_e * off_n, nn + of * off_n * off_n
    return float(count), e, north, ee, en, nn
