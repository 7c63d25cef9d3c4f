"""Cuts the rows of a thing into tracks: at silences that are too long, and at jumps that are too fast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.kinematics.geo import haversine_m


@dataclass(frozen=True)
class Cut:
    """The rules that end a track. A new trajectory id, travel mode, entity or file always ends one.

    `gap_cadences` lengthens the gap for slow sources: the limit is max(gap_s, gap_cadences x the file's median
    cadence).
    """

    gap_s: float = 3600.0
    speed_mps: float = 50.0  # speed between two pings; nothing on the ground or at sea is faster for long
    gap_cadences: float = 0.0
    min_pings: int = 2

    def longest_silence_s(self, steps_s: NDArray[np.float64]) -> float:
        """Returns the limit for a file with these intervals between pings (N,). A night in the depot does not count for
        the cadence.
        """
        steps_s = steps_s[steps_s <= TRAINING.gap_s]
        return max(self.gap_s, self.gap_cadences * float(np.median(steps_s))) if len(steps_s) else self.gap_s


TRAINING = Cut()  # long silences stay in: the model has to learn what they mean
# 5 min for vehicles at up to 60 s cadence. Austin reports every 120 s, where 5 min would cut at two lost pings, so
# slower sources get three cadences: 6 min there, and still 5 min for everything up to 100 s.
EVALUATION = Cut(gap_s=300.0, gap_cadences=3.0, min_pings=9)  # an anchor needs 8 earlier pings


def cut_rows(
    ts_ms: NDArray[np.int64],
    lat: NDArray[np.float64],
    lon: NDArray[np.float64],
    run_start: NDArray[np.int64],
    run_file: NDArray[np.int32],
    cut: Cut,
) -> NDArray[np.int64]:
    """Returns the row ranges int64[T, 2] of the tracks with at least `cut.min_pings` pings."""
    rows = len(ts_ms)
    dt_s = np.diff(ts_ms) / 1000.0
    inside = np.ones(max(0, rows - 1), bool)  # both pings are in one run
    inside[run_start[1:] - 1] = False
    limit_s = np.repeat(_gap_limits_s(dt_s, inside, run_start, run_file, cut), np.diff([*run_start, rows]))[1:]
    metres = haversine_m(lat[:-1], lon[:-1], lat[1:], lon[1:])
    joined = inside & (dt_s <= limit_s) & (metres <= cut.speed_mps * dt_s)
    edges = np.concatenate([[0], np.flatnonzero(~joined) + 1, [rows]]).astype(np.int64)
    tracks = np.stack([edges[:-1], edges[1:]], axis=1)
    return np.asarray(tracks[tracks[:, 1] - tracks[:, 0] >= cut.min_pings])


def _gap_limits_s(
    dt_s: NDArray[np.float64],
    inside: NDArray[np.bool_],
    run_start: NDArray[np.int64],
    run_file: NDArray[np.int32],
    cut: Cut,
) -> NDArray[np.float64]:
    """Returns the longest allowed silence of each run (S,)."""
    limit_s = np.full(len(run_start), cut.gap_s)
    if cut.gap_cadences == 0:
        return limit_s
    for file in np.unique(run_file):
        runs = np.flatnonzero(run_file == file)
        first = run_start[runs[0]]
        last = run_start[runs[-1] + 1] if runs[-1] + 1 < len(run_start) else len(dt_s) + 1
        limit_s[runs] = cut.longest_silence_s(dt_s[first : last - 1][inside[first : last - 1]])
    return limit_s
