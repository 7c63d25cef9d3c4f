"""Evaluates forecasts per data set, horizon and stratum (train/data/anchors.py has the protocol). Prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import Predictor
from model.config import ModelConfig
from model.kinematics.filters import FITTED, KALMAN, Follower, Kinematic
from model.kinematics.geo import F64, displacement_m, haversine_m, to_e7
from model.kinematics.imm import Imm
from stream.adapters.sources import Source, parse
from train.data import anchors as anchoring
from train.data.anchors import Anchors
from train.data.corpus import Corpus, Reading, ignore_progress, load
from train.data.cutting import EVALUATION
from train.data.splits import split
from train.evaluation import published
from train.evaluation.atlas import ATLAS, BESIDE
from train.evaluation.baselines.dead_reckoning import dead_reckon
from train.evaluation.metrics import Cases, compare_pairs, measure, reliability, score, time_factor
from train.evaluation.rollout import MODEL, Answers, PublishedRecords, roll_along

SplitPart = Literal["train", "val", "test", "final", "all"]
Progress = Callable[[float], None]

# nominal coverage of the regions that are reported
NOMINAL: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
ROAD: Final = ("car", "taxi", "bus")  # the modes of travel by road
REPEATED: Final = "last interval again"
TYPICAL: Final = "median of the last 8 intervals"
LEARNT: Final = (MODEL, ATLAS, BESIDE)  # no baselines
FEW: Final = 1_000  # a stratum with fewer anchors does not show which predictor is better


class NoTracks(ValueError):
    """A file that can be read but has no track to evaluate in a split."""


@dataclass(frozen=True)
class Sample:
    """The tracks of one file that are evaluated."""

    file: str
    split: SplitPart
    fingerprint: str  # fingerprint of the splits
    corpus: Corpus  # the tracks that are evaluated
    tracks: int  # number of tracks in the split
    every: int  # every n-th of them is evaluated
    train: Corpus | None = None  # tracks to fit baselines to; None where they would overlap with the evaluated ones
    copies: int = 0  # duplicates left out of the test, because training or validation has them under another id
    fleet: Corpus | None = None  # all tracks of the file, judged or not: what an atlas is made of
    entities: int | None = None  # number of entities in the split; None: all of them are evaluated


def open_samples(
    files: Sequence[Path | str | Source],
    part: SplitPart,
    *,
    cache_dir: Path | None = None,
    most: int | None = None,
    modes: Sequence[str] = (),
    fit_on: Sequence[Path | str | Source] = (),
    reading: Reading = ignore_progress,
) -> list[Sample]:
    """Returns the tracks to evaluate, file by file, reduced to about `most` anchors each, and to `modes` where any is
    given.

    Baselines are fitted to the train split of `fit_on`, by default of the file itself. Raises NoTracks for a file
    without a track in that split that has an anchor, ValueError for one that cannot be read, for a mode that it
    does not have, and for a file of `fit_on` that is evaluated as a whole.
    """
    elsewhere = None
    if fit_on:
        if part in ("train", "all") and {_resolve(file) for file in fit_on} & {_resolve(file) for file in files}:
            raise ValueError(f"baselines cannot be fitted to a file that is judged with split {part}")
        known = load(fit_on, cache_dir, cut=EVALUATION, reading=reading)
        elsewhere = split(_select_modes(known, modes, "the files to fit on")).train
    return [_open_sample(file, part, cache_dir, most, modes, elsewhere, reading) for file in files]


def _open_sample(
    file: Path | str | Source,
    part: SplitPart,
    cache_dir: Path | None,
    most: int | None,
    modes: Sequence[str],
    elsewhere: Corpus | None,
    reading: Reading,
) -> Sample:
    corpus = load([file], cache_dir, cut=EVALUATION, reading=reading)
    splits = split(corpus)  # before modes are selected: a split must not depend on the question
    chosen = corpus if part == "all" else getattr(splits, part)
    chosen = anchoring.keep_long(_select_modes(chosen, modes, str(file)))
    if len(chosen) == 0:
        raise NoTracks(
            f"{file}: no track in split {part} is long enough, without a long silence, to be judged "
            f"(split train has {len(splits.train)} tracks, val {len(splits.val)}, test {len(splits.test)}, "
            f"final {len(splits.final)})"
        )
    thinned, every = anchoring.take_every_nth(chosen, most)
    train = elsewhere
    if train is None and part in ("val", "test", "final"):
        train = _select_modes(splits.train, modes, str(file))
    if train is not None and len(anchoring.keep_long(train)) == 0:
        train = None
    copies = len(anchoring.keep_long(_select_modes(splits.copies, modes, str(file)))) if part == "test" else 0
    entities, name = len(np.unique(chosen.entity)), corpus.files[0]
    return Sample(name, part, splits.fingerprint, thinned, len(chosen), every, train, copies, corpus, entities)


def _resolve(given: Path | str | Source) -> Path:
    source = given if isinstance(given, Source) else parse(given)
    return source.path.resolve()


def _select_modes(corpus: Corpus, modes: Sequence[str], file: str) -> Corpus:
    """Returns the tracks travelled in one of `modes`; all tracks where none is given."""
    if not modes:
        return corpus
    unknown = [mode for mode in modes if mode not in corpus.modes]
    if unknown:
        raise ValueError(f"{file}: no mode {', '.join(unknown)}; it has {', '.join(corpus.modes) or 'none'}")
    return corpus.select(np.isin(corpus.mode, [corpus.modes.index(mode) for mode in modes]))


class JudgedForecasts(NamedTuple):
    """The forecasts of all predictors, before they are summarised."""

    anchors: Anchors
    answers: dict[str, Answers]
    next_s: F64 | None  # (A,) seconds until the model expects the next ping
    fallbacks: int
    recorded: PublishedRecords | None = None  # the records that the model would publish
    kin: F64 | None = None  # (A, K) the model's states


def judge_forecasts(
    sample: Sample,
    predictor: Predictor | None,
    *,
    fitted: Sequence[Follower] = (),
    horizons_s: Sequence[float] = anchoring.HORIZONS_S,
) -> dict[str, Any]:
    """Returns scores as plain data for JSON: `horizons.<next|seconds>.<predictor>`, and below each horizon
    `strata.<name>`.
    """
    judged = roll_out(sample, predictor, fitted=fitted, horizons_s=horizons_s)
    return build_report(sample, judged, horizons_s)


def roll_out(
    sample: Sample,
    predictor: Predictor | None,
    *,
    fitted: Sequence[Follower] = (),
    horizons_s: Sequence[float] = anchoring.HORIZONS_S,
    progress: Progress = lambda share: None,
) -> JudgedForecasts:
    """Rolls all predictors out along the sample. Baselines use the physics of the model's config, or of the default
    one. Filters in `fitted` are added, and replace those of the same name. Files that report courses have one more.
    """
    anchors = anchoring.find_anchors(sample.corpus, horizons_s)
    config = ModelConfig() if predictor is None else predictor.config
    named = {name for follower in fitted for name in follower.names}
    plain = [one for one in (Kinematic(config), Imm.around(config)) if not named & set(one.names)]
    walked = roll_along(sample.corpus, anchors, [*plain, *fitted], predictor, recorded=True, progress=progress)
    answers = walked.answers | dead_reckon(sample.corpus, anchors)
    return JudgedForecasts(anchors, answers, walked.next_s, walked.fallbacks, walked.recorded, walked.kin)


def build_report(
    sample: Sample, judged: JudgedForecasts, horizons_s: Sequence[float] = anchoring.HORIZONS_S
) -> dict[str, Any]:
    """Returns the report of judged forecasts: see `judge_forecasts`."""
    corpus, (anchors, answers, next_s, fallbacks, recorded, _) = sample.corpus, judged
    strata = anchoring.motion_strata(corpus, anchors) | anchoring.cadence_strata(corpus, anchors)
    horizons = {}
    for column, name in enumerate(["next", *(f"{horizon:g}" for horizon in horizons_s)]):
        asked = np.flatnonzero(anchors.target[:, column] >= 0)
        if len(asked):
            horizons[name] = _judge_column(corpus, anchors, answers, column, asked, strata)
    out = {**describe_sample(sample), "anchors": len(anchors.row), "fallbacks": fallbacks, "horizons": horizons}
    if next_s is None:
        return out
    out["next_interval"] = judge_next(corpus, anchors, next_s) if len(next_s) else {}
    if recorded is not None and len(next_s):
        out["next_interval"][MODEL]["holds_90"] = published.coverage_90(anchors, recorded)
        out["next_from_record"] = judge_record(corpus, anchors, answers, recorded)
    return {**out, "worse_than_best_baseline": find_worse_strata(horizons)}


def judge_next(corpus: Corpus, anchors: Anchors, next_s: F64) -> dict[str, Any]:
    """Scores the expected time of the next ping, for the model and for two baselines without a model."""
    lately_s = anchoring.intervals_s(corpus, anchors)
    predicted_s = {MODEL: next_s, REPEATED: lately_s[:, 0], TYPICAL: np.median(lately_s, axis=1)}
    entity = corpus.entity[anchors.track]
    return {name: time_factor(seconds, anchors.dt_s[:, 0], entity)._asdict() for name, seconds in predicted_s.items()}


def judge_record(
    corpus: Corpus, anchors: Anchors, answers: dict[str, Answers], recorded: PublishedRecords
) -> dict[str, Any]:
    """Scores the next ping, at its real time, as a subscriber reads it from the record, against baselines that know
    that time.
    """
    entity, target = corpus.entity[anchors.track], anchors.target[:, 0]
    cases = {
        name: Cases(haversine_m(corpus.lat[target], corpus.lon[target], one.lat[:, 0], one.lon[:, 0]), None, None)
        for name, one in answers.items()
    }
    cases[MODEL] = Cases(published.read_errors_m(corpus, anchors, recorded), None, None)
    return {**score(cases[MODEL], entity)._asdict(), "model_vs_best": compare_with_best(cases, entity)}


def _judge_column(
    corpus: Corpus,
    anchors: Anchors,
    answers: dict[str, Answers],
    column: int,
    asked: NDArray[np.int64],
    strata: dict[str, NDArray[np.bool_]],
) -> dict[str, Any]:
    """Scores one horizon: every predictor on all cases and on each stratum that has any."""
    entity = corpus.entity[anchors.track[asked]]
    cases = {name: measure_column(corpus, anchors, answer, column, asked) for name, answer in answers.items()}
    out: dict[str, Any] = {"n": len(asked), "median_dt_s": float(np.median(anchors.dt_s[asked, column]))}
    out |= {name: score(case, entity)._asdict() for name, case in cases.items()}
    out["strata"] = {
        name: {predictor: score(case.select(mask), entity[mask])._asdict() for predictor, case in cases.items()}
        for name, mask in ((name, mask[asked]) for name, mask in strata.items())
        if mask.any()
    }
    surprises = {name: case.surprise for name, case in cases.items() if case.surprise is not None}
    observed = {name: reliability(surprise, NOMINAL) for name, surprise in surprises.items()}
    out["reliability"] = {"nominal": list(NOMINAL), "observed": observed}
    if MODEL in cases:
        out["model_vs_best"] = compare_with_best(cases, entity)
        out["crps_vs_best"] = compare_crps(cases)
        reference = FITTED if FITTED in cases else KALMAN
        out["crps_vs_kalman"] = {"reference": reference, "ratio": out[MODEL]["crps_m"] / out[reference]["crps_m"]}
    return out


def measure_column(corpus: Corpus, anchors: Anchors, answer: Answers, column: int, asked: NDArray[np.int64]) -> Cases:
    target = anchors.target[asked, column]
    return measure(
        errors_en_m(corpus, anchors, answer, asked, column),
        None if answer.cov_m2 is None else answer.cov_m2[asked, column],
        haversine_m(corpus.lat[target], corpus.lon[target], answer.lat[asked, column], answer.lon[asked, column]),
    )


def compare_with_best(cases: dict[str, Cases], entity: NDArray[np.integer]) -> dict[str, Any]:
    """Compares the model with the baseline of the lowest mean error on these very cases: the choice favours the
    baseline.
    """
    best = min((name for name in cases if name not in LEARNT), key=lambda name: float(cases[name].distance_m.mean()))
    return {"baseline": best, **compare_pairs(cases[MODEL].distance_m, cases[best].distance_m, entity)._asdict()}


def compare_crps(cases: dict[str, Cases]) -> dict[str, Any]:
    """Returns the ratio of the model's CRPS to the lowest of a baseline; for a baseline without spread it is the mean
    error.
    """
    energy_m = {name: case.distance_m if case.energy_m is None else case.energy_m for name, case in cases.items()}
    crps = {name: float(one.mean()) for name, one in energy_m.items()}
    best = min((name for name in crps if name not in LEARNT), key=lambda name: crps[name])
    return {"baseline": best, "ratio": crps[MODEL] / crps[best]}


def find_best_baseline(scores: dict[str, Any]) -> str:
    """Returns the baseline of `strata.<name>` with the lowest mean error."""
    return min((name for name in scores if name not in LEARNT), key=lambda name: float(scores[name]["mean_m"]))


def find_worse_strata(horizons: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns where the model's mean error is above the best baseline's, among strata of FEW anchors or more, of motion
    and of cadence. The same anchors are in one stratum of each kind.
    """
    out = []
    for horizon, block in horizons.items():
        for stratum, scores in block["strata"].items():
            model = scores[MODEL]
            best = find_best_baseline(scores)
            if model["n"] >= FEW and model["mean_m"] > scores[best]["mean_m"]:
                where = {"horizon": horizon, "stratum": stratum, "n": model["n"], "baseline": best}
                out.append({**where, "model_m": model["mean_m"], "baseline_m": scores[best]["mean_m"]})
    return out


def describe_sample(sample: Sample) -> dict[str, Any]:
    """Returns what was evaluated, for the head of a report."""
    corpus = sample.corpus
    entities = len(np.unique(corpus.entity))
    return {
        "file": sample.file,
        "split": sample.split,
        "split_fingerprint": sample.fingerprint,
        "entities": entities,
        "entities_in_split": sample.entities or entities,
        "tracks": len(corpus),
        "tracks_in_split": sample.tracks,
        "every_nth_track": sample.every,
        "copies_left_out": sample.copies,
        "pings": corpus.pings,
    }


def errors_en_m(
    corpus: Corpus, anchors: Anchors, answer: Answers, row: NDArray[np.int64], column: NDArray[np.int64] | int
) -> F64:
    """Returns `error_en_m` (N, 2) of the answers at row (N,) of the anchors and column (N,), or one column for all, of
    the questions; all of them have a target.
    """
    target = anchors.target[row, column]
    lat, lon = answer.lat[row, column], answer.lon[row, column]
    return error_en_m(corpus.lat[target], corpus.lon[target], lat, lon, corpus.lat[anchors.row[row]])


def error_en_m(lat: F64, lon: F64, forecast_lat: F64, forecast_lon: F64, anchor_lat: F64) -> F64:
    """Returns true minus forecast position (N, 2), in the anchor's local metres: the frame of the covariances."""
    at, was, zero = to_e7(anchor_lat), to_e7(lat), np.zeros(len(lat), np.int64)
    # From (anchor_lat, forecast_lon) to (anchor_lat + Δlat, lon): the degrees of the error, scaled at the anchor.
    return displacement_m(at, zero, at + was - to_e7(forecast_lat), to_e7(lon) - to_e7(forecast_lon))
