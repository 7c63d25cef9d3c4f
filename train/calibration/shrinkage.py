"""Shrinks forecasts towards physics, where a network may know no better: by other weights, not by other code.

The mean of two positions is never farther off than the mean of their errors, and nearer than that wherever they err in
different directions (Bates & Granger, "The Combination of Forecasts", 1969). Before training the last layer of the
forecast's head is zero, and the forecast is physics; so 1 − share of what that layer has learned, and share of damped
velocity, are that mean, but for the bounds of `model.network.heads.combine`, and nearly so for what reports its
velocity, to which an answer leans from where the rest has led it. (Weights between those of before and after: Wortsman
et al., "Robust fine-tuning of zero-shot models", 2022.) Spreads and gap fills stay as they are;
`train.calibration.calibrate` fits spreads afterwards.
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
from model.network.network import Network
from train.calibration.calibrate import FULL_WEIGHT
from train.data import anchors as anchoring
from train.evaluation.forecasts import Sample, errors_en_m
from train.evaluation.rollout import MODEL, walk

MIN_ERROR_M: Final = 1e-3  # a file of things that stand hits to the millimetre
SHARES: Final = tuple(step / 10 for step in range(11))


def check(config: ModelConfig) -> None:
    """Raises ValueError for a config whose forecasts do not stand on physics."""
    if config.target != "kalman":
        raise ValueError(
            f"its target is {config.target!r}: forecasts that do not stand on physics cannot be shrunk to it"
        )


def shrink(network: Network, share: float) -> None:
    """Move every forecast, in place, by that share of the way to damped velocity's. A Predictor of the network has to
    be made anew. Raises ValueError as `check` does, and for a share outside 0 to 1.
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
        last.bias[OUT + DAMPED] += MAX_LEAN * math.atanh(share / MAX_LEAN)  # what `combine` bounds to the share


def fit_share(judged: Sequence[tuple[Network, Sample]], *, say: Callable[[str], None] = lambda line: None) -> float:
    """The share of SHARES that brings all of the networks nearest, each on its tracks: by the log of the mean error,
    every sample and horizon of the judge alike, but for those of few errors; the smaller of two that are as near.
    """
    total = np.zeros(len(SHARES))
    for network, sample in judged:
        check(network.config)
        say(f"how far to follow the network: {sample.file}")
        total += _log_errors(sample, Predictor(network, name=network.config.name))
    return SHARES[int(np.argmin(total))]


def _log_errors(sample: Sample, predictor: Predictor) -> F64:
    """Of one sample, by share: the sum over horizons of the weighted log of the mean error."""
    corpus, anchors = sample.corpus, anchoring.find(sample.corpus, anchoring.HORIZONS_S)
    answers = walk(corpus, anchors, [Kinematic(predictor.config)], predictor).answers
    row, column = np.nonzero(anchors.target >= 0)
    model, damped = (errors_en_m(corpus, anchors, answers[name], row, column) for name in (MODEL, "damped_velocity"))
    n = np.bincount(column, minlength=anchors.target.shape[1])
    weight = np.minimum(n / FULL_WEIGHT, 1.0)  # 0 of a horizon that nothing was asked for
    out = np.empty(len(SHARES))
    for i, share in enumerate(SHARES):
        distance_m = np.hypot(*((1 - share) * model + share * damped).T)
        mean_m = np.bincount(column, distance_m, len(n)) / np.maximum(n, 1)
        out[i] = weight @ np.log(np.maximum(mean_m, MIN_ERROR_M))
    return out
