"""Judges an atlas as it lives (`train.data.snapshots`): damped velocity and a model, each moved to where passages went
that came the same way, and a model's gap fills along passages. All tracks of a file are its fleet, also those that are
not judged.

Letters: A anchors, H questions per anchor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import Approach, Fill, Gap, Guide, Moment, Predictor
from model.atlas.branching import Branches
from model.kinematics.geo import E7, F64, M_PER_DEG, cos_lat, displacement_m, haversine_m, move_deg
from model.serving.passages.asking_compiled import move
from train.data.anchors import HORIZONS_S, Anchors
from train.data.corpus import Corpus
from train.data.snapshots import HOUR_MS, Snapshot, count_history_h, find_approaches, grow_versions
from train.evaluation.rollout import Answers

ATLAS: Final = "atlas"
BESIDE: Final = "model_and_atlas"
PHYSICS: Final = "damped_velocity"
# Bounds of the hours of history by which the learning curve is shown.
HISTORY_H: Final = (0, 1, 2, 4, 8, 24, 72, 168)
I64 = NDArray[np.int64]


class AtlasForecasts(NamedTuple):
    """The forecasts of an atlas that grew while the anchors came."""

    answers: Answers
    beside: Answers | None  # the model's, as the atlas moves them; None without a model
    history_h: I64  # (A,) hours with pings of the fleet that the atlas of the anchor knows
    parted: Branches  # of the anchors, at their targets without the next ping


def forecast_with_atlas(
    fleet: Corpus,
    corpus: Corpus,
    anchors: Anchors,
    given: Answers,
    model: Answers | None = None,
    **how: Any,
) -> AtlasForecasts:
    """Returns what an atlas of `fleet` answers at the anchors of `corpus`, whose tracks are some of the fleet's.

    Args:
        given: the answers that it moves, with covariances: of damped velocity, or another.
        model: those of a model, which are moved, too.
        how: as of `grow_versions`.
    """
    ts_ms = corpus.ts_ms[anchors.row]
    approach = find_approaches(corpus, anchors.row, anchors.track)
    moved = [_MovedForecasts(corpus, anchors, approach, one) for one in (given, model) if one is not None]
    for now in grow_versions(fleet, ts_ms, **how):
        for one in moved:
            one.by(now)
    answers, *beside = (one.answers() for one in moved)
    known_h = count_history_h(fleet, ts_ms, how.get("every_ms", HOUR_MS))
    return AtlasForecasts(answers, beside[0] if beside else None, known_h, moved[-1].parted)


def fill_with_atlas(fleet: Corpus, gaps: Sequence[Gap], moment: Moment, predictor: Predictor, **how: Any) -> list[Fill]:
    """Returns how the predictor fills gaps (G,) at moments (G,) of its states, along passages of an atlas of `fleet`. A
    gap asks the version of the last ping before it, since a later one may know the hidden pings. `how` is as of
    `grow_versions`.
    """
    ts_ms = np.array([gap.before["ts_ms"][-1] for gap in gaps], np.int64)
    found: dict[int, Fill] = {}
    for now in grow_versions(fleet, ts_ms, **how):
        rows = now.rows.tolist()
        guide = Guide([now.atlas], np.zeros(len(rows), np.int64), Approach.none(0))
        fills = predictor.fill_at(moment.at(now.rows), [gaps[row] for row in rows], guide)
        found.update(zip(rows, fills, strict=True))
    return [found[row] for row in range(len(gaps))]


class _MovedForecasts:
    """Forecasts that versions of an atlas move one after the other."""

    def __init__(self, corpus: Corpus, anchors: Anchors, approach: Approach, given: Answers) -> None:
        assert given.cov_m2 is not None
        self._given, self._dt_s, self._last = given, anchors.dt_s, corpus.fixes(anchors.row)
        self._approach = approach
        self._mean, self._cov = means_m(self._last, given), given.cov_m2.copy()
        self._rests_on = np.zeros(len(self._last), np.int64)
        self.parted = Branches.none(len(self._last), self._dt_s.shape[1] - 1)

    def by(self, now: Snapshot) -> None:
        rows = now.rows
        mean, cov, which = self._mean[rows], self._cov[rows], np.zeros(len(rows), np.int64)
        asked = self._last[rows], self._dt_s[rows], [now.atlas], which, self._approach.at(rows)
        self._rests_on[rows], (self.parted.share[rows], self.parted.mean_m[rows]) = move(mean, cov, which == 0, *asked)
        self._mean[rows], self._cov[rows] = mean, cov

    def answers(self) -> Answers:
        lat, lon = move_deg(self._last["lat_e7"][:, None] / E7, self._last["lon_e7"][:, None] / E7, self._mean)
        moved, given = (self._rests_on > 0)[:, None], self._given  # the others keep their last bit
        return Answers(np.where(moved, lat, given.lat), np.where(moved, lon, given.lon), self._cov)


def means_m(last: NDArray[Any], answers: Answers) -> F64:
    """Returns the means of answers in metres from the last fixes, FIX (A,): (A, H, 2)."""
    lat, lon = last["lat_e7"][:, None] / E7, last["lon_e7"][:, None] / E7
    apart = (answers.lon - lon + 180.0) % 360.0 - 180.0  # by the shorter way across the antimeridian
    return np.stack([apart * M_PER_DEG * cos_lat(lat), (answers.lat - lat) * M_PER_DEG], axis=-1)


def distances_m(corpus: Corpus, anchors: Anchors, answer: Answers, column: int) -> F64:
    """Returns the errors (A,) of one predictor and horizon; NaN where an anchor has no target."""
    target = anchors.target[:, column]
    off_m = haversine_m(corpus.lat[target], corpus.lon[target], answer.lat[:, column], answer.lon[:, column])
    return np.where(target >= 0, off_m, np.nan)


def learning_curve(history_h: I64, errors_m: Mapping[str, F64], inside_90: F64 | None = None) -> list[dict[str, Any]]:
    """Returns the mean errors by hours of history: a row for each span of HISTORY_H that has anchors.

    `errors_m` are those of each predictor (A,), NaN where an anchor has no target; `inside_90` (A,) has 1 where the
    thing was inside the 90 % region of the first one, of which each row has the share.
    """
    bounds = [*HISTORY_H, int(history_h.max(initial=0)) + 1]
    rows = []
    for low, high in pairwise(bounds):
        chosen = (history_h >= low) & (history_h < high)
        count = int(np.isfinite(next(iter(errors_m.values()))[chosen]).sum())
        if count:
            means = {name: float(np.nanmean(errors[chosen])) for name, errors in errors_m.items()}
            held = {} if inside_90 is None else {"inside_90": float(np.nanmean(inside_90[chosen]))}
            rows.append({"from_h": low, "to_h": high, "anchors": count, "mean_m": means, **held})
    return rows


def judge_branches(corpus: Corpus, anchors: Anchors, parted: Branches, errors_m: F64) -> list[dict[str, Any]]:
    """Returns a row for each horizon at which some anchors have branches: how many of the judged, the mean errors there
    of the forecast, of the likeliest branch and of the nearest one, the mean share of the likeliest, and in which share
    of the cases it was the nearest.

    Args:
        parted: of the anchors (A, M), at their targets.
        errors_m: (A, H) of the forecasts; NaN where an anchor has no target.
    """
    rows = []
    for column, horizon_s in enumerate(HORIZONS_S):
        known = np.isfinite(errors_m[:, column])
        chosen = np.flatnonzero(known & np.isfinite(parted.mean_m[:, 0, column, 0]))
        if not len(chosen):
            continue
        target, here = anchors.target[chosen, column + 1], corpus.fixes(anchors.row[chosen])
        there = corpus.fixes(target)
        went_m = displacement_m(here["lat_e7"], here["lon_e7"], there["lat_e7"], there["lon_e7"])
        off_m = np.hypot(*np.moveaxis(parted.mean_m[chosen, :, column] - went_m[:, None], -1, 0))
        nearest = np.nanargmin(off_m, axis=1)
        rows.append(
            {
                "horizon_s": horizon_s,
                "anchors": len(chosen),
                "of": int(known.sum()),
                "forecast_m": float(errors_m[chosen, column].mean()),
                "likeliest_m": float(off_m[:, 0].mean()),
                "nearest_m": float(np.nanmin(off_m, axis=1).mean()),
                "share": float(parted.share[chosen, 0].mean()),
                "went": float((nearest == 0).mean()),
            }
        )
    return rows
