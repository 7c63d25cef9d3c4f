"""One run of the evaluation: files and options in, a report per file out. Nothing is printed here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from model.api import Predictor
from model.atlas.published import MIN_VEHICLES
from model.config import SMALL, ModelConfig
from model.kinematics.geo import F64
from stream.adapters.sources import Source
from train.data.anchors import HORIZONS_S, Anchors
from train.data.corpus import Corpus, Reading, ignore_progress, load
from train.data.cutting import EVALUATION
from train.evaluation import arrivals, atlas, forecasts, gap_fills
from train.evaluation import plots as picture
from train.evaluation.atlas import judge_branches
from train.evaluation.baselines import fitted_filters, trees
from train.evaluation.forecasts import Progress, Sample, SplitPart
from train.evaluation.metrics import is_inside, mahalanobis2
from train.evaluation.rollout import MODEL, Answers

Report = dict[str, Any]


@dataclass(frozen=True)
class EvaluateOptions:
    part: SplitPart = "test"
    modes: tuple[str, ...] = ()
    most_anchors: int | None = 50_000
    most_gaps: int | None = 5_000
    fit: bool = True
    fit_on: tuple[Path | str | Source, ...] = ()
    trees: bool = False
    trees_absolute: bool = False
    trees_rows: int = 400_000
    atlas_ms: int | None = None  # a new atlas of the fleet answers from each multiple of this time on; None: no atlas
    atlas_of: tuple[Path | str | Source, ...] = ()  # of whose pings it is made; none: of those of the judged file
    min_entities: int = MIN_VEHICLES  # that a key of it must have been counted for
    picture: Path | None = None  # with several files, each has its own (train.evaluation.plots.picture_paths)
    cache: Path | None = None
    reading: Reading = ignore_progress


def open_tasks(
    task: str, files: Sequence[Path | str | Source], predictor: Predictor | None, options: EvaluateOptions
) -> Iterator[tuple[str, Callable[[Progress], Report]]]:
    """Yields each file's name, and the function that evaluates it. All files are opened before the first is evaluated,
    so that an error in one shows at once.

    Raises ValueError for a file that has nothing to evaluate.
    """
    samples = forecasts.open_samples(
        files,
        options.part,
        cache_dir=options.cache,
        most=options.most_anchors,
        modes=options.modes,
        fit_on=options.fit_on,
        reading=options.reading,
    )
    if options.atlas_of:
        fleet = load(options.atlas_of, options.cache, cut=EVALUATION, reading=options.reading)
        samples = [replace(sample, fleet=fleet) for sample in samples]
    drawn: Sequence[Path | None] = [None] * len(samples)
    if options.picture is not None:
        drawn = picture.picture_paths(options.picture, [sample.file for sample in samples])
    for sample, path in zip(samples, drawn, strict=True):
        yield sample.file, partial(JUDGES[task], sample, predictor, replace(options, picture=path))


def require_extras(options: EvaluateOptions) -> None:
    """Raises ValueError where an extra is missing. It is called before files are opened, because the extra is needed
    only at the end.
    """
    if options.trees:
        trees.require_lightgbm()
    if options.picture is not None:
        picture.require_matplotlib()


def model_label(predictor: Predictor | None) -> str:
    return "no model" if predictor is None else f"model: {predictor.name} {predictor.version}"


def _forecasts(sample: Sample, predictor: Predictor | None, options: EvaluateOptions, progress: Progress) -> Report:
    train = sample.train if options.fit else None
    found = (
        fitted_filters.FittedFilters((), None)
        if train is None
        else fitted_filters.fit_followers(train, _config(predictor))
    )
    judged = forecasts.roll_out(sample, predictor, fitted=found.followers, progress=progress)
    if options.trees:
        judged = judged._replace(answers=judged.answers | _trees(sample, judged, options))
    grown = None
    if options.atlas_ms is not None:
        judged, grown = _with_atlas(sample, predictor, judged, options, progress)
    report = {**forecasts.build_report(sample, judged), "fitted": found.report}
    if grown is not None:
        report["learning"] = _learning(sample, judged, grown.history_h)
        report["branches"] = _branches(sample, judged, grown)
    if found.report or options.trees:
        more = [trees.TREES] if options.trees else []
        report["fitted_on"] = _describe_fit(sample, [*(found.report or {}), *more])
    if options.picture is not None:
        picture.draw_report(options.picture, sample, report, judged, model_label(predictor))
    return report


def _with_atlas(
    sample: Sample,
    predictor: Predictor | None,
    judged: forecasts.JudgedForecasts,
    options: EvaluateOptions,
    progress: Progress,
) -> tuple[forecasts.JudgedForecasts, atlas.AtlasForecasts]:
    """Adds the answers of the fleet's own atlas, and returns them once more, with what is known of them."""
    assert sample.fleet is not None  # set by open_samples
    physics = judged.answers[atlas.PHYSICS]
    how: dict[str, Any] = {"every_ms": options.atlas_ms, "min_entities": options.min_entities, "progress": progress}
    how["predictor"] = predictor
    grown = atlas.forecast_with_atlas(
        sample.fleet, sample.corpus, judged.anchors, physics, judged.answers.get(MODEL), **how
    )
    more = {atlas.ATLAS: grown.answers} | ({} if grown.beside is None else {atlas.BESIDE: grown.beside})
    return judged._replace(answers=judged.answers | more), grown


def _branches(sample: Sample, judged: forecasts.JudgedForecasts, grown: atlas.AtlasForecasts) -> list[Report]:
    answers = judged.answers[atlas.ATLAS if grown.beside is None else atlas.BESIDE]
    columns = range(1, 1 + len(HORIZONS_S))
    errors = [atlas.distances_m(sample.corpus, judged.anchors, answers, column) for column in columns]
    return judge_branches(sample.corpus, judged.anchors, grown.parted, np.stack(errors, axis=1))


def _learning(sample: Sample, judged: forecasts.JudgedForecasts, history_h: atlas.I64) -> Report:
    """Returns the errors by hours of the fleet's history, for each horizon, and what the regions of the first predictor
    hold.
    """
    names = [name for name in (atlas.BESIDE, MODEL, atlas.ATLAS, atlas.PHYSICS) if name in judged.answers]
    curves = {}
    for column, name in enumerate(["next", *(f"{horizon:g}" for horizon in HORIZONS_S)]):
        errors: dict[str, F64] = {
            one: atlas.distances_m(sample.corpus, judged.anchors, judged.answers[one], column) for one in names
        }
        inside = _inside(sample.corpus, judged.anchors, judged.answers[names[0]], column, 0.9)
        curves[name] = atlas.learning_curve(history_h, errors, inside)
    return curves


def _inside(corpus: Corpus, anchors: Anchors, answer: Answers, column: int, share: float) -> F64:
    """Returns 1 (A,) where the thing was inside the region of an answer that should hold this share, 0 where it was
    not, NaN where an anchor has no target.
    """
    found = np.full(len(anchors.row), np.nan)
    asked = np.flatnonzero(anchors.target[:, column] >= 0)
    assert answer.cov_m2 is not None
    off = forecasts.errors_en_m(corpus, anchors, answer, asked, column)
    found[asked] = is_inside(mahalanobis2(off, answer.cov_m2[asked, column]), share)
    return found


def _describe_fit(sample: Sample, baselines: Sequence[str]) -> Report:
    """Returns which baselines were fitted to this region, and to what data: the model may never have seen it."""
    assert sample.train is not None  # without it nothing could be fitted
    entities, pings = len(np.unique(sample.train.entity)), sample.train.pings
    known = [sample.train.files[file] for file in np.unique(sample.train.file)]
    return {"baselines": list(baselines), "files": known, "split": "train", "entities": entities, "pings": pings}


def _trees(sample: Sample, judged: forecasts.JudgedForecasts, options: EvaluateOptions) -> dict[str, Any]:
    if sample.train is None:
        raise ValueError(f"{sample.file}: no tracks to train trees on apart from what is judged; try --fit-on")
    grown = trees.train_trees(sample.train, absolute=options.trees_absolute, rows=options.trees_rows)
    return {trees.TREES: grown.answers(sample.corpus, judged.anchors)}


def _gap_fills(sample: Sample, predictor: Predictor | None, options: EvaluateOptions, progress: Progress) -> Report:
    train = sample.train if options.fit else None
    smoother, values = (None if train is None else fitted_filters.fit_smoother(train, _config(predictor))) or (
        None,
        None,
    )
    how: dict[str, Any] = {"atlas_ms": options.atlas_ms, "min_entities": options.min_entities, "progress": progress}
    report = gap_fills.judge_gap_fills(sample, predictor, smoother=smoother, most=options.most_gaps, **how)
    return {**report, "fitted": None if values is None else {gap_fills.RTS_FITTED: values}}


def _arrivals(sample: Sample, predictor: Predictor | None, options: EvaluateOptions, progress: Progress) -> Report:
    return arrivals.judge_arrivals(sample, predictor, progress=progress)


JUDGES: Final[dict[str, Callable[[Sample, Predictor | None, EvaluateOptions, Progress], Report]]] = {
    "forecast": _forecasts,
    "gapfill": _gap_fills,
    "arrivals": _arrivals,
}


def _config(predictor: Predictor | None) -> ModelConfig:
    return SMALL if predictor is None else predictor.config
