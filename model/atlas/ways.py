"""Writes a passage as integers: its place, the way in, its velocity, and the way on.

A way is kept as the places where the thing was at fixed times before and after: on the straight lines between its
pings. All metres are east and north from the passage's own ping.

Shapes: R pings of tracks, P passages, I = len(IN_S), K = len(ON_S).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.kinematics.geo import F64, displacement_m

IN_S: Final = (120.0, 300.0, 600.0)  # before the passage
ON_S: Final = (15.0, 30.0, 45.0, 60.0, 90.0, *(60.0 * minute for minute in range(2, 19)))  # after it
MAX_APART_MS: Final = 300_000  # a longer silence ends a track: nobody knows by which way the thing went on
IN_M: Final = 1.0  # units of the integers: of ways in, of ways on, of velocities
ON_M: Final = 2.0
SPEED_MPS: Final = 0.01
MIN_STEP_S: Final = 1.0  # over a shorter step, the error of a receiver looks like a speed
# Faster than this, directions alone tell velocities apart; slower than FULL_MPS, a direction says the less.
MAX_MPS: Final = 10.0
FULL_MPS: Final = 1.0
_MOST: Final = np.iinfo(np.int16).max
# One passage.
PASSAGE: Final = np.dtype(
    [
        ("bucket", "<i8"),  # model.atlas.buckets
        ("id", "<u8"),  # of the vehicle: a hash of its name
        ("draw", "<u8"),  # by which it is chosen (model.atlas.passages)
        ("ts_ms", "<i8"),  # of its ping
        ("lat_e7", "<i4"),
        ("lon_e7", "<i4"),
        ("in_m", "<i2", (len(IN_S), 2)),  # where it was; before its track began, where that began
        ("velocity", "<i2", 2),  # `velocities`, in SPEED_MPS
        ("on", "<i2", (len(ON_S), 2)),  # where it was later, in ON_M
        ("known", "u1"),  # so many of these: a track ends
    ]
)
I64 = NDArray[np.int64]


class Approach(NamedTuple):
    """The ways by which N pings came."""

    in_m: F64  # [N, I, 2] where each was at IN_S before, in metres from where it is
    velocity_mps: F64  # [N, 2] `velocities`
    came: NDArray[np.bool_]  # [N] false for the first ping of a track, of which nothing else is known

    def at(self, rows: Any) -> Approach:
        """Returns those of some pings."""
        return Approach(self.in_m[rows], self.velocity_mps[rows], self.came[rows])

    @classmethod
    def none(cls, pings: int) -> Approach:
        """Returns those of pings of which no way is known."""
        return cls(np.zeros((pings, len(IN_S), 2)), np.zeros((pings, 2)), np.zeros(pings, np.bool_))


def as_integers(values: F64, unit: float) -> NDArray[np.int16]:
    """Returns values in units, rounded; those that do not fit are the largest that do."""
    return np.clip(np.rint(values / unit), -_MOST, _MOST).astype(np.int16)


def places_at(fixes: NDArray[Any], line_ms: I64, row: I64, at_ms: I64) -> F64:
    """Returns where things were at times at_ms [P] of the line, on the straight lines between pings, in metres [P, 2]
    from the pings `row` [P]. Each time is that of a ping, or between two of the same track.

    fixes: FIX [R] of one or more tracks; line_ms [R]: their times, on one line that rises (`one_line`).
    """
    later = np.minimum(np.searchsorted(line_ms, at_ms), len(line_ms) - 1)
    earlier = np.where(line_ms[later] == at_ms, later, later - 1)
    apart_ms = np.maximum(line_ms[later] - line_ms[earlier], 1)
    share = (at_ms - line_ms[earlier]) / apart_ms
    here = fixes["lat_e7"][row], fixes["lon_e7"][row]
    a, b = (displacement_m(*here, fixes["lat_e7"][one], fixes["lon_e7"][one]) for one in (earlier, later))
    return np.asarray(a + (b - a) * share[:, None])


def ways_in(fixes: NDArray[Any], line_ms: I64, row: I64, start: I64, before_s: tuple[float, ...] = IN_S) -> F64:
    """Returns where pings at `row` [P] were so many seconds before, in metres [P, I, 2] from where they are; for a
    track that began later, where it began: at the row `start` [P].
    """
    times = [np.maximum(line_ms[row] - round(1000 * seconds), line_ms[start]) for seconds in before_s]
    return np.stack([places_at(fixes, line_ms, row, at_ms) for at_ms in times], axis=1)


def ways_on(fixes: NDArray[Any], line_ms: I64, row: I64, last: I64) -> tuple[F64, I64]:
    """Returns where pings at `row` [P] were later, in metres [P, K, 2] from where they are, and how many [P] of these
    are known: the track of each ends with the row `last` [P]. What is not known is 0.
    """
    out = np.zeros((len(row), len(ON_S), 2))
    known = np.zeros(len(row), np.int64)
    for number, seconds in enumerate(ON_S):
        at_ms = line_ms[row] + round(1000 * seconds)
        here = np.flatnonzero(at_ms <= line_ms[last])
        out[here, number] = places_at(fixes, line_ms, row[here], at_ms[here])
        known[here] += 1
    return out, known


def velocities(fixes: NDArray[Any], before: NDArray[Any]) -> F64:
    """Returns the velocities [N, 2] in m/s of the steps from `before` to `fixes`, FIX [N], by which passages are
    compared: at most MAX_MPS long, and shorter than they are below FULL_MPS.
    """
    step_m = displacement_m(before["lat_e7"], before["lon_e7"], fixes["lat_e7"], fixes["lon_e7"])
    step_s = np.maximum((fixes["ts_ms"] - before["ts_ms"]) / 1000.0, MIN_STEP_S)
    return shorten(step_m / step_s[:, None])


def shorten(velocity_mps: F64) -> F64:
    """Returns velocities [N, 2] in m/s as long as they are compared: at most MAX_MPS, and shorter than they are below
    FULL_MPS."""
    speed = np.hypot(velocity_mps[:, 0], velocity_mps[:, 1])
    return np.asarray(velocity_mps * (np.minimum(speed, MAX_MPS) / np.maximum(speed, FULL_MPS))[:, None])


def one_line(ts_ms: I64, starts: I64) -> I64:
    """Returns the times [R] shifted so that all tracks, which begin at `starts` [T], lie one after the other, too far
    apart for any way to reach the next: so one search serves them all.
    """
    stops = np.append(starts[1:], len(ts_ms))
    room_ms = ts_ms[stops - 1] - ts_ms[starts] + int(2000 * (ON_S[-1] + IN_S[-1]))
    begin_ms = np.concatenate([[0], np.cumsum(room_ms)[:-1]])
    return np.asarray(ts_ms + np.repeat(begin_ms - ts_ms[starts], stops - starts))
