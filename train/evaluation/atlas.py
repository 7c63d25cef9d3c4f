"""Judges an atlas as it lives (`train.data.snapshots`): alone, as damped velocity moved by what became of earlier pings
here, as a model reads it, and as it bends a model's gap fills. All tracks of a file are its fleet, also those that are
not judged.

Letters: A anchors, H questions per anchor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import Atlas, Fill, Gap, Guide, Moment, Predictor
from model.atlas import bend, estimate
from model.atlas.published import MIN_ENTITIES
from model.kinematics.geo import E7, F64, M_PER_DEG, cos_lat, haversine_m, moved_deg
from model.serving import atlas_compiled
from model.serving.gaps import stack
from train.data.anchors import Anchors
from train.data.corpus import Corpus
from train.data.snapshots import HOUR_MS, Snapshot, history_h, keys_at, snapshots
from train.evaluation.rollout import Answers

ATLAS: Final = "atlas"
BESIDE: Final = "model_and_atlas"
PHYSICS: Final = "damped_velocity"
# Bounds of the hours of history by which the learning curve is shown.
HISTORY_H: Final = (0, 1, 2, 4, 8, 24, 72, 168)
I64 = NDArray[np.int64]


class Model(NamedTuple):
    """What a model answered at the anchors, and what it reads an atlas with."""

    answers: Answers
    kin: F64  # (A, K) its states
    head: atlas_compiled.Weights


class Grown(NamedTuple):
    """The forecasts of an atlas that grew while the anchors came."""

    answers: Answers
    beside: Answers | None  # the model's, as the atlas moves them; None without a model
    history_h: I64  # (A,) hours with pings of the fleet that the atlas of the anchor knows


def grown(
    fleet: Corpus,
    corpus: Corpus,
    anchors: Anchors,
    physics: Answers,
    model: Model | None = None,
    *,
    every_ms: int = HOUR_MS,
    min_entities: int = MIN_ENTITIES,
    progress: Callable[[float], None] = lambda share: None,
) -> Grown:
    """Returns what an atlas of `fleet` answers at the anchors of `corpus`, whose tracks are some of the fleet's.

    Args:
        physics: the answers of damped velocity, with covariances.
        every_ms, min_entities: see `snapshots`.
    """
    asked, ts_ms = keys_at(corpus, anchors.row), corpus.ts_ms[anchors.row]
    off, var = np.zeros((*anchors.dt_s.shape, 2)), variances(physics)
    moved = None if model is None else _Moved(corpus, anchors, model)
    how: dict[str, Any] = {"every_ms": every_ms, "min_entities": min_entities, "progress": progress}
    for now in snapshots(fleet, asked, ts_ms, **how):
        rows = now.rows
        found = estimate.read(now.published, asked[rows], anchors.dt_s[rows], var[rows])
        off[rows], var[rows] = found.off_m, found.var_m2
        if moved is not None:
            moved.by(now)
    lat, lon = moved_deg(physics.lat, physics.lon, off)
    zero = np.zeros_like(var)
    answers = Answers(lat, lon, np.stack([var, zero, var], axis=-1))
    return Grown(answers, None if moved is None else moved.answers(), history_h(fleet, ts_ms, every_ms))


def grown_fills(
    fleet: Corpus,
    gaps: Sequence[Gap],
    moment: Moment,
    predictor: Predictor,
    *,
    every_ms: int = HOUR_MS,
    min_entities: int = MIN_ENTITIES,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Fill]:
    """Returns how the predictor fills gaps (G,) at moments (G,) of its states, as an atlas of `fleet` bends them. A gap
    asks the version of the last ping before it, since a later one may know the hidden pings.

    Args:
        every_ms, min_entities: see `snapshots`.
    """
    batch = stack(gaps)
    asked = bend.starts(batch.before, batch.before_stop).key
    ts_ms = batch.before["ts_ms"][batch.before_stop - 1]
    found: dict[int, Fill] = {}
    for now in snapshots(fleet, asked, ts_ms, every_ms=every_ms, min_entities=min_entities, progress=progress):
        atlas, rows = Atlas(now.published, now.contains, ""), now.rows.tolist()
        guide = Guide([atlas], np.zeros(len(rows), np.int64))
        fills = predictor.fill_at(moment.at(now.rows), [gaps[row] for row in rows], guide)
        found.update(zip(rows, fills, strict=True))
    return [found[row] for row in range(len(gaps))]


class _Moved:
    """The forecasts of a model, which versions of an atlas move one after the other."""

    def __init__(self, corpus: Corpus, anchors: Anchors, model: Model) -> None:
        assert model.answers.cov_m2 is not None
        self._model, self._dt_s, self._last = model, anchors.dt_s, corpus.fixes(anchors.row)
        self._mean, self._cov = means_m(self._last, model.answers), model.answers.cov_m2.copy()
        self._rests_on = np.zeros(len(self._last), np.int64)

    def by(self, now: Snapshot) -> None:
        rows = now.rows
        mean, cov, none = self._mean[rows], self._cov[rows], np.zeros(len(rows), np.int64)
        question = self._model.kin[rows], self._last[rows], self._dt_s[rows]
        atlas = Atlas(now.published, now.contains, "")
        self._rests_on[rows] = atlas_compiled.move(mean, cov, none == 0, *question, [atlas], none, self._model.head)
        self._mean[rows], self._cov[rows] = mean, cov

    def answers(self) -> Answers:
        lat, lon = moved_deg(self._last["lat_e7"][:, None] / E7, self._last["lon_e7"][:, None] / E7, self._mean)
        moved, model = (self._rests_on > 0)[:, None], self._model.answers  # the others keep their last bit
        return Answers(np.where(moved, lat, model.lat), np.where(moved, lon, model.lon), self._cov)


def means_m(last: NDArray[Any], answers: Answers) -> F64:
    """Returns the means of answers in metres from the last fixes, FIX (A,): (A, H, 2)."""
    lat, lon = last["lat_e7"][:, None] / E7, last["lon_e7"][:, None] / E7
    apart = (answers.lon - lon + 180.0) % 360.0 - 180.0  # by the shorter way across the antimeridian
    return np.stack([apart * M_PER_DEG * cos_lat(lat), (answers.lat - lat) * M_PER_DEG], axis=-1)


def variances(answers: Answers) -> F64:
    """Returns the variances per axis (A, H)."""
    assert answers.cov_m2 is not None  # physics and models have covariances
    return np.asarray(answers.cov_m2[..., [0, 2]].mean(-1))


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
