"""Bends tracks at random moments: from a bend on, the rest of the track is rotated.

A thing that drives through a town is as likely to turn back as to continue; one on its way to work is not. A network
has to read from the past which of the two it sees, and a few cities contain only a few cases. So training bends tracks,
each row at its own rate, as a taxi's next passenger would: after the bend the track continues in a direction that
nothing foretold, and the past shows how often that happens.

Places number the pings of all tracks. Shapes: B rows, S bends per row.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from model.kinematics.features import steps_between
from model.kinematics.geo import F64

Rows = NDArray[np.int64]

BENDS: Final = 128  # S
SHORTEST_S: Final = 60.0  # mean time between two bends of a row, at least
LONGEST_S: Final = 1_800.0
TELLING: Final = 2.0  # bends that a row has to show on average: fewer do not show how often it bends
_ROW: Final = 1 << 40  # larger than any number of pings


class Bends(NamedTuple):
    """The places where each row bends, and the angles."""

    place: Rows  # B, S ascending; beyond all pings where a row is straight
    angle: F64  # B, 1 + S: total rotation after the k-th bend, counterclockwise
    shift_en: F64  # B, 1 + S, 2 m: shift that keeps the track connected
    origin: NDArray[Any]  # B: FIX, the origin of the metres

    def where(self, place: Rows, fixes: NDArray[Any]) -> F64:
        """Returns the metres [B, ..., 2] from the origin to FIX records at places [B, ...] after bending."""
        k = self.before(place)
        row = np.arange(len(place)).reshape(-1, *(1,) * (place.ndim - 1))
        origin = np.broadcast_to(self.origin.reshape(row.shape), fixes.shape)
        return _rotate(steps_between(origin, fixes)[1], self.angle[row, k]) + self.shift_en[row, k]

    def rotation_at(self, place: Rows) -> F64:
        """Returns the rotation of the track at places [B, T]."""
        return np.asarray(np.take_along_axis(self.angle, self.before(place), axis=1))

    def before(self, place: Rows) -> Rows:
        """Returns the number of bends at or before places [B, ...]."""
        # One search serves all rows: they lie on one axis, each row after all places of the row before.
        row = np.arange(len(place)).reshape(-1, *(1,) * (place.ndim - 1))
        line = (self.place + _ROW * np.arange(len(place))[:, None]).ravel()
        return np.asarray(np.searchsorted(line, place + _ROW * row, side="right") - row * self.place.shape[1])


def draw_times_ms(rng: Generator, first_ms: Rows, shown_ms: Rows, last_ms: Rows) -> Rows:
    """Returns the times of each row's bends [B, S], from its first ping to its last answer. The mean time between bends
    is log-uniform, so few bends are as likely as many.

    A row whose pings, from first_ms to shown_ms, are too few to show its rate has no bend before last_ms: what cannot
    be read from the past would be learned as a rule for all things.
    """
    rows = len(first_ms)
    pace_s = np.exp(rng.uniform(np.log(SHORTEST_S), np.log(LONGEST_S), rows))
    # The BENDS bends have to suffice for the whole row: a row that became straight at its end would teach a falsehood.
    pace_ms = np.maximum(1000 * pace_s, 1.5 * (last_ms - first_ms) / BENDS)
    moments = first_ms[:, None] + np.cumsum(rng.exponential(pace_ms[:, None], (rows, BENDS)), axis=1)
    too_short = shown_ms - first_ms < TELLING * pace_ms
    return np.asarray(np.where(too_short[:, None], last_ms[:, None] + 1, moments), np.int64)


def draw_bends(rng: Generator, place: Rows, at: NDArray[Any], origin: NDArray[Any], bent: NDArray[np.bool_]) -> Bends:
    """Returns the bends at places [B, S] with the fixes `at`; rows that are not `bent` [B] stay as they are."""
    angle = np.where(bent[:, None], rng.uniform(-np.pi, np.pi, (len(place), BENDS + 1)), 0.0)
    angle[:, 0] = 0.0
    corner = steps_between(np.broadcast_to(origin[:, None], at.shape), at)[1]
    steps = _rotate(corner, angle[:, :-1]) - _rotate(corner, angle[:, 1:])
    shift = np.concatenate([np.zeros((len(place), 1, 2)), np.cumsum(steps, axis=1)], axis=1)
    return Bends(place, angle, shift, origin)


def _rotate(en: F64, angle: F64) -> F64:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos * en[..., 0] - sin * en[..., 1], sin * en[..., 0] + cos * en[..., 1]], axis=-1)
