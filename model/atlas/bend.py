"""How far an atlas bends a gap fill: the definition.

An atlas knows what became of earlier pings that moved like the one at a gap's start: off(t), beyond what physics
expects, t seconds later. Where the gap ends, T seconds later, is known better than that. So a fill is moved by

    SHARE * v / (v + w) * (off(t) - t/T * off(T))

which is nothing at both ends, and bends the way between them. Here v is the variance of the fill at that time, and w
that of the outcomes around off(t). How much off(t) says depends on its counts, too: it is shrunk to nothing as if that
had been seen PRIOR times (`estimate`). Where there is no outcome nothing is moved, to the bit.

Shapes: N gaps, P asked times of all gaps together, M fixes before all gaps, L levels.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas.cells import Keys, keys
from model.atlas.estimate import read
from model.atlas.outcomes import HORIZONS_S, MAX_APART_MS, velocities, ways_m
from model.atlas.published import Published
from model.kinematics.geo import F64

SHARE: Final = 0.75  # chosen in Austin: train/experiments/notes/small.md
MIN_GAP_S: Final = 90.0  # fills of shorter gaps were farther off with it
MAX_GAP_S: Final = 2 * HORIZONS_S[-1]  # an atlas says nothing about what is later than its last horizon
ROUNDING: Final = 1e-6  # of a count that is interpolated


class Bent(NamedTuple):
    """How far fills are moved."""

    moved_m: F64  # [P, 2] east and north
    pings: NDArray[np.int64]  # [N] outcomes that it rests on


class Starts(NamedTuple):
    """The pings at which gaps begin."""

    key: Keys  # [N, L]
    moves: NDArray[np.bool_]  # [N] false where nobody knows a velocity: there is no ping before, or it is too old


def starts(before: NDArray[Any], stop: NDArray[np.int64]) -> Starts:
    """Returns the starts of gaps from the fixes before them, FIX [M]: those of the i-th gap end before stop[i]. The way
    that the thing came is that over these few fixes.
    """
    last = stop - 1
    begins = np.zeros(len(before), np.bool_)
    begins[np.append(0, stop[:-1])] = True
    step_before = np.where(begins[last], last, last - 1)
    apart_ms = before["ts_ms"][last] - before["ts_ms"][step_before]
    here, velocity = before[last], velocities(before[last], before[step_before])
    came = ways_m(before, begins)[last]
    return Starts(keys(here["lat_e7"], here["lon_e7"], velocity, came), (apart_ms > 0) & (apart_ms <= MAX_APART_MS))


def bent(atlas: Published, begin: Starts, gap_s: F64, of: NDArray[np.int64], t_s: F64, var_m2: F64) -> Bent:
    """Returns how far fills of gaps of gap_s [N] seconds are moved at t_s [P] seconds into the gap `of` [P], where they
    have the variances var_m2 [P] per axis.
    """
    none = np.zeros((len(t_s), 1))
    then = read(atlas, begin.key[of], t_s[:, None], none)
    end = read(atlas, begin.key, gap_s[:, None], none[:1].repeat(len(gap_s), axis=0))
    asked = begin.moves & (gap_s >= MIN_GAP_S) & (gap_s <= MAX_GAP_S)
    share = SHARE * var_m2 / (var_m2 + then.var_m2[:, 0])
    moved = share[:, None] * (then.off_m[:, 0] - (t_s / gap_s[of])[:, None] * end.off_m[of, 0])
    most = end.n.max(axis=(1, 2), initial=0.0)
    np.maximum.at(most, of, then.n.max(axis=(1, 2), initial=0.0))
    return Bent(np.where(asked[of, None], moved, 0.0), np.where(asked, np.ceil(most - ROUNDING), 0.0).astype(np.int64))
