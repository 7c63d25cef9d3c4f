"""The calibration factors of the answers' covariances, fitted after training on tracks that training never saw.

A network is more certain on its training data than it may be elsewhere. The 90 % quantile of the squared Mahalanobis
distance of its errors, given the question, is fitted by linear quantile regression (train.calibration.calibrate;
conformal in spirit: Romano et al., "Conformalized Quantile Regression", 2019). The factor is the ratio of that quantile
to the quantile of a Gaussian. A covariance is multiplied by it, and the scale of a travel time's log by the square root
of its own factor. Weights that were never calibrated have a factor of 1.

Shapes: ... any batch, Q queries per row, K = motion.WIDTH.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.kinematics.calibration_terms import (
    FORECAST_TERMS,
    GAP_TERMS,
    TRAVEL_TERMS,
    factor,
    forecast_terms,
    gap_terms,
    travel_terms,
)
from model.kinematics.geo import F64

CHI2_90: Final = -2 * math.log(0.1)  # the 90 % quantile of χ² with two degrees of freedom


class Calibration(nn.Module):
    """The coefficients of the factor's log, for forecasts, gap fills and travel times. They are buffers, so no gradient
    reaches them.
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
        """Returns the factors [..., Q]; course [...] as in `forecast_terms`."""
        return _factor(forecast_terms(kin, dt_s, course), self.forecast)

    def of_gap(self, gap_s: F64, t_s: F64) -> F64:
        """Returns the factors [..., Q] at t_s [..., Q] seconds into gaps of gap_s [...]."""
        return _factor(gap_terms(gap_s, t_s), self.gap)

    def of_travel(self, kin: F64, base_log_s: F64) -> F64:
        """Returns the factors [..., Q] of the scale, not of its square."""
        return np.asarray(np.sqrt(_factor(travel_terms(kin, base_log_s), self.travel)))


def _factor(terms: F64, coefficients: Tensor) -> F64:
    return factor(terms, coefficients.double().cpu().numpy())
