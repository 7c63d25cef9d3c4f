"""Measures the residuals of a predictor's answers, in units of their own covariance, on tracks that training never saw,
together with the terms of the calibration (model.network.calibration).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import Predictor
from model.kinematics import features
from model.kinematics.calibration_terms import (
    COURSE_TERMS,
    GAP_TERMS,
    MAX_LOG_SCALE,
    forecast_terms,
    gap_terms,
)
from model.kinematics.geo import F64
from model.network.calibration import CHI2_90
from train.data import anchors as anchoring
from train.data.resampling import thinned
from train.evaluation import gap_fills
from train.evaluation.forecasts import Sample, error_en_m, errors_en_m
from train.evaluation.metrics import mahalanobis2
from train.evaluation.rollout import MODEL, walk

CADENCES_S: Final = (15.0, 60.0)  # intervals to which dense pings are thinned before they get a course
# The further horizons fix the curve between those of the evaluation.
HORIZONS_S: Final = (*anchoring.HORIZONS_S, 20.0, 150.0, 1200.0)


class Residuals(NamedTuple):
    """N residuals of one file: terms (N, P) and squared Mahalanobis distances (N,): 90 % of them are below CHI2_90 if
    the spread is right, and they fall with the square of the spread.
    """

    terms: F64
    mahalanobis2: F64

    @property
    def n(self) -> int:
        return len(self.mahalanobis2)

    @property
    def tells(self) -> NDArray[np.bool_]:
        """For forecasts: whether a course was reported (N,)."""
        return np.asarray(self.terms[:, -COURSE_TERMS] > 0)

    def where(self, chosen: NDArray[np.bool_]) -> Residuals:
        """Returns the residuals that `chosen` (N,) marks."""
        return Residuals(self.terms[chosen], self.mahalanobis2[chosen])

    def held(self, coefficients: F64) -> float:
        """Returns the coverage of 90 % regions with this calibration."""
        log_scale = np.clip(self.terms @ coefficients, -MAX_LOG_SCALE, MAX_LOG_SCALE)
        return float((self.mahalanobis2 <= CHI2_90 * np.exp(log_scale)).mean())


class Gaps(NamedTuple):
    """Residuals of one file's gap fills."""

    errors: Residuals
    gaps: NDArray[np.int64]  # number of gaps of each length in the evaluation


class Added(NamedTuple):
    """Residuals of one file's forecasts for pings with an added course, because the file reports none."""

    errors: Residuals
    entities: int


def of_forecasts(sample: Sample, predictor: Predictor) -> Residuals:
    corpus = sample.corpus
    anchors = anchoring.find(corpus, HORIZONS_S)
    walked = walk(corpus, anchors, [], predictor)
    answer = walked.answers[MODEL]
    row, column = np.nonzero(anchors.target >= 0)
    assert answer.cov_m2 is not None  # a model always has covariances
    assert walked.kin is not None
    error = errors_en_m(corpus, anchors, answer, row, column)
    course = features.tells_course(walked.kin, features.context(corpus.fixes(anchors.row)))
    terms = forecast_terms(walked.kin[row], anchors.dt_s[row, column][:, None], course[row])[:, 0]
    return Residuals(terms, mahalanobis2(error, answer.cov_m2[row, column]))


def of_added_courses(sample: Sample, predictor: Predictor) -> Added | None:
    """Returns the residuals for thinned pings that get a course. It returns None for tracks so sparse that most pings
    cannot get one: courses in short bursts alone say little about receivers.
    """
    parts, entities = [], []
    for cadence_s in CADENCES_S:
        corpus = thinned(sample.corpus, cadence_s)
        heading = [corpus.heading_deg[first:last] for first, last in corpus.tracks]
        if heading and np.isnan(np.concatenate(heading)).mean() <= 0.5:
            found = of_forecasts(replace(sample, corpus=corpus), predictor)
            parts.append(found.where(found.tells))
            entities.append(corpus.entity)
    if not parts:
        return None
    errors = Residuals(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return Added(errors, len(np.unique(np.concatenate(entities))))


def of_gaps(sample: Sample, predictor: Predictor, most: int) -> Gaps:
    corpus, known = sample.corpus, []
    terms, lengths = [np.empty((0, GAP_TERMS))], [np.empty(0)]
    for block_s in gap_fills.BLOCKS_S:
        hidden = gap_fills.evenly(gap_fills.hide_blocks(corpus, block_s), most)
        known.append(len(hidden.before))
        if not known[-1]:
            continue
        answer = gap_fills.answer(corpus, hidden, predictor)[MODEL]
        assert answer.cov_m2 is not None
        counts = hidden.after - hidden.before - 1
        row = np.concatenate([np.arange(a + 1, b) for a, b in zip(hidden.before, hidden.after, strict=True)])
        first = np.repeat(hidden.before, counts)
        gap_s = (corpus.ts_ms[hidden.after] - corpus.ts_ms[hidden.before]) / 1000.0
        t_s = (corpus.ts_ms[row] - corpus.ts_ms[first]) / 1000.0
        error = error_en_m(corpus.lat[row], corpus.lon[row], answer.lat, answer.lon, corpus.lat[first])
        terms.append(gap_terms(np.repeat(gap_s, counts), t_s[:, None])[:, 0])
        lengths.append(mahalanobis2(error, answer.cov_m2))
    return Gaps(Residuals(np.concatenate(terms), np.concatenate(lengths)), np.array(known))
