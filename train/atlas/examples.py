"""Makes examples of what an atlas is worth: forecasts of a model, what the fleet had shown in the hours before
(`train.data.snapshots`), and where the thing then was.

Shapes: A anchors, H questions of each, K examples, F features, L levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import Predictor
from model.atlas import head
from model.atlas.atlas import Span
from model.atlas.cells import Keys
from model.atlas.days import DAY_MS
from model.atlas.published import MIN_ENTITIES
from model.atlas.sums import buckets, entity_ids
from model.kinematics.geo import F64, displacement_m
from train.data.anchors import Anchors
from train.data.corpus import Corpus
from train.data.snapshots import HOUR_MS, I64, Snapshot, keys_at, snapshots
from train.evaluation import forecasts
from train.evaluation.atlas import PHYSICS, means_m, variances
from train.evaluation.forecasts import Sample
from train.evaluation.rollout import MODEL, Answers

# Versions answer for an hour, and once more for a day: where a maker is down, or nobody drives, they grow old.
EVERY_MS: Final = (HOUR_MS, DAY_MS)
# Of the rows, that are not told what their own entity did (nor those of its bucket): else a fleet of few would teach
# that an atlas knows one's own ways. The others are as in serving.
WITHOUT_OWN: Final = 0.5

F32 = NDArray[np.float32]


class Examples(NamedTuple):
    """K questions about which an atlas knew something."""

    features: F32  # [K, F], and the next three: see `model.atlas.head.Inputs`
    apart_m: F32  # [K, L, 2]
    share: F32  # [K]
    log_width: F32  # [K]
    off_m: F32  # [K, 2] from where it was to where the model forecast it
    cov_m2: F32  # [K, 3] of the model's forecast
    usual_m: F32  # [K] mean distance of damped velocity in this file and at this horizon
    weight: F64  # [K]: each horizon of a file has the same

    def at(self, rows: NDArray[Any]) -> Examples:
        return Examples(*(column[rows] for column in self))


def of_sample(
    sample: Sample,
    predictor: Predictor,
    *,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Examples:
    """Returns the examples of a sample that has its fleet, of versions that answer for each of EVERY_MS. By the seed it
    is drawn which rows are not told of their own entity. `progress` is told the share that is done.
    """
    assert sample.fleet is not None  # set by open_samples
    judged = forecasts.answers_of(sample, predictor)
    corpus, anchors, model = sample.corpus, judged.anchors, judged.answers[MODEL]
    assert judged.kin is not None
    last = corpus.fixes(anchors.row)
    mean, var = means_m(last, model), variances(model)
    off, usual = _offs_m(corpus, anchors, model, last), _usual_m(corpus, anchors, judged.answers[PHYSICS], last)
    asked, ts_ms = keys_at(corpus, anchors.row), corpus.ts_ms[anchors.row]
    own = buckets(entity_ids(corpus.names))[corpus.entity[anchors.track]]
    parts = []
    for now in _versions(sample.fleet, asked, ts_ms, own, seed, progress):
        rows = now.rows
        version = head.version_features(Span.of(now.contains), ts_ms[rows])
        question = judged.kin[rows], anchors.dt_s[rows], mean[rows], var[rows]
        found = head.inputs(now.published, asked[rows], version, *question)
        chosen = (found.share > 0) & (anchors.target[rows] >= 0)
        row, column = rows[np.nonzero(chosen)[0]], np.nonzero(chosen)[1]
        weight = 1 / np.bincount(np.nonzero(anchors.target >= 0)[1], minlength=anchors.target.shape[1])[column]
        inputs = found.features, found.apart_m, found.share, found.log_width
        rest = off[row, column], _cov(model)[row, column], usual[column]
        parts.append([*(part[chosen] for part in inputs), *rest, weight])
    *columns, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Examples._make([*(column.astype(np.float32) for column in columns), weight])


def _versions(
    fleet: Corpus,
    asked: Keys,
    ts_ms: I64,
    own: I64,
    seed: int,
    progress: Callable[[float], None],
) -> Iterator[Snapshot]:
    rng = np.random.default_rng([0x61746C61, seed])
    for number, each_ms in enumerate(EVERY_MS):
        yield from snapshots(
            fleet,
            asked,
            ts_ms,
            every_ms=each_ms,
            min_entities=MIN_ENTITIES,
            without=np.where(rng.random(len(own)) < WITHOUT_OWN, own, -1),
            progress=lambda share, number=number: progress((number + share) / len(EVERY_MS)),  # type: ignore[misc]
        )


def _offs_m(corpus: Corpus, anchors: Anchors, answers: Answers, last: NDArray[Any]) -> F64:
    """Returns how far answers are from where it was (A, H, 2); what has no target means nothing."""
    there = corpus.fixes(np.maximum(anchors.target, 0).reshape(-1)).reshape(anchors.target.shape)
    was = displacement_m(last["lat_e7"][:, None], last["lon_e7"][:, None], there["lat_e7"], there["lon_e7"])
    return means_m(last, answers) - was


def _usual_m(corpus: Corpus, anchors: Anchors, physics: Answers, last: NDArray[Any]) -> F64:
    """Returns the mean distance (H,) of damped velocity; 0 where no anchor has a target."""
    far = np.hypot(*np.moveaxis(_offs_m(corpus, anchors, physics, last), -1, 0))
    there = anchors.target >= 0
    return np.asarray(np.where(there, far, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1))


def _cov(answers: Answers) -> F64:
    assert answers.cov_m2 is not None  # a model has covariances
    return answers.cov_m2
