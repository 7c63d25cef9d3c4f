"""Gradient-boosted trees on the last steps: the baseline that a network has to beat to be worth its cost.

Their inputs are the last six steps and the horizon; they get no older steps, no time of day, and no reported speed or
course, which a network gets. LightGBM comes with the extra `trees` and is imported only when trees are requested. There
is one pair of models (along and across the last heading) per horizon, with L1 loss; with `absolute` they also get
position and heading, and are useful only in their region.

Letters: A anchors, S = 6 steps, H = 1 + horizons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from model.kinematics.features import steps_between
from model.kinematics.geo import F64, move_deg
from train.data import anchors as anchoring
from train.data.anchors import Anchors
from train.data.corpus import Corpus, even_indices
from train.evaluation.rollout import Answers

TREES: Final = "trees"
STEPS: Final = 6
ROWS: Final = 400_000  # anchors to train on; more improve little and cost minutes
ROUNDS: Final = 250
MIN_STEP_M: Final = 1.0  # a shorter step has no heading, and an earlier one is used
PARAMS: Final = {
    "objective": "l1",
    "num_leaves": 255,
    "learning_rate": 0.06,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.9,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 0,
    "verbosity": -1,
}


@dataclass(frozen=True)
class Trees:
    """One pair of boosters per horizon; None where no training track reaches so far."""

    pairs: tuple[tuple[Any, Any] | None, ...]
    absolute: bool

    def answers(self, corpus: Corpus, anchors: Anchors) -> Answers:
        """Returns point forecasts. Raises ValueError for a horizon without trained boosters."""
        past, unit = _past(corpus, anchors, self.absolute)
        lat, lon = np.empty(anchors.dt_s.shape), np.empty(anchors.dt_s.shape)
        at = np.asarray(corpus.lat[anchors.row]), np.asarray(corpus.lon[anchors.row])
        for column, pair in enumerate(self.pairs):
            frame = np.zeros((len(unit), 2))
            if pair is not None:
                inputs = _inputs(past, anchors.dt_s[:, column])
                frame = np.stack([booster.predict(inputs) for booster in pair], axis=-1)
            elif (anchors.target[:, column] >= 0).any():
                raise ValueError(f"trees: no training track reaches horizon {column}")
            lat[:, column], lon[:, column] = move_deg(*at, _to_world(frame, unit))
        return Answers(lat, lon, None)


def train_trees(
    train: Corpus,
    horizons_s: Sequence[float] = anchoring.HORIZONS_S,
    *,
    absolute: bool = False,
    rows: int = ROWS,
    rounds: int = ROUNDS,
) -> Trees:
    """Trains the boosters. Raises ValueError where LightGBM is missing or no track is long enough."""
    boost = require_lightgbm()
    corpus = anchoring.keep_long(train)
    anchors = anchoring.find_anchors(corpus, horizons_s)
    if not len(anchors.row):
        raise ValueError("trees: no track of the train split is long enough to learn from")
    past, unit = _past(corpus, anchors, absolute)
    pairs: list[tuple[Any, Any] | None] = []
    for column in range(anchors.target.shape[1]):
        asked = np.flatnonzero(anchors.target[:, column] >= 0)
        asked = asked[even_indices(len(asked), rows)]
        if not len(asked):
            pairs.append(None)
            continue
        _, truth = steps_between(corpus.fixes(anchors.row[asked]), corpus.fixes(anchors.target[asked, column]))
        inputs, goal = _inputs(past[asked], anchors.dt_s[asked, column]), _to_frame(truth, unit[asked])
        pair = [boost.train(PARAMS, boost.Dataset(inputs, goal[:, axis]), rounds) for axis in (0, 1)]
        pairs.append((pair[0], pair[1]))
    return Trees(tuple(pairs), absolute)


def require_lightgbm() -> Any:
    """Returns LightGBM. Raises ValueError that says what to install."""
    try:
        import lightgbm
    except ImportError as error:
        raise ValueError("trees need LightGBM, which comes with the extra: pip install 'pathcast[trees]'") from error
    return lightgbm


def _past(corpus: Corpus, anchors: Anchors, absolute: bool) -> tuple[F64, F64]:
    """Returns the inputs at the anchors (A, F), and the unit vector (A, 2) of the last heading."""
    fixes = corpus.fixes(anchors.row[:, None] - np.arange(STEPS, -1, -1))
    dt_s, d_en = steps_between(fixes[:, :-1], fixes[:, 1:])
    unit = _heading(d_en)
    along = _to_frame(d_en, unit[:, None])
    speed = np.hypot(d_en[..., 0], d_en[..., 1]) / dt_s
    parts = [along.reshape(len(along), -1), dt_s, speed, (along / dt_s[..., None])[:, -1]]
    if absolute:
        parts += [corpus.lat[anchors.row][:, None], corpus.lon[anchors.row][:, None], unit]
    return np.concatenate(parts, axis=1), unit


def _inputs(past: F64, horizon_s: F64) -> F64:
    return np.concatenate([past, horizon_s[:, None]], axis=1)


def _heading(d_en: F64) -> F64:
    """Returns the unit vector (A, 2) of the newest step of at least MIN_STEP_M; east where there is none."""
    length = np.hypot(d_en[..., 0], d_en[..., 1])
    newest = length.shape[1] - 1 - np.argmax(length[:, ::-1] >= MIN_STEP_M, axis=1)
    rows = np.arange(len(length))
    chosen, size = d_en[rows, newest], length[rows, newest][:, None]
    return np.where(size >= MIN_STEP_M, chosen / np.maximum(size, MIN_STEP_M), np.array([1.0, 0.0]))


def _to_frame(en: F64, unit: F64) -> F64:
    """Turns east and north into along and across (to the left) of the heading."""
    return np.stack(
        [(en * unit).sum(axis=-1), unit[..., 0] * en[..., 1] - unit[..., 1] * en[..., 0]],
        axis=-1,
    )


def _to_world(frame: F64, unit: F64) -> F64:
    along, across = frame[..., :1], frame[..., 1:]
    return np.asarray(along * unit + across * np.stack([-unit[..., 1], unit[..., 0]], axis=-1))
