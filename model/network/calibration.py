"""The calibration factors of the answers' covariances, fitted after training on tracks that training never saw.

A network is more certain on its training data than it may be elsewhere. The 90 % quantile of the squared Mahalanobis
distance of its errors, given the question, is fitted by linear quantile regression (train.calibration.calibrate;
conformal in spirit: Romano et al., "Conformalized Quantile Regression", 2019). The factor is the ratio of that quantile
to the quantile of a Gaussian. A covariance is multiplied by it. Weights that were never calibrated have a factor of 1.

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
    factor,
    forecast_terms,
    gap_terms,
)
from model.kinematics.geo import F64

CHI2_90: Final = -2 * math.log(0.1)  # the 90 % quantile of χ² with two degrees of freedom


class Calibration(nn.Module):
    """The coefficients of the factor's log, for forecasts and gap fills: buffers, so that no gradient reaches them."""

    forecast: Tensor
    gap: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("forecast", torch.zeros(FORECAST_TERMS))
        self.register_buffer("gap", torch.zeros(GAP_TERMS))

    def of_forecast(self, kin: F64, dt_s: F64, course: NDArray[np.bool_]) -> F64:
        """Returns the factors [..., Q]; course [...] as in `forecast_terms`."""
        return _factor(forecast_terms(kin, dt_s, course), self.forecast)

    def of_gap(self, gap_s: F64, t_s: F64) -> F64:
        """Returns the factors [..., Q] at t_s [..., Q] seconds into gaps of gap_s [...]."""
        return _factor(gap_terms(gap_s, t_s), self.gap)


def _factor(terms: F64, coefficients: Tensor) -> F64:
    return factor(terms, coefficients.double().cpu().numpy())
