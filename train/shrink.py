"""Draws forecasts back towards physics, where a network may know no better: by other weights, not by other code.

The mean of two positions is never farther off than the mean of their errors, and nearer where they err to different
sides (Bates & Granger, "The Combination of Forecasts", 1969). Before training the last layer of the forecast's head is
zero, and the forecast is physics; so 1 − share of what that layer has learned, and share of damped velocity, are that
mean, but for the bounds of `model.heads.combine`. (Weights between those of before and after: Wortsman et al., "Robust
fine-tuning of zero-shot models", 2022.) Spreads stay as they are; `train.calibrate` fits them afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch

from model.api import Predictor
from model.config import ModelConfig
from model.geo import F64
from model.heads import MAX_LEAN, OUT
from model.network import Network
from train.calibrate import FULL_WEIGHT
from train.evaluate import Sample, answers_of, error_en_m
from train.walk import MODEL

DAMPED: Final = "damped_velocity"
TO_DAMPED: Final = OUT  # `queries._going_on` has it first of what the mean may lean to
RESIDUAL: Final = 4  # numbers of the head that move the mean; then those of the spread, up to OUT
MIN_ERROR_M: Final = 1e-3  # a file of things that stand hits to the millimetre
SHARES: Final = tuple(step / 10 for step in range(11))


def refused(config: ModelConfig) -> str | None:
    """Why forecasts of such a config cannot be drawn to damped velocity; None where they can."""
    return None if config.target == "kalman" else f"its target is {config.target!r}, so it does not stand on physics"


def shrink(network: Network, share: float) -> None:
    """Move every forecast, in place, by that share of the way to damped velocity's. Raises ValueError for a config that
    does not stand on physics, and for a share outside 0 to 1.
    """
    if (reason := refused(network.config)) is not None:
        raise ValueError(f"forecasts cannot be drawn to damped velocity: {reason}")
    if not 0 <= share <= 1:
        raise ValueError(f"a share is between 0 and 1, got {share:g}")
    last = network.forecast.last
    with torch.no_grad():
        for moves in (slice(0, RESIDUAL), slice(OUT, None)):
            last.weight[moves] *= 1 - share
            last.bias[moves] *= 1 - share
        last.bias[TO_DAMPED] += MAX_LEAN * math.atanh(share / MAX_LEAN)  # what `combine` bounds to the share


def fit_share(network: Network, samples: Sequence[Sample], *, say: Callable[[str], None] = lambda line: None) -> float:
    """The share of SHARES that is nearest on these tracks: by the log of the mean error, every file and horizon of the
    judge alike, but for those of few errors; the smaller share where two are as near.
    """
    predictor = Predictor(network, name=network.config.name)
    total = np.zeros(len(SHARES))
    for sample in samples:
        say(f"how far to trust the network: {sample.file}")
        total += _log_errors(sample, predictor)
    return SHARES[int(np.argmin(total))]


def _log_errors(sample: Sample, predictor: Predictor) -> F64:
    """Of one file, by share: the sum over horizons of the weighted log of the mean error."""
    corpus, (anchors, answers, _) = sample.corpus, answers_of(sample, predictor)
    out = np.zeros(len(SHARES))
    for column, target in enumerate(anchors.target.T):
        asked = target >= 0
        if not asked.any():
            continue
        at, anchor = target[asked], anchors.row[asked]
        model, damped = (
            error_en_m(
                corpus.lat[at],
                corpus.lon[at],
                answers[name].lat[asked, column],
                answers[name].lon[asked, column],
                corpus.lat[anchor],
            )
            for name in (MODEL, DAMPED)
        )
        mean_m = [np.hypot(*((1 - share) * model + share * damped).T).mean() for share in SHARES]
        out += min(len(at) / FULL_WEIGHT, 1.0) * np.log(np.maximum(mean_m, MIN_ERROR_M))
    return out
