"""Next-step only, one of four masks, or every mask: which training is best for which task?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np

from model.api import Predictor
from model.kinematics.geo import haversine_m
from model.network.checkpoint import to_parameters
from train.batches.masking import MASKS
from train.batches.options import BatchOptions
from train.data.corpus import Corpus, even_indices
from train.evaluation.forecasts import Sample, open_samples
from train.evaluation.gap_fills import BLOCKS_S, HiddenGaps, answer_gaps, hide_blocks, judge_gap_fills
from train.evaluation.rollout import MODEL
from train.experiments.lab.lab import Lab, TrainedVariant
from train.experiments.lab.report import Finding, Line, Picture, Table

STEPS: Final = 500
FILES: Final = {
    "cabspotting_sf.parquet": "taxis, 60 s",
    "geolife_labelled.parquet": "people, 2 s",
    "capmetro_austin_bus.parquet": "buses, 120 s",
}
MOST_GAPS: Final = 400  # per file and block length
MOST_PATHS: Final = 400  # per file
MARGIN: Final = 0.01  # of a mean over the files, with one seed: trainings with a smaller difference are called equal

LONGEST_S: Final = 1_800.0  # training has gaps of up to 20 min
TRIP_M: Final = 1_000.0  # from end to end: shorter ones are mostly waiting
TRIP_PINGS: Final = 9
POINTS: Final = 60  # at most so many of one path, evenly spaced: otherwise paths of fast receivers would dominate

NEXT, ALL = "next step only", "every mask"
SHARE, POINT, FEATURE, KEY = "15 % in segments", "15 % of points", "15 % of features", "all but key points"
# No resampling anywhere, because it hides pings too, and every way would have some of the others' masks. And only the
# last way hides speed, heading or clock of whole rows, because these resemble the feature-wise mask.
PLAIN: Final = BatchOptions(thin=0.0, forced=1.0, drop_reported=0.0, drop_clock=0.0)
WAYS: Final[dict[str, BatchOptions]] = {
    NEXT: replace(PLAIN, forced=0.0),
    SHARE: replace(PLAIN, masks=("share",)),
    POINT: replace(PLAIN, masks=("point",)),
    FEATURE: replace(PLAIN, masks=("feature",)),
    KEY: replace(PLAIN, masks=("key-point",)),
    ALL: BatchOptions(thin=0.0, forced=0.75, masks=MASKS),
}

QUESTION = (
    "Which masks should training hide pings with, if one set of weights is to complete tracks and infer "
    'paths? The tutorial "Building a Foundation Model for Trajectory from Scratch" (arXiv 2511.20610) learns next '
    "steps, masks 15 % in segments in its first experiments, and names points, segments, features and key points."
)
METHOD = (
    "Six trainings of the reference size on the same files, steps and seed differ in what is hidden. Next step only: "
    "nothing. 15 % in segments: six in each row, 15 % in all of its pings. 15 % of points: each ping with that chance. "
    "15 % of features: no ping, but its speed, its heading and its clock, each with that chance. All but key points: "
    "what is neither a turn nor a stop nor an end. Every mask: one of these, or blocks of 20 s to 20 min, in three of "
    "four rows; and in whole rows reported speed and heading (half of them) and the clock (30 %). After next step only "
    "and after features no gap was ever asked about, so what fills one is physics. All ask for positions ahead alike. "
    "Judged on the test split: hidden blocks (`train.evaluation.gap_fills`), "
    "and the path of a trip of at most half an hour from its two ends and the times alone. There is one seed "
    "of each, so means over the files that are within 1 % of each other are called equal."
)


class Samples(NamedTuple):
    """The tracks of one file that are evaluated, by task."""

    forecasts: Sample
    gaps: Sample
    trips: Corpus


@dataclass(frozen=True)
class MaskingScore:
    """One training on one file."""

    way: str
    data: str
    fills: dict[str, Any]  # blocks of judge_gap_fills
    path: PathScore | None
    ahead_m: dict[str, float]  # by horizon


def run(lab: Lab) -> Finding:
    files = lab.choose_named(FILES)
    train = lab.splits(without=[file.name for file in lab.data if file.name not in files]).train
    judged = {data: _open(lab, file) for file, data in files.items()}
    rows = []
    for number, (way, batch) in enumerate(WAYS.items()):
        trained = lab.train(f"masking/{number}", lab.config, STEPS, train=train, batch=batch)
        rows += [_judge(lab, trained, way, data, samples) for data, samples in judged.items()]
    return Finding(
        QUESTION,
        METHOD,
        [_completion(rows), _paths(rows), _ahead(rows)],
        _pictures(rows),
        conclude(rows),
        (lab.seed,),
        [f"{lab.steps(STEPS):,} steps each; baselines know no training of a network"],
    )


def _open(lab: Lab, file: str) -> Samples:
    """Raises ValueError where there is nothing to evaluate, before anything is trained."""
    source = [lab.file(file)]
    (gaps,) = open_samples(source, "test", cache_dir=lab.cache, most=4 * lab.most_anchors)
    if not any(len(hide_blocks(gaps.corpus, block_s).before) for block_s in BLOCKS_S):
        raise ValueError(f"{file}: no test track has room for a gap to fill: are its tracks short?")
    (whole,) = open_samples(source, "test", cache_dir=lab.cache)
    trips = find_trips(whole.corpus)
    if not len(trips):
        raise ValueError(f"{file}: no test track ends {TRIP_M:g} m or more from where it began")
    return Samples(lab.sample(file), gaps, trips)


def _judge(lab: Lab, trained: TrainedVariant, way: str, data: str, samples: Samples) -> MaskingScore:
    predictor = Predictor(to_parameters(trained.network), name=way)
    horizons = lab.judge(trained, samples.forecasts)["horizons"]
    return MaskingScore(
        way,
        data,
        judge_gap_fills(samples.gaps, predictor, most=MOST_GAPS)["blocks"],
        judge_paths(predictor, samples.trips, MOST_PATHS),
        {name: block["model"]["mean_m"] for name, block in horizons.items()},
    )


def conclude(rows: Sequence[MaskingScore]) -> str:
    """Concludes which training completes tracks best, and what that costs elsewhere."""
    ways = list(dict.fromkeys(row.way for row in rows))
    fill = {way: mean(over_hermite(row) for row in rows if row.way == way) for way in ways}
    paths = [(row.way, row.path.model_m / row.path.line_m) for row in rows if row.path is not None]
    path = {way: mean(ratio for of, ratio in paths if of == way) for way in ways}
    plain = {row.data: row.ahead_m for row in rows if row.way == ways[0]}
    ahead = {
        way: mean(m / plain[row.data][h] for row in rows if row.way == way for h, m in row.ahead_m.items())
        for way in ways
    }
    more = ", ".join(f"{100 * (ahead[way] - 1):+.1f} % after {way}" for way in ways[1:])
    return (
        f"Hidden pings are found {_describe_best(fill)} (of the Hermite curve's error on average {_each(fill)}), and "
        f"{_describe_paths(path)}. Against {ways[0]}, the errors of forecasts change by {more}."
    )


def _describe_best(errors: Mapping[str, float]) -> str:
    """Names the training after which an error is lowest, and those that are equal to it."""
    best = min(errors, key=errors.__getitem__)
    like = [way for way in errors if way != best and errors[way] <= (1 + MARGIN) * errors[best]]
    if len(like) == len(errors) - 1:
        return "no better after any training than after another"
    return f"best after {best}" + (f", and as well after {_join_names(like)}" if like else "")


def _join_names(ways: Sequence[str]) -> str:
    return ways[0] if len(ways) == 1 else f"{', '.join(ways[:-1])} and {ways[-1]}"


def _describe_paths(path: Mapping[str, float]) -> str:
    """Describes the paths between two ends, by their error over the straight line's."""
    if min(path.values()) >= 1 - MARGIN:
        return f"no training infers paths from two ends better than a straight line (of its error {_each(path)})"
    return f"paths from two ends are inferred {_describe_best(path)} (of a straight line's error {_each(path)})"


def _each(ratios: Mapping[str, float]) -> str:
    return ", ".join(f"{ratio:.3f} after {way}" for way, ratio in ratios.items())


def over_hermite(row: MaskingScore) -> float:
    """Returns the error of the hidden pings over that of the Hermite curve, mean over the blocks."""
    return mean(block["model"]["mean_m"] / block["hermite"]["mean_m"] for block in row.fills.values())


def mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / max(len(found), 1)


def _completion(rows: Sequence[MaskingScore]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row.fills))
    columns = ("training", "data", *(name if name == "half" else f"{name} s" for name in names))
    body: list[tuple[Any, ...]] = [(r.way, r.data, *(_of(r.fills.get(n), "model") for n in names)) for r in rows]
    for reference in ("hermite", "linear"):
        first = [row for row in rows if row.way == rows[0].way]
        body += [(reference, row.data, *(_of(row.fills.get(name), reference) for name in names)) for row in first]
    return Table("Completion: mean metres of the hidden pings, by block", columns, body)


def _of(block: dict[str, Any] | None, who: str) -> float | None:
    return None if block is None else float(block[who]["mean_m"])


def _paths(rows: Sequence[MaskingScore]) -> Table:
    of = [(row.way, row.data, row.path) for row in rows if row.path is not None]
    body = [(way, data, path.paths, path.model_m, path.line_m) for way, data, path in of]
    return Table("The path between two ends", ("training", "data", "paths", "path m", "straight line m"), body)


def _ahead(rows: Sequence[MaskingScore]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row.ahead_m))
    columns = ("training", "data", *(name if name == "next" else f"{name} s" for name in names))
    return Table("Forecasts: mean metres", columns, [(r.way, r.data, *map(r.ahead_m.get, names)) for r in rows])


def _pictures(rows: Sequence[MaskingScore]) -> list[Picture]:
    """Draws completion over Hermite by block length, for the file with the most lengths."""
    data = max(rows, key=lambda row: len(row.fills)).data
    lines = []
    for row in (row for row in rows if row.data == data):
        ratio = {float(s): b["model"]["mean_m"] / b["hermite"]["mean_m"] for s, b in row.fills.items() if s != "half"}
        lines.append(Line(row.way, sorted(ratio), [ratio[s] for s in sorted(ratio)]))
    lines.append(Line("Hermite curve", lines[0].x, [1.0] * len(lines[0].x), reference=True))
    title, x = f"Hidden pings of {data}", lines[0].x
    return [Picture("fills", title, "length of the hidden block, s", "mean error over Hermite's", lines, True, x)]


class PathScore(NamedTuple):
    """The mean error in metres of the points between the ends."""

    paths: int
    points: int
    model_m: float
    line_m: float  # error of the straight line at constant speed


def find_trips(corpus: Corpus) -> Corpus:
    """Returns the tracks of TRIP_PINGS or more that end TRIP_M or more from where they began."""
    first, last = corpus.tracks[:, 0], corpus.tracks[:, 1] - 1
    far = haversine_m(corpus.lat[first], corpus.lon[first], corpus.lat[last], corpus.lon[last]) >= TRIP_M
    return corpus.select(far & (last - first + 1 >= TRIP_PINGS))


def judge_paths(predictor: Predictor, trips: Corpus, most: int) -> PathScore | None:
    """Scores at most `most` of the trips (`find_trips`), evenly spaced among those that take at most LONGEST_S; returns
    None where there is none.
    """
    seconds = (trips.ts_ms[trips.tracks[:, 1] - 1] - trips.ts_ms[trips.tracks[:, 0]]) / 1000.0
    brief = np.flatnonzero(seconds <= LONGEST_S)
    if not len(brief):
        return None
    trips = trips.select(brief[even_indices(len(brief), most)])
    rows = [
        first + np.array([0, *(1 + even_indices(last - first - 2, POINTS)), last - first - 1])
        for first, last in trips.tracks
    ]
    paths = trips.keep(np.concatenate(rows))
    first, last = paths.tracks[:, 0], paths.tracks[:, 1] - 1
    known = np.zeros(len(paths.ts_ms), bool)
    known[first] = known[last] = True
    answers = answer_gaps(paths, HiddenGaps(np.arange(len(paths)), first, last, known), predictor)
    lat, lon = paths.lat[~known], paths.lon[~known]
    model_m, line_m = (haversine_m(lat, lon, *answers[name][:2]).mean() for name in (MODEL, "linear"))
    return PathScore(len(paths), len(lat), float(model_m), float(line_m))
