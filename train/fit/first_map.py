"""Fills a new map before training: chooses its cells, and computes for each how things moved there.

Vectors of random numbers would have to be learned first, from the few pings that each cell has. Instead each cell gets
means over the pings in it: the direction of their last step (as cos and sin of one and two times the angle), their
speed, how many stood still, and where they were 60, 300 and 900 s later. No answer depends on these until the layers
that read the map have learned to (model.network.network).

Shapes: R pings, P cells, J corners around a ping, N numbers of a cell.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.kinematics.features import steps_between
from model.kinematics.geo import F64
from model.kinematics.map_cells import CELL_DIM, Keys, corners, most_visited
from train.batches.timeline import Line
from train.data.corpus import Corpus

VISIT_MS: Final = 30_000
MOST_PINGS: Final = 1_000_000  # evenly chosen: more change no mean of a cell that matters
MOVING_MPS: Final = 1.0
LONGEST_STEP_S: Final = 180.0  # of a longer one, the direction is that of no street
# Horizons, and the metres that make their displacements about 1.
AHEAD: Final = ((60.0, 300.0), (300.0, 1_000.0), (900.0, 2_000.0))
LATE: Final = 0.2  # share of the horizon by which the ping after it may be later, and 30 s
LATE_S: Final = 30.0
# Means over all pings, about, which a cell of few pings is drawn to: ln(1 + 3.5 m/s), and 0.7 of AHEAD's metres.
USUAL_LOG_SPEED: Final = 1.5
USUAL_FAR: Final = 0.7
PRIOR: Final = 3.0  # pings
USUAL_LOG_COUNT: Final = 3.0
CHUNK: Final = 1 << 17  # pings at a time: 20 corners each


def find_known_cells(corpus: Corpus, most: int, visits: int) -> Keys:
    """Returns the keys of the cells that the tracks visit most, and at least `visits` times; a track's pings within one
    half-minute count once.
    """
    rows = corpus.rows
    fresh = (np.diff(corpus.ts_ms[rows] // VISIT_MS, prepend=-1) != 0) | (np.diff(rows, prepend=-2) != 1)
    rows = rows[fresh]
    return most_visited(corpus.lat[rows], corpus.lon[rows], most, visits)


def build_first_table(corpus: Corpus, keys: Keys) -> NDArray[np.float32]:
    """Returns the vectors (P, CELL_DIM) of these cells, whose keys are sorted."""
    out = np.zeros((len(keys), CELL_DIM), np.float32)
    if len(keys) == 0:
        return out
    line = Line(corpus)
    place = np.setdiff1d(np.arange(len(line.ms)), line.start)
    place = place[:: -(-len(place) // MOST_PINGS)]
    total, count = np.zeros((2, len(keys), CELL_DIM - 1))
    for first in range(0, len(place), CHUNK):
        _add(total, count, keys, line, place[first : first + CHUNK])
    out[:, :-1] = total / (count + PRIOR)
    out[:, -1] = np.log1p(count.max(axis=1)) - USUAL_LOG_COUNT
    return out


def _add(total: F64, count: F64, keys: Keys, line: Line, place: NDArray[np.int64]) -> None:
    """Adds these pings to the sums of the cells around them, in place."""
    fixes = line.fixes(place)
    wanted, share = corners(fixes["lat_e7"] / 1e7, fixes["lon_e7"] / 1e7)
    row = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    share = np.where(keys[row] == wanted, share, 0.0)
    for number, value in enumerate(_numbers(line, place).T):
        known = np.isfinite(value)
        weight = (share * known[:, None]).ravel()
        count[:, number] += np.bincount(row.ravel(), weight, len(keys))
        total[:, number] += np.bincount(row.ravel(), weight * np.repeat(np.where(known, value, 0.0), 20), len(keys))


def _numbers(line: Line, place: NDArray[np.int64]) -> F64:
    """Returns what things did at these places (R, CELL_DIM - 1); NaN where it is not known."""
    here = line.fixes(place)
    dt_s, en_m = steps_between(line.fixes(place - 1), here)
    mps = np.hypot(en_m[:, 0], en_m[:, 1]) / np.maximum(dt_s, 1e-3)
    short, angle = dt_s <= LONGEST_STEP_S, np.arctan2(en_m[:, 1], en_m[:, 0])
    moves = short & (mps > MOVING_MPS)
    numbers = [np.where(moves, turn(k * angle), np.nan) for k in (1, 2) for turn in (np.cos, np.sin)]
    numbers += [np.where(short, np.log1p(mps) - USUAL_LOG_SPEED, np.nan), np.where(short, ~moves, np.nan)]
    stop = line.stop[line.track_of(place)]
    for horizon_s, scale_m in AHEAD:
        later = line.after(place, np.full(len(place), round(1000 * horizon_s)))
        found = np.minimum(later, stop - 1)
        ahead_s, far_m = steps_between(here, line.fixes(found))
        there = (later < stop) & (ahead_s <= (1 + LATE) * horizon_s + LATE_S)
        far = far_m / scale_m
        numbers += [np.where(there, far[:, 0], np.nan), np.where(there, far[:, 1], np.nan)]
        numbers += [np.where(there, np.hypot(far[:, 0], far[:, 1]) - USUAL_FAR, np.nan)]
    return np.stack(numbers, axis=1)
