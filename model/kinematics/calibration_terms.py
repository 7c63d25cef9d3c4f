"""The inputs of the calibration factor, by which a covariance is multiplied. `model.network.calibration` explains the
factor. This module imports no torch.

Shapes: ... any batch, Q questions.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.kinematics import motion as m
from model.kinematics.geo import F64

AHEAD, OFTEN, FAST = 4.0, 4.0, 2.0  # divisors of the logs of horizon, interval and speed

AHEAD_S: Final = (20.0, 120.0, 500.0)  # knots of the piecewise linear terms
OFTEN_S: Final = (10.0, 45.0, 90.0)
FAST_MPS: Final = (2.0, 6.0)
DOUBT: Final = 0.1  # a knot too, on the scale of `motion.doubt`
COURSE_TERMS: Final = 4  # the last terms; they are 0 where no course is reported
FORECAST_TERMS: Final = 4 + len(AHEAD_S) + len(OFTEN_S) + len(FAST_MPS) + 3 + COURSE_TERMS
GAP_TERMS: Final = 4
MAX_LOG_SCALE: Final = 2.0  # limit of the log of a factor: a larger correction would be no calibration


def forecast_terms(kin: F64, dt_s: F64, course: NDArray[np.bool_]) -> F64:
    """Returns the terms of the factor for forecasts [..., Q, FORECAST_TERMS]: the horizon, the reporting interval and
    the speed; and, where the last fix reports a course (`features.tells_course` [...]), how far that receiver is in
    doubt.

    Each is piecewise linear, with knots where sources differ: a ship that reports each minute is not as predictable as
    a taxi that does. The course terms do not include the reporting interval: training has too few different intervals
    to fit it, and with it coverage moved away from 90 % at all other intervals.
    """
    ahead = np.log(np.maximum(dt_s, 1.0)) / AHEAD
    often = np.broadcast_to(np.clip(kin[..., m.LOG_DT, None], 0.0, 6.0) / OFTEN, ahead.shape)
    fast = np.broadcast_to(np.log(m.speed_scale_mps(kin))[..., None] / FAST, ahead.shape)
    lines = [*_bent(ahead, AHEAD_S, AHEAD), *_bent(often, OFTEN_S, OFTEN), *_bent(fast, FAST_MPS, FAST)]
    known = np.broadcast_to(course[..., None].astype(np.float64), ahead.shape)
    doubt = np.broadcast_to(m.doubt(kin)[..., None], ahead.shape)
    courses = (known * one for one in (np.ones_like(ahead), doubt, np.maximum(doubt - DOUBT, 0.0), fast))
    return np.stack([np.ones_like(ahead), *lines, ahead * often, ahead * fast, often * fast, *courses], axis=-1)


def gap_terms(gap_s: F64, t_s: F64) -> F64:
    """Returns the terms for gap fills [..., Q, GAP_TERMS]: the length of the gap and how far inside it the time
    lies.
    """
    x = np.log(np.maximum(gap_s, 1.0))[..., None] / 4.0
    inside = t_s / np.maximum(gap_s, 1.0)[..., None]
    bump = 4.0 * inside * (1.0 - inside)
    x = np.broadcast_to(x, bump.shape)
    return np.stack([np.ones_like(x), x, x * x, bump], axis=-1)


def factor(terms: F64, coefficients: F64) -> F64:
    """Returns the factors [...] for terms [..., T] and their coefficients [T]."""
    return np.asarray(np.exp(np.clip(terms @ coefficients, -MAX_LOG_SCALE, MAX_LOG_SCALE)))


def _bent(x: F64, at: tuple[float, ...], unit: float) -> list[F64]:
    return [x, *(np.maximum(x - math.log(knot) / unit, 0.0) for knot in at)]
