"""Compares what happened after each ping of a track with what physics expected: the outcomes that an atlas counts.

The physics is damped velocity: the velocity of the last step, which decays. What happened is the place on the straight
line between the two pings around the horizon. An outcome is known when the later one of these is there.

Shapes: M pings of one or more tracks, H = len(HORIZONS_S).
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas.cells import LEVELS, Keys, keys
from model.jit import compiled
from model.kinematics.geo import F64, displacement_m
from model.kinematics.motion import WINDOW_MEMORY

HORIZONS_S: Final = (60.0, 120.0, 300.0, 600.0, 900.0)
DAMPING_S: Final = 200.0  # the time constant with which the velocity decays
MIN_STEP_S: Final = 1.0  # over a shorter step, the error of a receiver looks like a speed
MAX_APART_MS: Final = 600_000  # what happened in a longer silence is not known, and nor is the velocity after it
MAX_MPS: Final = 90.0  # an outcome further away than this speed reaches is a jump and is not counted
CM_PER_M: Final = 100
HORIZONS_MS: Final = np.round(np.array(HORIZONS_S) * 1000).astype(np.int64)
NEVER: Final = np.iinfo(np.int64).max
I64 = NDArray[np.int64]


class Outcomes(NamedTuple):
    """Holds what became of M pings. Each has an earlier ping in its track, at most MAX_APART_MS before."""

    row: I64  # [M] of the ping
    key: Keys  # [M, L]
    off_cm: NDArray[np.int32]  # [M, H, 2] east and north: what happened minus what was expected
    known_ms: I64  # [M, H] when the outcome is known; NEVER where it never is


def velocities(fixes: NDArray[Any], before: NDArray[Any]) -> F64:
    """Returns the velocities [N, 2] in m/s of the steps from `before` to `fixes`, FIX [N]; none is above MAX_MPS."""
    d_en = displacement_m(before["lat_e7"], before["lon_e7"], fixes["lat_e7"], fixes["lon_e7"])
    dt_s = np.maximum((fixes["ts_ms"] - before["ts_ms"]) / 1000.0, MIN_STEP_S)
    velocity = d_en / dt_s[..., None]
    speed = np.hypot(velocity[..., 0], velocity[..., 1])
    return np.asarray(velocity * np.minimum(MAX_MPS / np.maximum(speed, 1e-9), 1.0)[..., None])


def ways_m(fixes: NDArray[Any], begins: NDArray[np.bool_]) -> F64:
    """Returns the ways [M, 2] that pings, FIX [M], came over the last few steps of their tracks, which begin where
    `begins` [M] is true: the same fading sums that a state keeps (`motion.W_E`).
    """
    steps = np.zeros((len(fixes), 2))
    before, here = fixes[:-1], fixes[1:]
    steps[1:] = displacement_m(before["lat_e7"], before["lon_e7"], here["lat_e7"], here["lon_e7"])
    fade(steps, begins, np.ones(len(fixes), np.bool_), steps)
    return steps


@partial(compiled, maths=())  # so that the same pings give the same bits, however they are split
def fade(steps, begins, fresh, out):  # type: ignore[no-untyped-def]
    """Sets out [M, 2], where `fresh`, to the fading sums of steps [M, 2], which begin anew at each track."""
    for i in range(len(steps)):
        if not fresh[i]:
            continue
        for axis in range(2):
            out[i, axis] = 0.0 if begins[i] else (1.0 - WINDOW_MEMORY) * out[i - 1, axis] + steps[i, axis]


def expected_m(velocity_mps: F64, dt_s: F64) -> F64:
    """Returns the displacements [N, H, 2] that physics expects for velocities [N, 2] after dt_s [N, H] seconds."""
    lag_s = -DAMPING_S * np.expm1(-dt_s / DAMPING_S)
    return np.asarray(velocity_mps[..., None, :] * lag_s[..., None])


def of_tracks(fixes: NDArray[Any], starts: I64) -> Outcomes:
    """Returns the outcomes of the pings of tracks: FIX [M] one track after the other, which begin at `starts` [T]. The
    times of a track rise.
    """
    m = len(fixes)
    track = np.zeros(m, np.int64)
    track[starts[1:]] = 1
    track = np.cumsum(track)
    row = np.flatnonzero(np.diff(track, prepend=-1) == 0)
    row = row[fixes["ts_ms"][row] - fixes["ts_ms"][row - 1] <= MAX_APART_MS]
    if not len(row):
        h = len(HORIZONS_S)
        nothing = np.empty((0, LEVELS), np.int64), np.empty((0, h, 2), np.int32), np.empty((0, h), np.int64)
        return Outcomes(row, *nothing)
    velocity = velocities(fixes[row], fixes[row - 1])
    expected = expected_m(velocity, np.broadcast_to(np.array(HORIZONS_S), (len(row), len(HORIZONS_S))))
    ends = np.append(starts[1:], m)[track[row]]
    line_ms = one_line(fixes["ts_ms"], starts)
    off_cm = np.zeros((len(row), len(HORIZONS_S), 2), np.int32)
    known_ms = np.full((len(row), len(HORIZONS_S)), NEVER)
    for h, horizon_ms in enumerate(HORIZONS_MS):
        after = np.searchsorted(line_ms, line_ms[row] + horizon_ms)
        inside = np.flatnonzero(after < ends)
        apart_ms = fixes["ts_ms"][after[inside]] - fixes["ts_ms"][after[inside] - 1]
        inside = inside[apart_ms <= MAX_APART_MS]
        of, later = row[inside], after[inside]
        cm, near = offsets_cm(fixes, of, later, horizon_ms, expected[inside, h])
        off_cm[inside[near], h] = cm[near]
        known_ms[inside[near], h] = fixes["ts_ms"][later[near]]
    came = ways_m(fixes, np.diff(track, prepend=-1) != 0)[row]
    return Outcomes(row, keys(fixes["lat_e7"][row], fixes["lon_e7"][row], velocity, came), off_cm, known_ms)


def offsets_cm(
    fixes: NDArray[Any], row: I64, later: I64, horizon_ms: np.int64, expected: F64
) -> tuple[F64, NDArray[np.bool_]]:
    """Returns where the pings at `row` [N] were after the horizon, minus what was `expected` [N, 2] m, and which of
    these are no jumps. The horizon is between the ping at `later` [N] and the one before it.
    """
    off = _at(fixes, row, later, horizon_ms) - expected
    return np.rint(off * CM_PER_M), np.hypot(off[:, 0], off[:, 1]) <= MAX_MPS * (horizon_ms / 1000)


def _at(fixes: NDArray[Any], row: I64, later: I64, horizon_ms: np.int64) -> F64:
    """Returns the displacements [N, 2] from the pings at `row` to the places where they were after the horizon, on the
    line between the ping at `later` and the one before it.
    """
    start, a, b = fixes[row], fixes[later - 1], fixes[later]
    share = (start["ts_ms"] + horizon_ms - a["ts_ms"]) / (b["ts_ms"] - a["ts_ms"])
    to_a, to_b = (displacement_m(start["lat_e7"], start["lon_e7"], one["lat_e7"], one["lon_e7"]) for one in (a, b))
    return np.asarray(to_a + (to_b - to_a) * share[:, None])


def one_line(ts_ms: I64, starts: I64) -> I64:
    """Returns the times [M] shifted so that all tracks lie one after the other, too far apart for any horizon to reach
    the next: so one search serves them all.
    """
    stops = np.append(starts[1:], len(ts_ms))
    room_ms = ts_ms[stops - 1] - ts_ms[starts] + int(2000 * HORIZONS_S[-1])
    begin_ms = np.concatenate([[0], np.cumsum(room_ms)[:-1]])
    return np.asarray(ts_ms + np.repeat(begin_ms - ts_ms[starts], stops - starts))
