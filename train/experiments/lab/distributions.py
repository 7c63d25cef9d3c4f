"""Distributions of a forecast's error: each as a loss for training, and as quantiles for evaluation.

Each form is a few numbers of a head, zero before training, that change the spread under a forecast. A Gaussian and a t
are centred on its point, a mixture and quantiles need not be. Quantiles are of positions along and across a direction,
because every form has those: a region is an ellipse for one form, and not defined for another.

Shapes: ... any batch, 2 along and across, L = len(LEVELS).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Final, NamedTuple

import torch
import torch.nn.functional as fn
from torch import Tensor

from model.kinematics.answer_bounds import MAX_LOG_SPREAD, SCALE_OF_COV
from model.network.heads import Spread, surprise, t_nll
from train.evaluation.metrics import MIN_VARIANCE_M2

# Twice their mean pinball loss is the CRPS by the midpoint rule (Gneiting & Ranjan, 2011).
LEVELS: Final = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
STAY_M: Final = 10.0  # initial standard deviation of things that stay: a receiver's noise
STAY_LOGIT: Final = -2.0  # initial logit of their share
HALVINGS: Final = 40  # bisections of the interval that contains a mixture's quantile: it is then known to 1e-12 of it


class Given(NamedTuple):
    """A forecast, and the direction of its quantiles."""

    spread: Spread
    unit: Tensor  # [..., 2] unit vector: of the motion, or north where there is none


class Form(NamedTuple):
    """One form of distribution."""

    numbers: int
    loss: Callable[[Tensor, Given, Tensor], Tensor]  # numbers [..., N], target [..., 2] m from the anchor -> [...]
    quantiles: Callable[[Tensor, Given], Tensor]  # -> [..., 2, L] m from the anchor


def along(vector: Tensor, unit: Tensor) -> Tensor:
    """Turns vectors [..., 2] of east and north into along and across [..., 2]."""
    (east, north), (x, y) = vector.unbind(-1), unit.unbind(-1)
    return torch.stack([east * x + north * y, x * north - y * east], dim=-1)


def deviation(cov_m2: Tensor, unit: Tensor) -> Tensor:
    """Returns the standard deviations along and across [..., 2]."""
    (ee, en, nn), (x, y) = cov_m2.unbind(-1), unit.unbind(-1)
    variance = [ee * x * x + 2 * en * x * y + nn * y * y, ee * y * y - 2 * en * x * y + nn * x * x]
    return torch.stack(variance, dim=-1).clamp_min(MIN_VARIANCE_M2).sqrt()


def pinball(quantiles: Tensor, target: Tensor) -> Tensor:
    """Returns twice the mean pinball loss of quantiles [..., L] for targets [...]: about the CRPS, in their unit."""
    level = torch.tensor(LEVELS, dtype=quantiles.dtype)
    over = target.unsqueeze(-1) - quantiles
    return 2 * torch.maximum(level * over, (level - 1) * over).mean(-1)


def t_cdf(x: Tensor) -> Tensor:
    """The distribution function of the Student t with answer_bounds.NU = 4 degrees of freedom."""
    squeezed = x * x / (1 + x * x / 4)
    return 0.5 + 0.375 * x / (1 + x * x / 4).sqrt() * (1 - squeezed / 12)


def t_quantile(level: float) -> float:
    """Its inverse (Shaw, "Sampling Student's T distribution", 2006: a closed form for 4 degrees of freedom)."""
    alpha = 4 * level * (1 - level)
    size = 2 * math.sqrt(math.cos(math.acos(math.sqrt(alpha)) / 3) / math.sqrt(alpha) - 1)
    return math.copysign(size, level - 0.5)


def as_gaussian(spread: Spread, unit: Tensor) -> Tensor:
    """Returns the quantiles [..., 2, L] of the Gaussian with that covariance, as a subscriber will read it."""
    return _symmetric(spread, unit, [NormalDist().inv_cdf(level) for level in LEVELS])


def as_t(spread: Spread, unit: Tensor) -> Tensor:
    """Returns those of the Student t with that covariance, as defined in model.network.heads."""
    return _symmetric(spread, unit, [math.sqrt(SCALE_OF_COV) * t_quantile(level) for level in LEVELS])


def wider(numbers: Tensor, given: Given) -> Spread:
    """Returns the forecast with its covariance scaled by the first number."""
    log_scale = MAX_LOG_SPREAD * torch.tanh(numbers[..., :1] / MAX_LOG_SPREAD)
    return given.spread._replace(cov_m2=given.spread.cov_m2 * log_scale.exp())


def gaussian_loss(numbers: Tensor, given: Given, target_en: Tensor) -> Tensor:
    """Returns the negative log-likelihood [...] up to a constant."""
    det, m2 = surprise(wider(numbers, given), target_en)
    return 0.5 * det.log() + 0.5 * m2


def gaussian_quantiles(numbers: Tensor, given: Given) -> Tensor:
    return as_gaussian(wider(numbers, given), given.unit)


def t_loss(numbers: Tensor, given: Given, target_en: Tensor) -> Tensor:
    return t_nll(wider(numbers, given), target_en)


def t_quantiles(numbers: Tensor, given: Given) -> Tensor:
    return as_t(wider(numbers, given), given.unit)


def mixture(numbers: Tensor, given: Given) -> tuple[Tensor, Spread, Spread]:
    """Returns the logit [...] of the share of things that stay, their distribution, and that of things that continue,
    whose mean may be nearer or farther than the forecast.
    """
    _, logit, narrow, further = numbers.unbind(-1)
    variance = STAY_M**2 * torch.exp(MAX_LOG_SPREAD * torch.tanh(narrow / MAX_LOG_SPREAD))
    stays = Spread(torch.zeros_like(given.spread.mean_en), torch.stack([variance, 0 * variance, variance], dim=-1))
    goes = wider(numbers, given)
    return logit + STAY_LOGIT, stays, goes._replace(mean_en=goes.mean_en * (1 + torch.tanh(further))[..., None])


def mixture_loss(numbers: Tensor, given: Given, target_en: Tensor) -> Tensor:
    logit, stays, goes = mixture(numbers, given)
    parts = [fn.logsigmoid(logit) - t_nll(stays, target_en), fn.logsigmoid(-logit) - t_nll(goes, target_en)]
    return -torch.logaddexp(*parts)


def mixture_quantiles(numbers: Tensor, given: Given) -> Tensor:
    logit, *parts = mixture(numbers, given)
    share, level = torch.sigmoid(logit)[..., None, None], torch.tensor(LEVELS, dtype=numbers.dtype)
    centre = [along(part.mean_en, given.unit).unsqueeze(-1) for part in parts]
    scale = [math.sqrt(SCALE_OF_COV) * deviation(part.cov_m2, given.unit).unsqueeze(-1) for part in parts]
    ends = torch.stack([as_t(part, given.unit) for part in parts])  # the quantile lies between those of the parts
    low, high = ends.amin(0), ends.amax(0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        stay, go = (t_cdf((middle - c) / s) for c, s in zip(centre, scale, strict=True))
        below = share * stay + (1 - share) * go < level
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def quantiles(numbers: Tensor, given: Given) -> Tensor:
    """Returns the quantiles of the Gaussian, each shifted by its own number, in ascending order."""
    return _moved(numbers, given).sort(-1).values


def quantile_loss(numbers: Tensor, given: Given, target_en: Tensor) -> Tensor:
    """Returns the pinball loss in standard deviations of the forecast, so that one large error does not outweigh many
    small ones.
    """
    off = pinball(_moved(numbers, given), along(target_en, given.unit))
    return (off / deviation(given.spread.cov_m2, given.unit)).sum(-1)


def _moved(numbers: Tensor, given: Given) -> Tensor:
    by_level = numbers.view(*numbers.shape[:-1], 2, len(LEVELS))
    moved = deviation(given.spread.cov_m2, given.unit).unsqueeze(-1) * by_level
    return as_gaussian(given.spread, given.unit) + moved


def _symmetric(spread: Spread, unit: Tensor, deviations: list[float]) -> Tensor:
    at = torch.tensor(deviations, dtype=spread.cov_m2.dtype)
    return along(spread.mean_en, unit).unsqueeze(-1) + deviation(spread.cov_m2, unit).unsqueeze(-1) * at


GAUSSIAN, T, MIXTURE, QUANTILES = "one Gaussian", "one t", "a t and a narrow one", "quantiles"
FORMS: Final = {
    GAUSSIAN: Form(1, gaussian_loss, gaussian_quantiles),
    T: Form(1, t_loss, t_quantiles),
    MIXTURE: Form(4, mixture_loss, mixture_quantiles),
    QUANTILES: Form(2 * len(LEVELS), quantile_loss, quantiles),
}
