"""Computes the original values from a ping's features, by formulas that invert model.kinematics.features.

Shapes: ... any batch, x [..., F] float64 of features.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from model.kinematics.geo import F64, move_deg

# Columns of model.kinematics.features.encode. A test compares them with the encoder.
MOVE, VELOCITY = slice(9, 11), slice(11, 13)  # signed logs, in units of 10 m and 1 m/s
LOG_DT, LOG_RATIO, LOG_SPEED, TURN, LOG_SPEEDS, FIRST = 19, 20, 21, slice(23, 25), 25, 28
CLOCK, ABSOLUTE = slice(31, 40), slice(40, 72)
MAX_LOG_RATIO: Final = 4.0  # limit at which LOG_RATIO is clipped
WEEK_S, HOUR_S = 604_800.0, 3_600.0
SCALES_DEG: Final = tuple(16.0 / 4**i for i in range(8))


def invert_metres(x: F64) -> F64:
    """Returns the displacement [..., 2]."""
    return _unsigned_log(x[..., MOVE], 10.0)


def invert_seconds(x: F64) -> F64:
    """Returns the interval [...]."""
    return np.asarray(np.exp(3.0 * x[..., LOG_DT]))


def metres_by_velocity(x: F64) -> F64:
    """Returns the displacement [..., 2] from the velocity and the interval."""
    return _unsigned_log(x[..., VELOCITY], 1.0) * invert_seconds(x)[..., None]


def running_seconds(x: F64) -> F64:
    """Returns the running interval [...]; it is wrong where the ratio was clipped."""
    return invert_seconds(x) * np.exp(-x[..., LOG_RATIO])


def turn_rad(x: F64) -> F64:
    """Returns the angle [...] from the previous step to this one, counterclockwise."""
    return np.asarray(np.arctan2(x[..., TURN][..., 1], x[..., TURN][..., 0]))


def speed_before_mps(x: F64) -> F64:
    """Returns the speed [...] of the previous step."""
    return np.asarray((np.expm1(x[..., LOG_SPEED]) + 0.5) / np.exp(x[..., LOG_SPEEDS]) - 0.5)


def week_s(x: F64) -> F64:
    """Returns the local solar time in the week [...]: the week's wave gives the hour, the hour's wave the time within
    it.
    """
    waves = x[..., CLOCK]
    coarse, fine = (_turns(waves[..., i], waves[..., i + 1]) for i in (0, 6))
    return np.asarray(_nearest(fine * HOUR_S, HOUR_S, coarse * WEEK_S) % WEEK_S)


def invert_degrees(x: F64) -> F64:
    """Returns latitude and longitude [..., 2] modulo 16 degrees; each finer wave refines the one before."""
    waves = x[..., ABSOLUTE].reshape(*x.shape[:-1], len(SCALES_DEG), 2, 2)
    turns = _turns(waves[..., 0], waves[..., 1])  # ..., scale, lat or lon
    at: F64 = turns[..., 0, :] * SCALES_DEG[0]
    for i, scale in enumerate(SCALES_DEG[1:], start=1):
        at = _nearest(turns[..., i, :] * scale, scale, at)
    return at


def path_deg(lat: F64, lon: F64, moves: F64) -> F64:
    """Returns the positions that displacements [B, T, 2] lead to from starts [B], [B, T + 1, 2] degrees."""
    path = [np.stack([lat, lon], axis=-1)]
    for t in range(moves.shape[1]):
        path.append(np.stack(move_deg(path[-1][:, 0], path[-1][:, 1], moves[:, t]), axis=-1))
    return np.stack(path, axis=1)


def _unsigned_log(vector: F64, unit: float) -> F64:
    length = np.sqrt((vector * vector).sum(-1, keepdims=True))
    return np.asarray(vector * (unit * np.expm1(length) / np.maximum(length, 1e-12)))


def _turns(sin: F64, cos: F64) -> F64:
    """Returns the share of a period in 0..1."""
    return np.asarray(np.arctan2(sin, cos) / (2 * np.pi) % 1.0)


def _nearest(value: F64, period: float, to: F64) -> F64:
    """Returns the value plus the whole periods that bring it nearest to `to`."""
    return np.asarray(value + period * np.rint((to - value) / period))
