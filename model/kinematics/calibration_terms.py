"""What the factor of a calibrated covariance may depend on. No torch; `model.network.calibration` says what it is for.

Shapes: ... any batch, Q questions.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.kinematics import motion as m
from model.kinematics.geo import F64

AHEAD, OFTEN, FAST = 4.0, 4.0, 2.0  # what their logs are divided by

AHEAD_S: Final = (20.0, 120.0, 500.0)  # where the lines may bend
OFTEN_S: Final = (10.0, 45.0, 90.0)
FAST_MPS: Final = (2.0, 6.0)
DOUBT: Final = 0.1  # of `motion.doubt`
COURSE_TERMS: Final = 4  # the last ones, 0 where no course is told
FORECAST_TERMS: Final = 4 + len(AHEAD_S) + len(OFTEN_S) + len(FAST_MPS) + 3 + COURSE_TERMS
GAP_TERMS: Final = 4
TRAVEL_TERMS: Final = 3
MAX_LOG_SCALE: Final = 2.0  # no covariance is changed by more than this: what asks for more is no calibration


def forecast_terms(kin: F64, dt_s: F64, course: NDArray[np.bool_]) -> F64:
    """What the factor may depend on [..., Q, FORECAST_TERMS]: how far ahead, how often it reports, how fast it goes;
    and where the last fix tells a course (`features.tells_course` [...]), how far in doubt that is.

    Lines that may bend where sources differ: a ship that reports each minute is not as predictable as a taxi that does.
    Courses have no line of how often: too few cadences are known to tell one, and it led away from 90 % at all others.
    """
    ahead = np.log(np.maximum(dt_s, 1.0)) / AHEAD
    often = np.broadcast_to(np.clip(kin[..., m.LOG_DT, None], 0.0, 6.0) / OFTEN, ahead.shape)
    fast = np.broadcast_to(np.log(m.speed_scale_mps(kin))[..., None] / FAST, ahead.shape)
    lines = [*_bent(ahead, AHEAD_S, AHEAD), *_bent(often, OFTEN_S, OFTEN), *_bent(fast, FAST_MPS, FAST)]
    told = np.broadcast_to(course[..., None].astype(np.float64), ahead.shape)
    doubt = np.broadcast_to(m.doubt(kin)[..., None], ahead.shape)
    courses = (told * one for one in (np.ones_like(ahead), doubt, np.maximum(doubt - DOUBT, 0.0), fast))
    return np.stack([np.ones_like(ahead), *lines, ahead * often, ahead * fast, often * fast, *courses], axis=-1)


def gap_terms(gap_s: F64, t_s: F64) -> F64:
    """The same of a gap [..., Q, GAP_TERMS]: how long, and how far inside."""
    x = np.log(np.maximum(gap_s, 1.0))[..., None] / 4.0
    inside = t_s / np.maximum(gap_s, 1.0)[..., None]
    bump = 4.0 * inside * (1.0 - inside)
    x = np.broadcast_to(x, bump.shape)
    return np.stack([np.ones_like(x), x, x * x, bump], axis=-1)


def travel_terms(kin: F64, base_log_s: F64) -> F64:
    """The same of a travel time [..., Q, TRAVEL_TERMS]: how far it is, as `queries.travel` has it, and whether the fix
    at the origin is all that is known.
    """
    first = np.broadcast_to(kin[..., m.DT, None] == 0.0, base_log_s.shape)
    return np.stack([np.ones_like(base_log_s), base_log_s / 8.0, first.astype(np.float64)], axis=-1)


def _bent(x: F64, at: tuple[float, ...], unit: float) -> list[F64]:
    return [x, *(np.maximum(x - math.log(knot) / unit, 0.0) for knot in at)]
