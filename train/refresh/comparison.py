"""Compares champion and challenger on the same forecasts, by file, stratum and horizon.

Letters: A anchors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from model.api import Predictor
from train.data import anchors as anchoring
from train.data.anchors import HORIZONS_S, Anchors
from train.data.corpus import Corpus
from train.evaluation import atlas
from train.evaluation.forecasts import Sample, measure_column
from train.evaluation.metrics import Cases, compare_pairs, coverage
from train.evaluation.rollout import MODEL, Answers, roll_along
from train.refresh.decision import ALL, Comparison

Progress = Callable[[float], None]
HORIZONS = ("next", *(f"{horizon:g}" for horizon in HORIZONS_S))
NO_MODE = -1


def compare(
    samples: Sequence[Sample],
    champion: Predictor,
    challenger: Predictor,
    *,
    atlas_ms: int | None = None,
    progress: Progress = lambda share: None,
) -> list[Comparison]:
    """Returns the comparisons of all strata of all samples.

    With `atlas_ms` both are judged as they forecast beside an atlas of the sample's fleet, with a new version each
    so many milliseconds. Raises ValueError for answers that are not finite.
    """
    found: list[Comparison] = []
    for number, sample in enumerate(samples):
        anchors = anchoring.find_anchors(sample.corpus)
        both = [_answers(sample, anchors, one, atlas_ms) for one in (champion, challenger)]
        file = sample.file if atlas_ms is None else f"{sample.file} beside its atlas"
        found += compare_answers(file, sample.corpus, anchors, *both)
        progress((number + 1) / len(samples))
    return found


def compare_answers(
    file: str, corpus: Corpus, anchors: Anchors, champion: Answers, challenger: Answers
) -> Iterator[Comparison]:
    """Yields the comparisons of two predictors' answers at the anchors (A,) of a file."""
    masks = build_strata(corpus, anchors)
    for column, horizon in enumerate(HORIZONS):
        asked = np.flatnonzero(anchors.target[:, column] >= 0)
        if len(asked) == 0:
            continue
        entity = corpus.entity[anchors.track[asked]]
        cases = [measure_column(corpus, anchors, one, column, asked) for one in (champion, challenger)]
        for stratum, mask in masks.items():
            if (chosen := mask[asked]).any():
                old, new = (one.select(chosen) for one in cases)
                yield _compare_stratum(file, stratum, horizon, old, new, entity[chosen])


def build_strata(corpus: Corpus, anchors: Anchors) -> dict[str, NDArray[np.bool_]]:
    """Returns the masks (A,) of all anchors, of kinds of travel where there are several, of cadences and of motion."""
    mode = corpus.mode[anchors.track]
    kinds = [code for code in np.unique(mode) if code != NO_MODE]
    modes = {corpus.modes[code]: mode == code for code in kinds} if len(np.unique(mode)) > 1 else {}
    every = {ALL: np.ones(len(anchors.row), np.bool_)}
    return every | modes | anchoring.cadence_strata(corpus, anchors) | anchoring.motion_strata(corpus, anchors)


def _compare_stratum(
    file: str, stratum: str, horizon: str, champion: Cases, challenger: Cases, entity: NDArray[np.integer]
) -> Comparison:
    apart = compare_pairs(challenger.distance_m, champion.distance_m, entity)
    return Comparison(
        file,
        stratum,
        horizon,
        len(entity),
        len(np.unique(entity)),
        float(champion.distance_m.mean()),
        float(challenger.distance_m.mean()),
        apart.low_m,
        apart.high_m,
        *(float(_require_values(one.energy_m).mean()) for one in (champion, challenger)),
        *(coverage(_require_values(one.surprise), share) for one in (champion, challenger) for share in (0.5, 0.9)),
    )


def _require_values(values: NDArray[np.float64] | None) -> NDArray[np.float64]:
    assert values is not None  # models answer with covariances
    return values


def _answers(sample: Sample, anchors: Anchors, predictor: Predictor, atlas_ms: int | None) -> Answers:
    walked = roll_along(sample.corpus, anchors, [], predictor)
    answers = walked.answers[MODEL]
    if walked.fallbacks:
        raise ValueError(f"{walked.fallbacks:,} answers of {predictor.name} on {sample.file} are not finite numbers")
    if atlas_ms is None:
        return answers
    assert sample.fleet is not None
    return atlas.forecast_with_atlas(
        sample.fleet, sample.corpus, anchors, answers, every_ms=atlas_ms, predictor=predictor
    ).answers
