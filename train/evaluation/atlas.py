"""Judges an atlas as it lives: the pings of a file are walked in the order of their times, an atlas grows from the
outcomes that are known by then, and from each full hour on a new one answers.

Its forecasts are those of damped velocity, moved by what became of earlier pings here. No weights are needed. All
tracks of a file are its fleet, also those that are not judged.

Letters: A anchors, H questions per anchor, M pings with an outcome, L levels of cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas import estimate, outcomes, sums
from model.atlas.cells import Keys, keys
from model.atlas.days import by_day
from model.atlas.outcomes import NEVER, Outcomes
from model.atlas.published import MIN_ENTITIES, published, weights
from model.atlas.sums import Sums
from model.kinematics.geo import F64, haversine_m, moved_deg
from train.data.anchors import Anchors
from train.data.corpus import Corpus
from train.evaluation.rollout import Answers

ATLAS: Final = "atlas"
BESIDE: Final = "model_and_atlas"
PHYSICS: Final = "damped_velocity"
HOUR_MS: Final = 3_600_000
# Bounds of the hours of history by which the learning curve is shown.
HISTORY_H: Final = (0, 1, 2, 4, 8, 24, 72, 168)
I64 = NDArray[np.int64]


class Grown(NamedTuple):
    """The forecasts of an atlas that grew while the anchors came."""

    answers: Answers
    beside: Answers | None  # the mean of these and of the model's, weighted by their variances; None without a model
    history_h: I64  # (A,) hours with pings of the fleet that the atlas of the anchor knows
    keys: int  # with sums, at the end


class _Fleet(NamedTuple):
    """All outcomes of a file, in the order in which they become known."""

    found: Outcomes
    counts: NDArray[np.bool_]  # (M, L)
    ids: sums.Ids  # (M,) of the entities
    ts_ms: I64  # (M,) of the pings
    order: I64  # indices of known_ms, flattened
    known_ms: I64  # of these


def grown(
    fleet: Corpus,
    corpus: Corpus,
    anchors: Anchors,
    physics: Answers,
    model: Answers | None = None,
    *,
    every_ms: int = HOUR_MS,
    min_entities: int = MIN_ENTITIES,
    progress: Callable[[float], None] = lambda share: None,
) -> Grown:
    """Returns what an atlas of `fleet` answers at the anchors of `corpus`, whose tracks are some of the fleet's.

    Args:
        physics: the answers of damped velocity, with covariances.
        model: the answers of a model, with covariances.
        every_ms: a new atlas answers from each multiple of this time on.
        min_entities: that a key must have been counted for (`published`).
    """
    known = _fleet(fleet)
    asked = _asked(corpus, anchors)
    at = corpus.ts_ms[anchors.row] // every_ms
    order = np.argsort(at, kind="stable")
    in_order = at[order]
    model_var = None if model is None else _variance(model)
    off, var = np.zeros((*anchors.dt_s.shape, 2)), _variance(physics)
    share, both = np.zeros_like(var), np.zeros_like(var)
    days: dict[int, Sums] = {}
    taken = 0
    times = np.unique(np.concatenate([at, known.known_ms // every_ms + 1]))
    for number, now in enumerate(times):
        upto = int(np.searchsorted(known.known_ms, now * every_ms))
        for day, more in _sums(known, known.order[taken:upto]):
            days[day] = days.get(day, Sums.none()).plus(more)
        taken = upto
        rows = order[slice(*np.searchsorted(in_order, [now, now + 1]))]
        if len(rows):
            here = np.unique(asked[rows])  # no other key says anything about these
            known_here = ((days[day].under(here), of_day) for day, of_day in weights(days, days).items())
            now_says = published(known_here, min_entities)
            found = estimate.read(now_says, asked[rows], anchors.dt_s[rows], var[rows])
            off[rows], var[rows] = found.off_m, found.var_m2
            if model_var is not None:
                share[rows], both[rows] = estimate.share(found, model_var[rows])
        progress((number + 1) / len(times))
    hours = np.unique(fleet.ts_ms[_rows(fleet)] // HOUR_MS)
    history = np.searchsorted(hours, at * every_ms // HOUR_MS)
    lat, lon = moved_deg(physics.lat, physics.lon, off)
    zero = np.zeros_like(var)
    answers = Answers(lat, lon, np.stack([var, zero, var], axis=-1))
    beside = None if model is None else _between(model, answers, share, both)
    return Grown(answers, beside, history, _keys(days))


def _variance(answers: Answers) -> F64:
    """Returns the variances per axis (A, H)."""
    assert answers.cov_m2 is not None  # physics and models have covariances
    return np.asarray(answers.cov_m2[..., [0, 2]].mean(-1))


def _between(model: Answers, other: Answers, share: F64, var_m2: F64) -> Answers:
    """Returns the answers between the model's and others, which have this share (A, H), with the variances var_m2
    (A, H) and the shape of the model's covariances.
    """
    assert model.cov_m2 is not None
    apart = (other.lon - model.lon + 180.0) % 360.0 - 180.0  # by the shorter way across the antimeridian
    lat, lon = model.lat + share * (other.lat - model.lat), (model.lon + share * apart + 180.0) % 360.0 - 180.0
    return Answers(lat, lon, model.cov_m2 * (var_m2 / _variance(model))[..., None])


def _rows(corpus: Corpus) -> I64:
    return np.concatenate([np.arange(first, stop) for first, stop in corpus.tracks])


def _fleet(fleet: Corpus) -> _Fleet:
    length = fleet.tracks[:, 1] - fleet.tracks[:, 0]
    rows = _rows(fleet)
    fixes = fleet.fixes(rows)
    found = outcomes.of_tracks(fixes, np.cumsum(length) - length)
    entity = np.repeat(fleet.entity, length)[found.row]
    counts = sums.counted(entity, found.key, fixes["ts_ms"][found.row])
    known_ms = found.known_ms.reshape(-1)
    order = np.argsort(known_ms, kind="stable")
    order = order[: int(np.searchsorted(known_ms[order], NEVER))]
    ids, ts_ms = sums.entity_ids(fleet.names)[entity], fixes["ts_ms"][found.row]
    return _Fleet(found, counts, ids, ts_ms, order, known_ms[order])


def _sums(fleet: _Fleet, which: I64) -> Iterator[tuple[int, Sums]]:
    """Yields by day the sums of the outcomes with these indices."""
    row, horizon = np.divmod(which, fleet.found.known_ms.shape[1])
    for day, at in by_day(fleet.ts_ms[row]):
        yield day, Sums.of_outcomes(fleet.found, fleet.counts, fleet.ids, row[at], horizon[at])


def _keys(days: Mapping[int, Sums]) -> int:
    return len(np.unique(np.concatenate([sums.keys_of(seen.row) for seen in [Sums.none(), *days.values()]])))


def _asked(corpus: Corpus, anchors: Anchors) -> Keys:
    """Returns the keys (A, L) of the anchors."""
    fixes = corpus.fixes(anchors.row)
    velocity = outcomes.velocities(fixes, corpus.fixes(anchors.row - 1))
    return keys(fixes["lat_e7"], fixes["lon_e7"], velocity)


def distances_m(corpus: Corpus, anchors: Anchors, answer: Answers, column: int) -> F64:
    """Returns the errors (A,) of one predictor and horizon; NaN where an anchor has no target."""
    target = anchors.target[:, column]
    off_m = haversine_m(corpus.lat[target], corpus.lon[target], answer.lat[:, column], answer.lon[:, column])
    return np.where(target >= 0, off_m, np.nan)


def learning_curve(history_h: I64, errors_m: Mapping[str, F64]) -> list[dict[str, Any]]:
    """Returns the mean errors by hours of history: a row for each span of HISTORY_H that has anchors.

    `errors_m` are those of each predictor (A,), NaN where an anchor has no target.
    """
    bounds = [*HISTORY_H, int(history_h.max(initial=0)) + 1]
    rows = []
    for low, high in pairwise(bounds):
        chosen = (history_h >= low) & (history_h < high)
        count = int(np.isfinite(next(iter(errors_m.values()))[chosen]).sum())
        if count:
            means = {name: float(np.nanmean(errors[chosen])) for name, errors in errors_m.items()}
            rows.append({"from_h": low, "to_h": high, "anchors": count, "mean_m": means})
    return rows
