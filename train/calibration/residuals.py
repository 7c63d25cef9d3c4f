"""Measures the residuals of a predictor's answers, in units of their own covariance, on tracks that training never saw,
together with the terms of the calibration (model.network.calibration).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, NamedTuple

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
from model.kinematics.features import steps_between
from model.kinematics.geo import F64
from model.network.calibration import CHI2_90
from train.data import anchors as anchoring
from train.data.anchors import keep_long
from train.data.corpus import Corpus
from train.evaluation import gap_fills
from train.evaluation.forecasts import Sample, error_en_m, errors_en_m
from train.evaluation.metrics import mahalanobis2
from train.evaluation.rollout import MODEL, roll_along

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

    def coverage(self, coefficients: F64) -> float:
        """Returns the coverage of 90 % regions with this calibration."""
        log_scale = np.clip(self.terms @ coefficients, -MAX_LOG_SCALE, MAX_LOG_SCALE)
        return float((self.mahalanobis2 <= CHI2_90 * np.exp(log_scale)).mean())


class Gaps(NamedTuple):
    """Residuals of one file's gap fills."""

    errors: Residuals
    gaps: NDArray[np.int64]  # number of gaps of each length in the evaluation


class AddedCourses(NamedTuple):
    """Residuals of one file's forecasts for pings with an added course, because the file reports none."""

    errors: Residuals
    entities: int


def measure_forecasts(sample: Sample, predictor: Predictor) -> Residuals:
    corpus = sample.corpus
    anchors = anchoring.find_anchors(corpus, HORIZONS_S)
    walked = roll_along(corpus, anchors, [], predictor)
    answer = walked.answers[MODEL]
    row, column = np.nonzero(anchors.target >= 0)
    assert answer.cov_m2 is not None  # a model always has covariances
    assert walked.kin is not None
    error = errors_en_m(corpus, anchors, answer, row, column)
    course = features.tells_course(walked.kin, features.context(corpus.fixes(anchors.row)))
    terms = forecast_terms(walked.kin[row], anchors.dt_s[row, column][:, None], course[row])[:, 0]
    return Residuals(terms, mahalanobis2(error, answer.cov_m2[row, column]))


def measure_added_courses(sample: Sample, predictor: Predictor) -> AddedCourses | None:
    """Returns the residuals for thinned pings that get a course. It returns None for tracks so sparse that most pings
    cannot get one: courses in short bursts alone say little about receivers.
    """
    parts, entities = [], []
    for cadence_s in CADENCES_S:
        corpus = thin_tracks(sample.corpus, cadence_s)
        heading = [corpus.heading_deg[first:last] for first, last in corpus.tracks]
        if heading and np.isnan(np.concatenate(heading)).mean() <= 0.5:
            found = measure_forecasts(replace(sample, corpus=corpus), predictor)
            parts.append(found.where(found.tells))
            entities.append(corpus.entity)
    if not parts:
        return None
    errors = Residuals(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return AddedCourses(errors, len(np.unique(np.concatenate(entities))))


def measure_gaps(sample: Sample, predictor: Predictor, most: int) -> Gaps:
    corpus, known = sample.corpus, []
    terms, lengths = [np.empty((0, GAP_TERMS))], [np.empty(0)]
    for block_s in gap_fills.BLOCKS_S:
        hidden = gap_fills.take_evenly(gap_fills.hide_blocks(corpus, block_s), most)
        known.append(len(hidden.before))
        if not known[-1]:
            continue
        answer = gap_fills.answer_gaps(corpus, hidden, predictor)[MODEL]
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


STEP_S: Final = (2.0, 6.0)  # interval over which a velocity is taken, at least and at most


def thin_tracks(corpus: Corpus, cadence_s: float) -> Corpus:
    """Returns pings that are at least that far apart, each with its velocity on the full track; only tracks with enough
    pings.
    """
    chosen: list[NDArray[np.int64]] = []
    velocities = []
    for first, last in corpus.tracks:
        fixes = corpus.fixes(slice(first, last))
        rows = _rows_apart(np.array(fixes["ts_ms"]), cadence_s)
        chosen.append(first + rows)
        velocities.append(_velocity_mps(fixes, rows))
    velocity = np.concatenate(velocities)
    heading = np.degrees(np.arctan2(velocity[:, 0], velocity[:, 1])) % 360
    thin = replace(
        corpus.keep(np.concatenate(chosen)),
        speed_mps=np.hypot(*velocity.T).astype(np.float32),
        heading_deg=heading.astype(np.float32),
    )
    return keep_long(thin)


def _rows_apart(ts_ms: NDArray[np.int64], cadence_s: float) -> NDArray[np.int64]:
    """Returns which pings of a track are kept: the first, and after each one the next that is late enough."""
    rows, at = [], 0
    while at < len(ts_ms):
        rows.append(at)
        at = int(np.searchsorted(ts_ms, ts_ms[at] + round(1000 * cadence_s)))
    return np.array(rows)


def _velocity_mps(fixes: NDArray[Any], rows: NDArray[np.int64]) -> F64:
    """Returns the east and north velocity over the last STEP_S [N, 2]; NaN where no fix has an age in that range."""
    ts_ms = fixes["ts_ms"]
    before = np.searchsorted(ts_ms, ts_ms[rows] - round(1000 * STEP_S[0]), side="right") - 1
    dt_s, en_m = steps_between(fixes[np.maximum(before, 0)], fixes[rows])
    near = (before >= 0) & (dt_s <= STEP_S[1])
    return np.where(near[:, None], en_m / np.maximum(dt_s, STEP_S[0])[:, None], np.nan)
