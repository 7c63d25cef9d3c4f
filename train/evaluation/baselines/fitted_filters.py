"""Filters fitted to a data set: their noise gives the lowest CRPS or mean error on its train split. Test tracks are
never used.

The criterion of the fit is that of the evaluation. It is CRPS, not likelihood: CRPS weighs every horizon in metres, and
one impossible fix does not decide it. A filter fitted to the mean error alone is nearer by up to 6 %, so there is one
Kalman filter of each. The search is deterministic: it halves and doubles one number at a time.

Letters: A anchors, J steps before them, H = 1 + horizons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.kinematics.features import steps_between
from model.kinematics.filters import FITTED, NEAREST, FittedKalman, Follower
from model.kinematics.geo import F64
from model.kinematics.imm import IMM_FITTED, STOPPED, Imm
from train.data import anchors as anchoring
from train.data.corpus import Corpus, even_indices
from train.evaluation import gap_fills
from train.evaluation.metrics import energy_score

PHYSICS: Final = ("damping_s", "accel_psd", "fix_sigma_m")
ANCHORS: Final = 2_000  # the mean CRPS of so many is known to 3 %, and the search uses coarser steps than that
IMM_ANCHORS: Final = 600  # its states are four times as large, and it has twice as many parameters
GAPS: Final = 400  # gaps per block length
# Fewest anchors of a horizon, or gaps of a length, for it to count where another has more, because all have the same
# weight. Two anchors of one ship that did not move once outweighed 2,000. This is not calibrate.FEW_GAPS, which is for
# a quantile.
FEW: Final = 50
HISTORY: Final = 32  # steps that a filter folds before an anchor: its memory is far shorter
FACTORS: Final = (4.0, 2.0, 1.4)  # factors by which one number changes at a time, up or down; coarse ones first
SMALLEST, LARGEST = 1e-3, 1e5  # no filter is useful beyond these
LEAST_M: Final = 0.01  # floor of a mean: things that stand are forecast to the millimetre, and have the same weight

Values = dict[str, float]


class FittedFilters(NamedTuple):
    followers: tuple[Follower, ...]
    report: dict[str, Any] | None  # the fitted numbers, for the head of a report


class Windows(NamedTuple):
    """The inputs of a filter before each anchor, and the true positions after it."""

    dt_s: F64  # (A, J), oldest first; 1 where there was no step
    d_en: F64  # (A, J, 2)
    known: NDArray[np.bool_]  # (A, J)
    asked_s: F64  # (A, H)
    truth_en: F64  # (A, H, 2) m from the anchor
    has_truth: NDArray[np.bool_]  # (A, H), only at horizons that are fitted to


def fit_followers(train: Corpus, config: ModelConfig) -> FittedFilters:
    """Fits two Kalman filters and an IMM to these tracks. Raises ValueError where none is long enough."""
    usable = anchoring.keep_long(train)
    windows, fewer = _windows(usable, ANCHORS), _windows(usable, IMM_ANCHORS)
    start = {name: getattr(config, name) for name in PHYSICS}

    def kalman(values: Values) -> FittedKalman:
        return FittedKalman(_with_values(config, values))

    def imm(values: Values) -> Imm:
        return Imm.around(
            _with_values(config, values),
            manoeuvre=values["manoeuvre"],
            memory_s=values["memory_s"],
            stopped=values["stopped_odds"] / (1 + values["stopped_odds"]),
            name=IMM_FITTED,
        )

    def crps(values: Values) -> float:
        return _loss(kalman(values), windows, energy_score)

    nearest, _, tries = search(lambda values: _loss(kalman(values), windows, _error_m), start)
    # The mean error does not depend on the common scale of all noise: CRPS fits that scale.
    spread, _, more = search(lambda one: crps(_rescale(nearest, **one)), {"fix_sigma_m": nearest["fix_sigma_m"]})
    nearest = _rescale(nearest, **spread)
    found, loss, found_tries = _search_all(crps, start, nearest)
    switching = {"manoeuvre": 10.0, "memory_s": 120.0, "stopped_odds": STOPPED / (1 - STOPPED)}
    modes, imm_loss, imm_tries = _search_all(
        lambda values: _loss(imm(values), fewer, energy_score), start | switching, found | switching
    )
    report = {
        FITTED: {**found, "log_crps": loss, "tries": found_tries},
        NEAREST: {**nearest, "tries": tries + more},
        IMM_FITTED: {**modes, "log_crps": imm_loss, "tries": imm_tries},
    }
    return FittedFilters((kalman(found), FittedKalman(_with_values(config, nearest), NEAREST), imm(modes)), report)


def fit_smoother(train: Corpus, config: ModelConfig) -> tuple[ModelConfig, Values] | None:
    """Fits the noise of the smoother across gaps; returns None where the tracks have no block that could be hidden."""
    blocks = [gap_fills.take_evenly(gap_fills.hide_blocks(train, block_s), GAPS) for block_s in gap_fills.BLOCKS_S]
    counted = _has_enough(np.array([len(hidden.before) for hidden in blocks]))
    cases = [gap_fills.prepare(train, hidden) for hidden, has in zip(blocks, counted, strict=True) if has]
    if not cases:
        return None

    def loss(values: Values) -> float:
        physics = _with_values(config, values)
        return float(np.mean([np.log(np.mean(gap_fills.smoother_crps(train, case, physics))) for case in cases]))

    found, least, tries = search(loss, {name: getattr(config, name) for name in PHYSICS})
    return _with_values(config, found), {**found, "log_crps": least, "tries": tries}


def search(loss: Callable[[Values], float], start: Mapping[str, float]) -> tuple[Values, float, int]:
    """Returns the values that no single step up or down improves, their loss, and the number of tries."""
    best, tries = dict(start), 1
    least = loss(best)
    for factor in FACTORS:
        improved = True
        while improved:
            improved = False
            for name in start:
                for step in (factor, 1 / factor):
                    there = best | {name: float(np.clip(best[name] * step, SMALLEST, LARGEST))}
                    found = loss(there)
                    tries += 1
                    if found < least - 1e-4:  # a ten-thousandth of the CRPS is not worth another round
                        best, least, improved = there, found, True
                        break
    return best, least, tries


def _search_all(loss: Callable[[Values], float], *starts: Mapping[str, float]) -> tuple[Values, float, int]:
    """Returns the best result of the searches from each of the starts, and the total number of tries."""
    found = [search(loss, start) for start in starts]
    values, least, _ = min(found, key=lambda one: one[1])
    return values, least, sum(tries for *_, tries in found)


def _has_enough(count: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns which horizons or lengths are fitted to, given the cases of each: those with FEW, or with as many as any
    has.
    """
    return np.asarray((count > 0) & (count >= min(FEW, count.max())))


def _with_values(config: ModelConfig, values: Values) -> ModelConfig:
    return replace(
        config,
        damping_s=values["damping_s"],
        accel_psd=values["accel_psd"],
        fix_sigma_m=values["fix_sigma_m"],
    )


def _loss(follower: Follower, windows: Windows, measure: Callable[[F64, F64], F64]) -> float:
    """Returns the mean over the horizons of the log of the mean of `measure`: an improvement of a tenth has the same
    weight at 2 s and at 15 min.
    """
    state = follower.fresh(len(windows.dt_s))
    for step in range(windows.dt_s.shape[1]):
        folded = follower.fold(state, windows.dt_s[:, step], windows.d_en[:, step])
        state = np.where(windows.known[:, step, None], folded, state)
    (answer,) = follower.after(state, windows.asked_s).values()
    error = windows.truth_en - answer.mean_en
    columns = np.flatnonzero(windows.has_truth.any(axis=0))
    means = [
        measure(error[has, column], answer.cov_m2[has, column]).mean()
        for column in columns
        for has in (windows.has_truth[:, column],)
    ]
    return float(np.mean(np.log(np.maximum(means, LEAST_M))))


def _error_m(error_en_m: F64, cov_m2: F64) -> F64:
    return np.asarray(np.hypot(error_en_m[:, 0], error_en_m[:, 1]))


def _rescale(values: Values, fix_sigma_m: float) -> Values:
    """Returns the same physics with another noise of fixes, and noise of accelerations in proportion: its means are the
    same, once a few fixes are known.
    """
    by = (fix_sigma_m / values["fix_sigma_m"]) ** 2
    return values | {"accel_psd": values["accel_psd"] * by, "fix_sigma_m": fix_sigma_m}


def _windows(corpus: Corpus, most: int) -> Windows:
    anchors = anchoring.find_anchors(corpus)
    if not len(anchors.row):
        raise ValueError("no track of the train split is long enough to fit to")
    few = even_indices(len(anchors.row), most)
    row, track, target, asked_s = anchors.row[few], anchors.track[few], anchors.target[few], anchors.dt_s[few]
    rows = row[:, None] - np.arange(HISTORY, -1, -1)
    first = corpus.tracks[track, 0][:, None]
    fixes = corpus.fixes(np.maximum(rows, first))
    dt_s, d_en = steps_between(fixes[:, :-1], fixes[:, 1:])
    known = rows[:, :-1] >= first
    has = target >= 0
    has &= _has_enough(has.sum(axis=0))
    at = np.broadcast_to(corpus.fixes(row)[:, None], target.shape)
    _, truth = steps_between(at, corpus.fixes(np.where(has, target, row[:, None])))
    return Windows(np.where(known, dt_s, 1.0), d_en, known, asked_s, truth, has)
