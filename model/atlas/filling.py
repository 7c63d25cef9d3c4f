"""Fills gaps along passages that went from one end to the other in about that time: the definition.

Of the passages in the cells around a gap's start, in whatever direction they came, those are taken that were within
BESIDE_M of it, and later within as much of its end, if that took them QUICKEST to SLOWEST times as long as the gap; of
these the MOST that are most alike, at most two of one vehicle. How far apart a passage and a gap are is a sum of
squares, in metres: of the places at both ends, of the velocities (a passage's at its own ping, and behind the end), and
of the times. Each passage is warped so that its time is the gap's, and moved so that it begins and ends where the gap
does. Their mean, weighted by how near they are, is mixed with the model's fill as both variances ask (`believing`).

Shapes: N gaps, P asked times of all gaps together, C candidates, J = MOST, W = len(asking.TIMES_S).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas import asking
from model.atlas.asking import TIMES_S, Estimate
from model.atlas.buckets import STILL, around
from model.atlas.published import Published
from model.atlas.ways import I64, ON_S, SPEED_MPS, shorten
from model.kinematics.geo import F64, displacement_m
from model.kinematics.queries import GapEnds

MOST: Final = 7
BESIDE_M: Final = 200.0
QUICKEST, SLOWEST = 0.5, 2.0
NEAR_M: Final = 50.0  # what was nearer than this counts the same
SPEED_S: Final = 15.0  # a velocity at an end that differs by 1 m/s is as far as a place that differs by so many metres
TOOK_M: Final = 300.0  # one that took e times as long as the gap, or as short, is as far as so many metres
AFTER_S: Final = 30.0  # after the end, a passage has the velocity of so many seconds; of at least LEAST_AFTER_S
LEAST_AFTER_S: Final = 15.0
UNKNOWN_MPS: Final = 5.0  # by so much the velocity after the end differs where nobody knows how a passage went on
MIN_GAP_S: Final = 30.0
MAX_GAP_S: Final = ON_S[-1] / QUICKEST  # no passage tells of a longer one


class Along(NamedTuple):
    """The passages along which one gap is filled, nearest first."""

    way_m: F64  # [J, W, 2] from the gap's start
    begin_s: F64  # [J] when they were beside its start
    end_s: F64  # [J] when they were beside its end
    weight: F64  # [J]


def fill(version: Published, start: Any, ends: GapEnds, t_s: F64) -> Estimate:
    """Returns where the thing was t_s [P] seconds into a gap, by passages: [P, ...]. `ends` are those of one gap, which
    begins at `start`, one FIX."""
    end_m, gap_s = ends.chord_en, ends.gap_s
    along = passages_along(version, start, ends)
    if not len(along.weight):
        return Estimate(np.zeros((len(t_s), 2)), np.zeros((len(t_s), 3)), np.zeros(len(t_s)))
    done = (t_s / gap_s)[:, None]
    begin_m, stop_m = (places_at(along.way_m, one[:, None])[:, 0] for one in (along.begin_s, along.end_s))
    at_s = along.begin_s + done * (along.end_s - along.begin_s)
    way = np.moveaxis(places_at(along.way_m, at_s.T), 0, 1)  # [P, J, 2]
    way = way - (1 - done)[..., None] * begin_m - done[..., None] * (stop_m - end_m)
    share = along.weight / along.weight.sum()
    mean = (share[:, None] * way).sum(axis=1)
    e, north = np.moveaxis(way - mean[:, None], -1, 0)
    cov = np.stack([(share * one * other).sum(axis=1) for one, other in ((e, e), (e, north), (north, north))], axis=-1)
    return Estimate(mean, cov, np.full(len(t_s), float(len(share))))


def passages_along(version: Published, start: Any, ends: GapEnds) -> Along:
    """Returns the passages that went from a gap's start, one FIX, to its end."""
    gap_s = float(ends.gap_s)
    rows = _rows_around(version, start) if MIN_GAP_S <= gap_s <= MAX_GAP_S else np.empty(0, np.int64)
    here = np.broadcast_to(start["lat_e7"], len(rows)), np.broadcast_to(start["lon_e7"], len(rows))
    own_m = displacement_m(*here, *version.signatures(rows)[:2])
    way = asking.ways(version, rows[None])[0] + own_m[:, None]
    last = version.known[rows] + 1
    begin_s, begin_m = (one[0] for one in asking.beside(way[None], last[None], np.zeros((1, len(rows), 2))))
    end_s, end2 = reach(way, last, ends.chord_en, begin_s, gap_s)
    from2 = (begin_m * begin_m).sum(-1)
    fits = np.flatnonzero((from2 <= BESIDE_M**2) & (end2 <= BESIDE_M**2))
    rows, way, last, begin_s, end_s = rows[fits], way[fits], last[fits], begin_s[fits], end_s[fits]
    apart = (from2 + end2)[fits] + (TOOK_M * np.log((end_s - begin_s) / gap_s)) ** 2
    if ends.has_before:
        off = version.signatures(rows).velocity * SPEED_MPS - shorten(ends.before_mps[None])
        apart += (off * off).sum(-1) * SPEED_S**2
    if ends.has_after:
        off = _velocities_after(way, last, end_s) - shorten(ends.after_mps[None])
        apart += np.nan_to_num((off * off).sum(-1), nan=UNKNOWN_MPS**2) * SPEED_S**2
    order = np.argsort(apart, kind="stable")
    order = order[asking.at_most_two(version.mark[rows[order]])][:MOST]
    return Along(way[order], begin_s[order], end_s[order], 1 / (NEAR_M**2 + apart[order]))


def _rows_around(version: Published, start: Any) -> I64:
    """Returns the passages in the four cells nearest to a FIX."""
    one = start["lat_e7"][None], start["lon_e7"][None]
    still = np.unique(around(*one, np.zeros((1, 2)))[0])
    return asking.rows_in(version, (still[still >= 0, None] - STILL + np.arange(STILL + 1)).ravel())


def reach(way: F64, last: NDArray[Any], end_m: F64, begin_s: F64, gap_s: float) -> tuple[F64, F64]:
    """Returns when passages [C], which went by `way` [C, W, 2], were nearest to the gap's end, and how far from it,
    squared; infinite if none of the known way took about as long."""
    far, seconds = np.full(len(way), np.inf), np.zeros(len(way))
    for number in range(1, len(TIMES_S) - 1):
        from_s, to_s = TIMES_S[number], TIMES_S[number + 1]
        low, high = ((begin_s + part * gap_s - from_s) / (to_s - from_s) for part in (QUICKEST, SLOWEST))
        low, high = np.maximum(low, 0.0), np.minimum(high, 1.0)
        a, b = way[:, number], way[:, number + 1]
        length2 = np.maximum(((b - a) ** 2).sum(-1), 1e-9)
        share = np.minimum(np.maximum(((end_m - a) * (b - a)).sum(-1) / length2, low), high)
        apart = ((end_m - a - share[:, None] * (b - a)) ** 2).sum(-1)
        nearer = (number < last) & (low <= high) & (apart < far)
        far, seconds = np.where(nearer, apart, far), np.where(nearer, from_s + share * (to_s - from_s), seconds)
    return seconds, far


def _velocities_after(way: F64, last: NDArray[Any], end_s: F64) -> F64:
    """Returns the velocities [C, 2] with which passages, which went by `way` [C, W, 2], left the gap's end at end_s
    [C], as they are compared; NaN where it is not known."""
    until_s = np.minimum(end_s + AFTER_S, TIMES_S[last])
    after_s = until_s - end_s
    before_m, after_m = (places_at(way, one[:, None])[:, 0] for one in (end_s, until_s))
    velocity = shorten((after_m - before_m) / np.maximum(after_s, LEAST_AFTER_S)[:, None])
    return np.where((after_s >= LEAST_AFTER_S)[:, None], velocity, np.nan)


def places_at(way: F64, at_s: F64) -> F64:
    """Returns where passages, which went by `way` [J, W, 2], were at at_s [J, P]: [J, P, 2]."""
    upper = np.clip(np.searchsorted(TIMES_S, at_s), 1, len(TIMES_S) - 1)
    share = (at_s - TIMES_S[upper - 1]) / (TIMES_S[upper] - TIMES_S[upper - 1])
    row = np.arange(len(way))[:, None]
    low, high = way[row, upper - 1], way[row, upper]
    return np.asarray(low + (high - low) * share[..., None])
