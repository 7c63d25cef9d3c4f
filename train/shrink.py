"""Draws forecasts back towards physics, for where a network knows no better than they: a change of weights, no code.

A mean of two forecasts is seldom worse than the better one, and never than the worse: with the other one's errors it
cannot err farther than their mean does (Bates & Granger, "The Combination of Forecasts", 1969). Before training the
last layer of the forecast's head is zero, and the forecast is physics; so what that layer has learned times 1 − share,
and share of damped velocity, is that mean, but for the bounds of `model.heads.combine` (weights between zero-shot and
fine-tuned: Wortsman et al., "Robust fine-tuning of zero-shot models", 2022). Spreads stay: `train.calibrate` is next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
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
from train.walk import MODEL, Answers

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
    for asked, target, model, damped in zip(
        (anchors.target >= 0).T, anchors.target.T, *(_columns(answers[name]) for name in (MODEL, DAMPED)), strict=True
    ):
        if not asked.any():
            continue
        at, anchor = target[asked], anchors.row[asked]
        errors = [
            error_en_m(corpus.lat[at], corpus.lon[at], lat[asked], lon[asked], corpus.lat[anchor])
            for lat, lon in (model, damped)
        ]
        metres = [np.hypot(*((1 - share) * errors[0] + share * errors[1]).T).mean() for share in SHARES]
        out += min(len(at) / FULL_WEIGHT, 1.0) * np.log(np.maximum(metres, MIN_ERROR_M))
    return out


def _columns(answers: Answers) -> Iterator[tuple[F64, F64]]:
    """Latitudes and longitudes, horizon by horizon."""
    return zip(answers.lat.T, answers.lon.T, strict=True)
