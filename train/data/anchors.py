"""Finds the anchors of the evaluation: the pings at which forecasts are made, and the pings that they are compared
with. All functions are pure.

The protocol: an anchor has at least 8 earlier pings in its track. Its targets are the next ping, and for each horizon h
the ping nearest to t + h among those within 20 % of h; each is predicted at its real Δt.

Letters: T tracks, A anchors, H = 1 + horizons (column 0 is the next ping).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.kinematics.geo import displacement_m, to_e7
from train.data.corpus import Corpus

F64 = NDArray[np.float64]

HORIZONS_S: Final = (60.0, 300.0, 900.0)
EARLIER_PINGS: Final = 8
TOLERANCE: Final = 0.2  # share of the horizon

STOPPED_MPS: Final = 0.5  # over the last step; a parked receiver wanders at about this speed at a cadence of seconds
TURNING_DEG: Final = 30.0  # between the last two steps, both of which must be moving
CADENCES_S: Final = (10.0, 45.0, 90.0)  # bounds between the strata of cadence


class Anchors(NamedTuple):
    """A anchors of a corpus, in the order of their rows."""

    row: NDArray[np.int64]  # (A,)
    track: NDArray[np.int64]  # (A,) index into corpus.tracks
    target: NDArray[np.int64]  # (A, H) row of the target, -1 where there is none
    dt_s: F64  # (A, H) seconds to the target; where there is none, the horizon itself


def find_anchors(corpus: Corpus, horizons_s: Sequence[float] = HORIZONS_S) -> Anchors:
    """Returns every anchor of every track."""
    length = corpus.lengths
    track = np.repeat(np.arange(len(length)), length)
    within = np.arange(len(track)) - np.repeat(np.cumsum(length) - length, length)
    row = corpus.tracks[track, 0] + within
    ts_ms = corpus.ts_ms[row]
    place = np.flatnonzero((within >= EARLIER_PINGS) & (within < length[track] - 1))
    target = np.full((len(place), 1 + len(horizons_s)), -1, np.int64)
    target[:, 0] = place + 1
    # All tracks lie on one axis of rising time, too far apart for any horizon to reach the next: one search serves them
    # all.
    shift_ms = np.cumsum(np.ptp(_ends(ts_ms, length), axis=1) + int(2000 * max(horizons_s)) + 1)
    line_ms = ts_ms - np.repeat(_ends(ts_ms, length)[:, 0] - np.concatenate([[0], shift_ms[:-1]]), length)
    for column, horizon_s in enumerate(horizons_s, start=1):
        wanted_ms = line_ms[place] + round(1000 * horizon_s)
        after = np.minimum(np.searchsorted(line_ms, wanted_ms), len(line_ms) - 1)
        before = after - 1
        nearest = np.where(wanted_ms - line_ms[before] <= line_ms[after] - wanted_ms, before, after)
        near = np.abs(line_ms[nearest] - wanted_ms) <= TOLERANCE * 1000 * horizon_s
        target[:, column] = np.where(near, nearest, -1)  # never the anchor itself, which is the whole h away
    nominal_s = np.array([1.0, *horizons_s])
    dt_s = np.where(target >= 0, (ts_ms[target] - ts_ms[place, None]) / 1000.0, nominal_s)
    return Anchors(row[place], track[place], np.where(target >= 0, row[target], -1), dt_s)


def keep_long(corpus: Corpus) -> Corpus:
    """Returns the tracks with at least one anchor."""
    return corpus.select(corpus.lengths >= EARLIER_PINGS + 2)


def take_every_nth(corpus: Corpus, most: int | None) -> tuple[Corpus, int]:
    """Returns every k-th track, with the smallest k that leaves at most about `most` anchors, and k.

    Tracks are selected, not anchors, because a model has to fold all of a track for any anchor in it. A track has many
    anchors, so their number is only near `most`.
    """
    anchors = np.maximum(corpus.lengths - EARLIER_PINGS - 1, 0)
    every = 1 if most is None else max(1, -(-int(anchors.sum()) // most))
    return corpus.select(np.arange(0, len(corpus), every)), every


def motion_strata(corpus: Corpus, anchors: Anchors) -> dict[str, NDArray[np.bool_]]:
    """Returns the masks (A,) of the strata of motion: what the entity was doing at the anchor, according to its past
    alone.
    """
    step, step1 = last_step(corpus, anchors.row), last_step(corpus, anchors.row - 1)
    going, going1 = _speed_mps(step) >= STOPPED_MPS, _speed_mps(step1) >= STOPPED_MPS
    cross = step1[:, 0] * step[:, 1] - step1[:, 1] * step[:, 0]
    dot = step1[:, 0] * step[:, 0] + step1[:, 1] * step[:, 1]
    turning = going & going1 & (np.degrees(np.abs(np.arctan2(cross, dot))) > TURNING_DEG)
    return {"moving": going & ~turning, "turning": turning, "stopped": ~going}


def cadence_strata(corpus: Corpus, anchors: Anchors) -> dict[str, NDArray[np.bool_]]:
    """Returns the masks (A,) of the strata by the median of the last 8 intervals."""
    median_s = np.median(intervals_s(corpus, anchors), axis=1)
    bounds_s = (0.0, *CADENCES_S, np.inf)
    return {f"cadence {low:g}-{high:g} s": (median_s >= low) & (median_s < high) for low, high in pairwise(bounds_s)}


def intervals_s(corpus: Corpus, anchors: Anchors) -> F64:
    """Returns the last EARLIER_PINGS intervals (A, EARLIER_PINGS), newest first."""
    past = anchors.row[:, None] - np.arange(EARLIER_PINGS + 1)
    return np.asarray(-np.diff(corpus.ts_ms[past], axis=1) / 1000.0)


def _ends(ts_ms: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the first and last time of each track, (T, 2)."""
    stop = np.cumsum(length)
    return np.stack([ts_ms[stop - length], ts_ms[stop - 1]], axis=1)


def last_step(corpus: Corpus, row: NDArray[np.int64]) -> F64:
    """Returns the east and north metres and the seconds from the previous ping to each row, (A, 3)."""
    lat, lon = (to_e7(column[row[:, None] - [1, 0]]) for column in (corpus.lat, corpus.lon))
    metres = displacement_m(lat[:, 0], lon[:, 0], lat[:, 1], lon[:, 1])
    seconds = (corpus.ts_ms[row] - corpus.ts_ms[row - 1]) / 1000.0
    return np.concatenate([metres, seconds[:, None]], axis=1)


def _speed_mps(step: F64) -> F64:
    return np.asarray(np.hypot(step[:, 0], step[:, 1]) / step[:, 2])
