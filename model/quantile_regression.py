"""Linear quantile regression, deterministic and without a solver.

It uses iteratively reweighted least squares: Hunter & Lange, "Quantile Regression via an MM Algorithm", 2000.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

ROUNDS: Final = 200  # of reweighting; the coefficients of a calibration change by less than 1e-4 after some 60
RIDGE: Final = 1e-3  # for terms that the data cannot separate; the first term, the constant, has none
NEAR: Final = 1e-3  # smaller residuals get no more weight


def fit_line(terms: F64, target: F64, share: float, weight: F64) -> F64:
    """Returns coefficients (P,) such that `share` of the targets (N,), weighted (N,), are below terms (N, P) @
    coefficients. The first term is 1.
    """
    weight = weight / weight.sum()
    fit = np.zeros(terms.shape[1])
    fit[0] = np.quantile(target, share)
    ridge = RIDGE * np.eye(len(fit))
    ridge[0, 0] = 0.0
    for _ in range(ROUNDS):
        off = target - terms @ fit
        # The pinball loss |off|·(share or 1 − share) as a parabola that touches it at the present residual.
        bend = weight / np.maximum(np.abs(off), NEAR)
        left = (terms * bend[:, None]).T @ terms + ridge
        right = (terms * bend[:, None]).T @ target + (2 * share - 1) * (terms * weight[:, None]).sum(0)
        fit = np.linalg.solve(left, right)
    return np.asarray(fit)
