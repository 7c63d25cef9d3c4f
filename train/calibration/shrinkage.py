"""Shrinks forecasts towards physics, for regions where the network may be no better. It changes the weights, not the
code.

The mean of two positions is never farther off than the mean of their errors, and nearer wherever they err in different
directions (Bates & Granger, "The Combination of Forecasts", 1969). Before training the last layer of the forecast's
head is zero, and the forecast is physics; so 1 − share of that layer's trained weights, plus share of damped velocity,
give this mean, except for the bounds of `model.network.heads.combine`, and nearly so where a velocity is reported, to
which an answer leans from where the other terms have led. (Weights between those before and after training: Wortsman et
al., "Robust fine-tuning of zero-shot models", 2022.) Covariances and gap fills stay as they are;
`train.calibration.calibrate` fits covariances afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch

from model.api import Predictor
from model.config import ModelConfig
from model.kinematics.answer_bounds import MAX_LEAN, OUT, RESIDUAL
from model.kinematics.filters import Kinematic
from model.kinematics.geo import F64
from model.kinematics.queries import DAMPED
from model.network.checkpoint import to_parameters
from model.network.network import Network
from train.calibration.calibrate import FULL_WEIGHT
from train.data import anchors as anchoring
from train.evaluation.forecasts import Sample, errors_en_m
from train.evaluation.rollout import MODEL, roll_along

MIN_ERROR_M: Final = 1e-3  # lower limit of mean errors: forecasts of things that stand are right to the millimetre
SHARES: Final = tuple(step / 10 for step in range(11))


def check(config: ModelConfig) -> None:
    """Raises ValueError for a config whose forecasts are no residuals over physics."""
    if config.target != "kalman":
        raise ValueError(
            f"its target is {config.target!r}: forecasts that do not stand on physics cannot be shrunk to it"
        )


def shrink(network: Network, share: float) -> None:
    """Moves every forecast, in place, by that share of the way to damped velocity's. A Predictor of the network has to
    be created again. Raises ValueError as `check` does, and for a share outside 0 to 1.
    """
    check(network.config)
    if not 0 <= share <= 1:
        raise ValueError(f"a share is between 0 and 1, got {share:g}")
    last = network.forecast.last
    with torch.no_grad():
        for layer in (last, network.forecast.beside.last):
            for moves in (slice(0, RESIDUAL), slice(OUT, None)):
                layer.weight[moves] *= 1 - share
                layer.bias[moves] *= 1 - share
        last.bias[OUT + DAMPED] += MAX_LEAN * math.atanh(share / MAX_LEAN)  # `combine` limits this to the share


def fit_share(judged: Sequence[tuple[Network, Sample]], *, say: Callable[[str], None] = lambda line: None) -> float:
    """Returns the share of SHARES that gives the smallest errors for all of the networks together, each on its tracks,
    by the log of the mean error. Every sample and horizon of the evaluation has the same weight, except those with few
    errors. Of two equal shares it returns the smaller.
    """
    total = np.zeros(len(SHARES))
    for network, sample in judged:
        check(network.config)
        say(f"how far to follow the network: {sample.file}")
        total += _log_errors(sample, Predictor(to_parameters(network), name=network.config.name))
    return SHARES[int(np.argmin(total))]


def _log_errors(sample: Sample, predictor: Predictor) -> F64:
    """Returns, for each share, the sum over horizons of one sample's weighted log of the mean error."""
    corpus, anchors = sample.corpus, anchoring.find_anchors(sample.corpus, anchoring.HORIZONS_S)
    answers = roll_along(corpus, anchors, [Kinematic(predictor.config)], predictor).answers
    row, column = np.nonzero(anchors.target >= 0)
    model, damped = (errors_en_m(corpus, anchors, answers[name], row, column) for name in (MODEL, "damped_velocity"))
    n = np.bincount(column, minlength=anchors.target.shape[1])
    weight = np.minimum(n / FULL_WEIGHT, 1.0)  # 0 for a horizon without questions
    out = np.empty(len(SHARES))
    for i, share in enumerate(SHARES):
        distance_m = np.hypot(*((1 - share) * model + share * damped).T)
        mean_m = np.bincount(column, distance_m, len(n)) / np.maximum(n, 1)
        out[i] = weight @ np.log(np.maximum(mean_m, MIN_ERROR_M))
    return out
