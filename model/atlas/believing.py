"""Moves a forecast to where passages went, and widens it: the definition.

Both have a variance: the forecast its own, and the passages that of where they went, more if they are few. The mean
goes the share of the way to theirs that the variances say, and the covariance is that of the mixture of both. How much
the passages' variance means, and how wide the mixture has to be to hold what it should, each fleet finds out: by a
`Belief`, which is fitted to its newest hours (`fit`).

Shapes: N pings, Q questions of each, B = len(HORIZONS_S).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas.asking import LEAST, Estimate
from model.kinematics.geo import F64

HORIZONS_S: Final = (60.0, 300.0, 900.0)  # at which a belief is fitted; between them it is interpolated in their logs
RECEIVER_M: Final = 20.0  # added to each axis of where passages went
FEW: Final = 2.0  # so much evidence makes the variance of a mean of passages count twice
NOTHING: Final = np.inf  # in place of a scale: passages are not believed
SCALES: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # that are tried
LEAST_GAIN: Final = 0.005  # passages that bring less, as a share of the error, are not believed
HELD: Final = 0.9  # what the regions are to hold
CHI2: Final = -2 * np.log(1 - HELD)  # the squared Mahalanobis distance within which that is
MAX_LOG_WIDE: Final = 2.0
_TRIES: Final = 40  # of a bisection
_LOG_HORIZONS: Final = np.log(np.array(HORIZONS_S))


class Belief(NamedTuple):
    """The weight of a version's passages in forecasts of its own fleet, at HORIZONS_S."""

    scale: F64  # [B] what their variance is multiplied by; NOTHING: they are not believed
    log_wide: F64  # [B] log of what the covariance of the mixture is multiplied by


UNFITTED: Final = Belief(np.ones(len(HORIZONS_S)), np.zeros(len(HORIZONS_S)))


class Forecast(NamedTuple):
    """Forecasts of a model, in metres from the pings."""

    mean_m: F64  # [N, Q, 2]
    cov_m2: F64  # [N, Q, 3]


def combine(model: Forecast, found: Estimate, dt_s: F64, belief: Belief) -> Forecast:
    """Returns the forecasts for dt_s [N, Q] seconds ahead, moved. One for which there is no evidence keeps its bits."""
    share, spread = _shares(model, found, _between(1.0 / belief.scale, dt_s))
    moved = _mix(model, found, share, spread)
    wide = np.exp(share * _between(belief.log_wide, dt_s))
    some = share > 0
    return Forecast(
        np.where(some[..., None], moved.mean_m, model.mean_m),
        np.where(some[..., None], moved.cov_m2 * wide[..., None], model.cov_m2),
    )


def fit(model: Forecast, found: Estimate, happened_m: F64, surely: NDArray[np.bool_] | None = None) -> Belief:
    """Returns the belief that fits what happened_m [N, B, 2] at HORIZONS_S after pings; NaN where nobody knows. The
    passages are those of other vehicles. How wide regions have to be is fitted to what happened `surely` [N, B]; None:
    to all.
    """
    scale, log_wide = np.full(len(HORIZONS_S), NOTHING), np.zeros(len(HORIZONS_S))
    for column in range(len(HORIZONS_S)):
        known = np.flatnonzero(np.isfinite(happened_m[:, column, 0]))
        if not len(known):
            continue
        one = Forecast(*(part[known, column] for part in model))
        near = Estimate(*(part[known, column] for part in found))
        sure = np.ones(len(known), np.bool_) if surely is None else surely[known, column]
        scale[column], log_wide[column] = _fit_horizon(one, near, happened_m[known, column], sure)
    return Belief(scale, log_wide)


def _fit_horizon(model: Forecast, found: Estimate, happened_m: F64, surely: NDArray[np.bool_]) -> tuple[float, float]:
    """Returns the scale and the log of the width of one horizon, [N] questions."""

    def error_m(scale: float) -> float:
        share, spread = _shares(model, found, np.full(len(happened_m), 1.0 / scale))
        return float(np.hypot(*(_mix(model, found, share, spread).mean_m - happened_m).T).mean())

    best = min(SCALES, key=error_m)
    if error_m(best) > (1 - LEAST_GAIN) * error_m(NOTHING):
        return NOTHING, 0.0
    share, spread = _shares(model, found, np.full(len(happened_m), 1.0 / best))
    mixture = _mix(model, found, share, spread)
    apart = np.log(np.maximum(_mahalanobis2(mixture, happened_m) / CHI2, 1e-12))[surely]
    share = share[surely]
    low, high = -MAX_LOG_WIDE, MAX_LOG_WIDE
    for _ in range(_TRIES):
        middle = (low + high) / 2
        low, high = (middle, high) if (apart <= share * middle).mean() < HELD else (low, middle)
    return best, (low + high) / 2


def _shares(model: Forecast, found: Estimate, over_scale: F64) -> tuple[F64, F64]:
    """Returns how far forecasts [...] go to where passages went, and the covariances [..., 3] of these, scaled."""
    few = 1 + FEW / (found.n + 0.1)
    spread = (found.cov_m2 + np.array([RECEIVER_M**2, 0.0, RECEIVER_M**2])) * few[..., None]
    of_model, of_passages = ((cov[..., 0] + cov[..., 2]) / 2 for cov in (model.cov_m2, spread))
    share = np.where(found.n >= LEAST, of_model * over_scale / (of_model * over_scale + of_passages), 0.0)
    return share, spread / np.maximum(over_scale, 1e-12)[..., None]


def _mix(model: Forecast, found: Estimate, share: F64, spread: F64) -> Forecast:
    """Returns the mean and the covariance of the mixture."""
    off = found.mean_m - model.mean_m
    between = np.stack([off[..., 0] ** 2, off[..., 0] * off[..., 1], off[..., 1] ** 2], axis=-1)
    of = share[..., None]
    return Forecast(model.mean_m + of * off, of * spread + (1 - of) * model.cov_m2 + of * (1 - of) * between)


def _between(values: F64, dt_s: F64) -> F64:
    """Interpolates values [B] to dt_s [N, Q]; before the first horizon and after the last they are those of that."""
    return np.interp(np.log(dt_s), _LOG_HORIZONS, values)


def holds(forecast: Forecast, happened_m: F64) -> NDArray[np.bool_]:
    """Returns which regions [N, Q] that should hold HELD have what happened_m [N, Q, 2] in them."""
    return np.asarray(_mahalanobis2(forecast, happened_m) <= CHI2)


def _mahalanobis2(forecast: Forecast, happened_m: F64) -> NDArray[np.float64]:
    ee, en, nn = np.moveaxis(forecast.cov_m2, -1, 0)
    e, north = np.moveaxis(happened_m - forecast.mean_m, -1, 0)
    return np.asarray((nn * e * e - 2 * en * e * north + ee * north * north) / np.maximum(ee * nn - en * en, 1e-9))
