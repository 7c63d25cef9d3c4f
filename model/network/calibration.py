"""How much wider the answers' spreads have to be, learned after training on tracks that training never saw.

A network is surer on what it was trained on than it may be elsewhere. The 90 % quantile of the squared Mahalanobis
length of its errors, given what is asked, is fitted by linear quantile regression (train.calibration.calibrate;
conformal in spirit: Romano et al., "Conformalized Quantile Regression", 2019); a covariance is multiplied by that
quantile over the one that a Gaussian would have, and so is the scale of a travel time's log. Weights that were never
calibrated multiply by 1.

Shapes: ... any batch, Q queries per row, K = motion.WIDTH.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.kinematics import motion as m
from model.kinematics.geo import F64

AHEAD_S: Final = (20.0, 120.0, 500.0)  # where the lines may bend
OFTEN_S: Final = (10.0, 45.0, 90.0)
FAST_MPS: Final = (2.0, 6.0)
DOUBT: Final = 0.1  # of `motion.doubt`
AHEAD, OFTEN, FAST = 4.0, 4.0, 2.0  # what their logs are divided by
COURSE_TERMS: Final = 4  # the last ones, 0 where no course is told
FORECAST_TERMS: Final = 4 + len(AHEAD_S) + len(OFTEN_S) + len(FAST_MPS) + 3 + COURSE_TERMS
GAP_TERMS: Final = 4
TRAVEL_TERMS: Final = 3
CHI2_90: Final = -2 * math.log(0.1)  # of two degrees of freedom
MAX_LOG_SCALE: Final = 2.0  # no covariance is changed by more than this: what asks for more is no calibration


class Calibration(nn.Module):
    """Coefficients of the log of the factor, for forecasts, gap fills and travel times. Buffers: no gradient reaches
    them.
    """

    forecast: Tensor
    gap: Tensor
    travel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("forecast", torch.zeros(FORECAST_TERMS))
        self.register_buffer("gap", torch.zeros(GAP_TERMS))
        self.register_buffer("travel", torch.zeros(TRAVEL_TERMS))

    def of_forecast(self, kin: F64, dt_s: F64, course: NDArray[np.bool_]) -> F64:
        """Factors [..., Q]; course [...] as in `forecast_terms`."""
        return _factor(forecast_terms(kin, dt_s, course), self.forecast)

    def of_gap(self, gap_s: F64, t_s: F64) -> F64:
        """Factors [..., Q] at t_s [..., Q] seconds into gaps of gap_s [...]."""
        return _factor(gap_terms(gap_s, t_s), self.gap)

    def of_travel(self, kin: F64, base_log_s: F64) -> F64:
        """Factors [..., Q] of the scale, not of its square."""
        return np.asarray(np.sqrt(_factor(travel_terms(kin, base_log_s), self.travel)))


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


def _factor(terms: F64, coefficients: Tensor) -> F64:
    log_scale = terms @ coefficients.double().cpu().numpy()
    return np.asarray(np.exp(np.clip(log_scale, -MAX_LOG_SCALE, MAX_LOG_SCALE)))
