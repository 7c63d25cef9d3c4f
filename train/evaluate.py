"""The judge of forecasts, per data set, horizon and stratum (DESIGN section 6). Prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.api import Predictor
from model.config import ModelConfig
from model.geo import E7, F64, displacement_m, haversine_m
from train import anchors as anchoring
from train.anchors import Anchors
from train.data import EVALUATION, Corpus, Reading, load, silent
from train.score import measure, score
from train.sources import Source
from train.splits import split
from train.walk import Answers, walk

Part = Literal["train", "val", "test", "all"]
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Sample:
    """What was judged of one file."""

    file: str
    split: Part
    fingerprint: str  # of the splits
    corpus: Corpus  # the tracks judged
    tracks: int  # all that the split has
    every: int  # every how many-th of them was judged


def open_samples(
    files: Sequence[Path | str | Source],
    part: Part,
    *,
    cache_dir: Path | None = None,
    most: int | None = None,
    reading: Reading = silent,
) -> list[Sample]:
    """The tracks to judge, file by file, thinned to about `most` anchors each.

    Raises ValueError for a file without a track that is long enough in that split.
    """
    return [_open_sample(file, part, cache_dir, most, reading) for file in files]


def _open_sample(
    file: Path | str | Source, part: Part, cache_dir: Path | None, most: int | None, reading: Reading
) -> Sample:
    corpus = load([file], cache_dir, cut=EVALUATION, reading=reading)
    splits = split(corpus)
    chosen = corpus if part == "all" else getattr(splits, part)
    chosen = anchoring.usable(chosen)
    if len(chosen) == 0:
        raise ValueError(
            f"{file}: no track in split {part} has {anchoring.EARLIER_PINGS + 2} pings without a long silence "
            f"(split train has {len(splits.train)} tracks, val {len(splits.val)}, test {len(splits.test)})"
        )
    thinned, every = anchoring.thin(chosen, most)
    return Sample(corpus.files[0], part, splits.fingerprint, thinned, len(chosen), every)


def judge_forecasts(
    sample: Sample,
    predictor: Predictor | None,
    *,
    horizons_s: Sequence[float] = anchoring.HORIZONS_S,
    progress: Progress = lambda share: None,
) -> dict[str, Any]:
    """Scores as plain data for JSON: `horizons.<next|seconds>.<predictor>`, and below each horizon `strata.<name>`.

    Baselines use the physics of the model's config, or of the default one where there is no model.
    """
    corpus = sample.corpus
    anchors = anchoring.find(corpus, horizons_s)
    config = ModelConfig() if predictor is None else predictor.config
    walked = walk(corpus, anchors, config, predictor, progress=progress)
    strata = anchoring.motion(corpus, anchors) | anchoring.cadence(corpus, anchors)
    horizons = {}
    for column, name in enumerate(["next", *(f"{horizon:g}" for horizon in horizons_s)]):
        asked = np.flatnonzero(anchors.target[:, column] >= 0)
        if len(asked):
            horizons[name] = _judge_column(corpus, anchors, walked.answers, column, asked, strata)
    return {**about(sample), "anchors": len(anchors.row), "fallbacks": walked.fallbacks, "horizons": horizons}


def _judge_column(
    corpus: Corpus,
    anchors: Anchors,
    answers: dict[str, Answers],
    column: int,
    asked: NDArray[np.int64],
    strata: dict[str, NDArray[np.bool_]],
) -> dict[str, Any]:
    """One horizon: every predictor on all cases and on each stratum that has any."""
    target, entity = anchors.target[asked, column], corpus.entity[anchors.track[asked]]
    out: dict[str, Any] = {"n": len(asked), "median_dt_s": float(np.median(anchors.dt_s[asked, column]))}
    within: dict[str, dict[str, Any]] = {name: {} for name, mask in strata.items() if mask[asked].any()}
    for predictor, answer in answers.items():
        lat, lon = answer.lat[asked, column], answer.lon[asked, column]
        cases = measure(
            error_en_m(corpus.lat[target], corpus.lon[target], lat, lon, corpus.lat[anchors.row[asked]]),
            answer.cov_m2[asked, column],
            haversine_m(corpus.lat[target], corpus.lon[target], lat, lon),
        )
        out[predictor] = score(cases, entity)._asdict()
        for name, scores in within.items():
            mask = strata[name][asked]
            scores[predictor] = score(cases.chosen(mask), entity[mask])._asdict()
    return {**out, "strata": within}


def about(sample: Sample) -> dict[str, Any]:
    """What was judged, for the head of a report."""
    corpus = sample.corpus
    return {
        "file": sample.file,
        "split": sample.split,
        "split_fingerprint": sample.fingerprint,
        "entities": len(np.unique(corpus.entity)),
        "tracks": len(corpus),
        "tracks_in_split": sample.tracks,
        "every_nth_track": sample.every,
        "pings": corpus.pings,
    }


def error_en_m(lat: F64, lon: F64, forecast_lat: F64, forecast_lon: F64, anchor_lat: F64) -> F64:
    """What happened minus what was forecast (N, 2), in the anchor's local metres: the frame of the covariances."""
    at, was, zero = _e7(anchor_lat), _e7(lat), np.zeros(len(lat), np.int64)
    # From (anchor_lat, forecast_lon) to (anchor_lat + Δlat, lon): the degrees of the error, scaled at the anchor.
    return displacement_m(at, zero, at + was - _e7(forecast_lat), _e7(lon) - _e7(forecast_lon))


def _e7(degrees: F64) -> NDArray[np.int64]:
    return np.rint(np.asarray(degrees) * E7).astype(np.int64)
