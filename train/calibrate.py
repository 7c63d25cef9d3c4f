"""Fits model.calibration on tracks that training never saw, every file weighing alike. Knows anchors; draws no batch.

The factor is wanted such that 90 % of the errors fall inside the 90 % region: linear quantile regression of the log of
the squared Mahalanobis lengths, by iteratively reweighted least squares (Hunter & Lange, "Quantile Regression via an MM
Algorithm", 2000), which needs no solver and is deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch

from model import motion
from model.api import Predictor
from model.calibration import CHI2_90, MAX_LOG_SCALE, forecast_terms, gap_terms
from model.followers import Kinematic
from model.geo import F64
from model.network import Network
from train import anchors as anchoring
from train import gapfill
from train.data import Reading, silent
from train.evaluate import ROAD, Part, Sample, error_en_m, open_samples
from train.score import mahalanobis2
from train.sources import Source
from train.walk import MODEL, walk

SHARE: Final = 0.9
MOST_ANCHORS: Final = 15_000  # per file: what 90 % regions hold is then known to 0.3 points, were they independent
ROUNDS: Final = 200  # of reweighting; the coefficients move by under 1e-4 after some 60
RIDGE: Final = 1e-3  # against terms that one file alone cannot tell apart
MIN_SURPRISE: Final = 1e-6  # a parked car hits to the centimetre: its log has no floor of its own
# Also asked for, so that the curve is held between the judged horizons.
HORIZONS_S: Final = (*anchoring.HORIZONS_S, 20.0, 150.0, 1200.0)


class Surprises(NamedTuple):
    """N errors of one file: terms (N, P) and squared Mahalanobis lengths (N,)."""

    terms: F64
    mahalanobis2: F64

    def held(self, coefficients: F64) -> float:
        """The share inside of 90 % regions that are calibrated so."""
        log_scale = np.clip(self.terms @ coefficients, -MAX_LOG_SCALE, MAX_LOG_SCALE)
        return float((self.mahalanobis2 <= CHI2_90 * np.exp(log_scale)).mean())


class Held(NamedTuple):
    """What 90 % regions of forecasts held of one sample, as shares: with the calibration of before, and with that of
    now."""

    file: str
    entities: int
    forecasts: int
    before: float
    after: float

    def __str__(self) -> str:
        return (
            f"{self.file}: 90 % regions held {self.before:.1%} of {self.forecasts:,} forecasts of {self.entities:,} "
            f"entities, and hold {self.after:.1%} now"
        )


def tracks_to_calibrate_on(
    sources: Sequence[Source],
    part: Part,
    cache_dir: Path | None = None,
    *,
    reading: Reading = silent,
    say: Callable[[str], None] = lambda line: None,
) -> list[Sample]:
    """Each source's tracks of that part, and those by road once more: where people also walk they outnumber those who
    drive, and at 15 minutes have errors of a tenth. A source without any is told, and left out.
    """
    samples = []
    for source in sources:
        try:
            samples += open_samples([source], part, cache_dir=cache_dir, most=MOST_ANCHORS, reading=reading)
            road = [mode for mode in ROAD if mode in samples[-1].corpus.modes]
            if road:
                driven = open_samples([source], part, cache_dir=cache_dir, most=MOST_ANCHORS, modes=road)
                samples += [replace(one, file=f"{one.file} by road") for one in driven]
        except ValueError as error:
            say(f"not calibrated on {source}: {error}")
    return samples


def calibrate(
    network: Network,
    samples: Sequence[Sample],
    *,
    most_gaps: int = 1000,
    say: Callable[[str], None] = lambda line: None,
) -> list[Held]:
    """Set the calibration of the network, in place, from its errors on the samples."""
    calibration = network.calibration
    was = calibration.forecast.double().cpu().numpy()
    had_gap = calibration.gap.clone()
    calibration.forecast.zero_()
    calibration.gap.zero_()
    predictor = Predictor(network, name=network.config.name)
    ahead, gaps = [], []
    for sample in samples:
        say(f"calibrating on {sample.file}")
        ahead.append(_of_forecasts(sample, predictor))
        gaps += [part for part in (_of_gaps(sample, predictor, most_gaps),) if part is not None]
    now = fit_quantile(ahead)
    calibration.forecast.copy_(torch.from_numpy(now))
    calibration.gap.copy_(torch.from_numpy(fit_quantile(gaps)) if gaps else had_gap)
    return [
        Held(sample.file, len(np.unique(sample.corpus.entity)), len(part.terms), part.held(was), part.held(now))
        for sample, part in zip(samples, ahead, strict=True)
    ]


def fit_quantile(parts: Sequence[Surprises], share: float = SHARE) -> F64:
    """Coefficients (P,) of log(quantile of the Mahalanobis lengths / that of a Gaussian); every part weighs alike."""
    terms = np.concatenate([part.terms for part in parts])
    target = np.log(np.concatenate([part.mahalanobis2 for part in parts]).clip(MIN_SURPRISE)) - np.log(CHI2_90)
    weight = np.concatenate([np.full(len(part.terms), 1.0 / len(part.terms)) for part in parts])
    weight = weight / weight.sum()
    fit = np.zeros(terms.shape[1])
    fit[0] = np.quantile(target, share)
    ridge = RIDGE * np.eye(len(fit))
    ridge[0, 0] = 0.0
    for _ in range(ROUNDS):
        off = target - terms @ fit
        # The pinball loss |off|·(share or 1 − share) as a parabola that touches it at the present residual.
        bend = weight / np.maximum(np.abs(off), 1e-3)
        left = (terms * bend[:, None]).T @ terms + ridge
        right = (terms * bend[:, None]).T @ target + (2 * share - 1) * (terms * weight[:, None]).sum(0)
        fit = np.linalg.solve(left, right)
    return np.asarray(fit)


def _of_forecasts(sample: Sample, predictor: Predictor) -> Surprises:
    corpus = sample.corpus
    anchors = anchoring.find(corpus, HORIZONS_S)
    walked = walk(corpus, anchors, [Kinematic(predictor.config)], predictor)
    answer = walked.answers[MODEL]
    asked = anchors.target >= 0
    row, column = np.nonzero(asked)
    assert answer.cov_m2 is not None  # the model always has one
    target, anchor = anchors.target[asked], anchors.row[row]
    error = error_en_m(corpus.lat[target], corpus.lon[target], answer.lat[asked], answer.lon[asked], corpus.lat[anchor])
    terms = forecast_terms(walked.states[0][row, : motion.WIDTH], anchors.dt_s[row, column][:, None])[:, 0]
    return Surprises(terms, mahalanobis2(error, answer.cov_m2[asked]))


def _of_gaps(sample: Sample, predictor: Predictor, most: int) -> Surprises | None:
    """None where the file has no gap of any judged length."""
    corpus, terms, lengths = sample.corpus, [], []
    for block_s in gapfill.BLOCKS_S:
        hidden = gapfill.evenly(gapfill.hide_blocks(corpus, block_s), most)
        if not len(hidden.before):
            continue
        answer = gapfill.answer(corpus, hidden, predictor)[MODEL]
        assert answer.cov_m2 is not None
        counts = hidden.after - hidden.before - 1
        row = np.concatenate([np.arange(a + 1, b) for a, b in zip(hidden.before, hidden.after, strict=True)])
        first = np.repeat(hidden.before, counts)
        gap_s = (corpus.ts_ms[hidden.after] - corpus.ts_ms[hidden.before]) / 1000.0
        t_s = (corpus.ts_ms[row] - corpus.ts_ms[first]) / 1000.0
        error = error_en_m(corpus.lat[row], corpus.lon[row], answer.lat, answer.lon, corpus.lat[first])
        terms.append(gap_terms(np.repeat(gap_s, counts), t_s[:, None])[:, 0])
        lengths.append(mahalanobis2(error, answer.cov_m2))
    return Surprises(np.concatenate(terms), np.concatenate(lengths)) if terms else None
