"""How does a change of cadence affect the bundled weights' forecasts, and their expected time of the next ping?

Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.api import Predictor
from model.kinematics.geo import F64
from stream.adapters.sources import Source
from train.data.anchors import Anchors, find, usable
from train.data.corpus import Corpus
from train.data.resampling import apart
from train.evaluation.forecasts import (
    REPEATED,
    ROAD,
    TYPICAL,
    Judged,
    Sample,
    answers_of,
    errors_en_m,
    judge_next,
    open_samples,
)
from train.evaluation.rollout import MODEL, walk
from train.experiments.lab.lab import Lab
from train.experiments.lab.report import Finding, Line, Picture, Table, cells
from train.experiments.questions.reported import FILE, WEIGHTS

MOST_ANCHORS: Final = 200_000  # of the full tracks
CHANGES_S: Final = ((10.0, 60.0), (60.0, 10.0), (5.0, 30.0))  # from, to; by road few are denser than 5 s
PHASE_S: Final = 900.0  # duration of each cadence
NONE, FIRST, SOON, LATER, LATE = "0", "1", "2 to 3", "4 to 8", "9 to 15"
# intervals of the new cadence so far
BINS: Final = {NONE: (0, 0), FIRST: (1, 1), SOON: (2, 3), LATER: (4, 8), LATE: (9, 15)}
CHANGED: Final = (FIRST, SOON, LATER, LATE)
HORIZONS: Final = ("60", "300")  # seconds
FEW: Final = 30  # anchors: with fewer, no mean is written
MOST_TRACKS: Final = 512  # per file, in the table of each file's own cadence
LONGEST: Final = 400  # pings of each of these tracks

OFF: Final = ("next time off by a factor", REPEATED, TYPICAL)

QUESTION = (
    "Trackers report oftener where they move, and seldom where they stand. How soon does the next step's time follow a "
    "new cadence, and are forecasts for fixed times worse until then? The tutorial (arXiv 2511.20610) has one cadence."
)
METHOD = (
    "Dense tracks that the weights never saw are thinned to one cadence for 15 minutes and to another for the next 15, "
    "and so on. After each change from the first to the second, and by how many intervals of the second have been "
    "seen, two things are judged: by what factor the next ping's time is missed (the exponential of the mean absolute "
    "error of its logarithm; 1 is right), held against the last interval again and against the median of the last "
    "eight; and the mean errors 60 s and 5 minutes ahead over those of the best physics on the same anchors. With none "
    "seen, nobody can know. small on every k-th of all tracks, small-research on the test split's. And the same factor "
    "on the test splits of all files as they are."
)


@dataclass(frozen=True)
class Row:
    """One change of cadence and one bin of pings after it; NaN where there are fewer than FEW."""

    weights: str
    change: str
    seen: str  # intervals of the new cadence
    n: int
    off: float  # typical factor between predicted and true next interval
    repeated: float  # the same, for repeating the last interval
    typical: float  # the same, for the median of the last eight
    ahead: tuple[float, ...]  # mean error over that of the best physics, by HORIZONS


@dataclass(frozen=True)
class Usual:
    """One file without a change of cadence."""

    weights: str
    data: str
    n: int
    off: float
    repeated: float
    typical: float


def run(lab: Lab) -> Finding:
    file, lab = lab.file_or_first(FILE), replace(lab, most_anchors=MOST_ANCHORS)
    modes = ROAD if file.name == FILE else ()
    rows, usual = [], []
    for weights, part in WEIGHTS.items():
        predictor = Predictor.load(weights)
        sample = lab.sample(file.name, part, modes)
        for change in CHANGES_S:
            lab.say(f"{weights}, {_named(change)}")
            changing, seen = alternating(sample.corpus, *change)
            rows += _judge(predictor, weights, _named(change), replace(sample, corpus=changing), seen)
        _check(rows, weights, sample.file)
        for one in lab.data:
            lab.say(f"{weights}, {one.name} as it is")
            usual.append(_usual(predictor, weights, one, lab))
    return Finding(
        QUESTION,
        METHOD,
        [_changes(rows), _files(usual)],
        [_picture(rows)],
        conclude(rows, usual),
        (lab.seed,),
        [
            f"Changes are those of {file.name}{' by road' if modes else ''} alone",
            f"Cells of fewer than {FEW} anchors are empty",
        ],
    )


def alternating(corpus: Corpus, first_s: float, second_s: float) -> tuple[Corpus, NDArray[np.int64]]:
    """Returns tracks with two alternating cadences, and for each ping the number of intervals of the second cadence
    since it began; -1 in the first.
    """
    chosen, seen = [], []
    for first, last in corpus.tracks:
        ts_ms = np.array(corpus.ts_ms[first:last])
        rows = apart(ts_ms, lambda age_s: second_s if age_s % (2 * PHASE_S) >= PHASE_S else first_s)
        phase = ((ts_ms[rows] - ts_ms[0]) / 1000.0 // PHASE_S).astype(np.int64)
        since = np.arange(len(rows)) - np.maximum.accumulate(
            np.where(np.diff(phase, prepend=-1) != 0, np.arange(len(rows)), 0)
        )
        chosen.append(first + rows)
        seen.append(np.where(phase % 2 == 1, since, -1))
    return usable(corpus.keep(np.concatenate(chosen))), np.concatenate(seen)


def _judge(predictor: Predictor, weights: str, change: str, sample: Sample, seen: NDArray[np.int64]) -> list[Row]:
    judged = answers_of(sample, predictor)
    anchors, next_s = judged.anchors, judged.next_s
    assert next_s is not None  # there is a model
    rows = []
    for name, (low, high) in BINS.items():
        here = (low <= seen[anchors.row]) & (seen[anchors.row] <= high)
        missed = (np.nan, np.nan, np.nan)
        if (n := int(here.sum())) >= FEW:
            missed = _missed(sample.corpus, anchors.chosen(here), next_s[here])
        ahead = tuple(_over_physics(sample.corpus, judged, here, column) for column in range(1, 1 + len(HORIZONS)))
        rows.append(Row(weights, change, name, n, *missed, ahead))
    return rows


def _check(rows: Sequence[Row], weights: str, file: str) -> None:
    """Raises ValueError where there are too few questions for those weights, after all changes, for a result."""
    known = {row.seen for row in rows if row.weights == weights and not np.isnan(row.off)}
    if missing := [seen for seen in CHANGED if seen not in known]:
        raise ValueError(
            f"{file}: fewer than {FEW} pings come {', '.join(missing)} intervals after a change of cadence: are its "
            f"tracks shorter than {2 * PHASE_S / 60:g} min, or its pings more than {CHANGES_S[-1][1]:g} s apart?"
        )


def _missed(corpus: Corpus, anchors: Anchors, next_s: F64) -> tuple[float, float, float]:
    """Returns the typical factor between predicted and true time of the next ping: of the model, of repeating the last
    interval, and of the median of the last eight.
    """
    judged = judge_next(corpus, anchors, next_s)
    return judged[MODEL]["factor"], judged[REPEATED]["factor"], judged[TYPICAL]["factor"]


def _over_physics(corpus: Corpus, judged: Judged, asked: NDArray[np.bool_], column: int) -> float:
    """Returns the model's mean error over the best physics' at these anchors; NaN for fewer than FEW."""
    row = np.flatnonzero(asked & (judged.anchors.target[:, column] >= 0))
    if len(row) < FEW:
        return np.nan
    errors = {
        name: float(np.hypot(*errors_en_m(corpus, judged.anchors, answer, row, column).T).mean())
        for name, answer in judged.answers.items()
    }
    return errors.pop(MODEL) / min(errors.values())


def _usual(predictor: Predictor, weights: str, file: Source, lab: Lab) -> Usual:
    corpus = open_samples([file], "test", cache_dir=lab.cache, most=MOST_ANCHORS)[0].corpus
    corpus = corpus.select(np.arange(0, len(corpus), -(-len(corpus) // MOST_TRACKS)))
    tracks = np.stack([corpus.tracks[:, 0], np.minimum(corpus.tracks[:, 1], corpus.tracks[:, 0] + LONGEST)], axis=1)
    corpus = corpus.cut(tracks, np.arange(len(corpus)))
    anchors = find(corpus)
    next_s = walk(corpus, anchors, [], predictor).next_s
    assert next_s is not None  # there is a model
    return Usual(weights, file.title, len(next_s), *_missed(corpus, anchors, next_s))


def conclude(rows: Sequence[Row], usual: Sequence[Usual]) -> str:
    """Two sentences: how soon the next time is right and whether forecasts suffer until then; and the result without a
    change.
    """
    said = [f"{weights} {_sentence([row for row in rows if row.weights == weights])}" for weights in _weights(rows)]
    worse = [
        f"{one.data} ({one.weights}: {one.off:.2f}, {min(one.repeated, one.typical):.2f})"
        for one in usual
        if one.off > min(one.repeated, one.typical)
    ]
    end = f"but in {', '.join(worse)}" if worse else "in each"
    return (
        f"{'; '.join(said)}. In files as they are, they are nearer than the last interval again and the median of the "
        f"last eight {end}."
    )


def _sentence(rows: Sequence[Row]) -> str:
    """Returns the sentence about the rows of one network."""
    off = [np.exp(_mean([np.log(row.off) for row in rows if row.seen == seen])) for seen in CHANGED]
    repeated, typical = (
        np.exp(_mean([np.log(one) for row, one in factors if row.seen != NONE]))
        for factors in ([(row, row.repeated) for row in rows], [(row, row.typical) for row in rows])
    )
    # Only changes with both: otherwise the two means would be over different changes.
    ahead = {(row.change, row.seen): _mean(row.ahead) for row in rows if not np.isnan(row.ahead).all()}
    both = [
        change for change in dict.fromkeys(row.change for row in rows) if {(change, SOON), (change, LATE)} <= set(ahead)
    ]
    soon, late = (100 * _mean([ahead[change, seen] for change in both]) for seen in (SOON, LATE))
    next_off = f"{', '.join(f'{one:.2f}' for one in off)} after {', '.join(CHANGED)} intervals"
    suffers = f"; forecasts have {soon:.0f} % of the best physics' error after {SOON} and {late:.0f} % after {LATE}"
    return (
        f"misses the next ping's time by factors of {next_off} of a new cadence, where the last interval again is off "
        f"by {repeated:.2f} and the median of the last eight by {typical:.2f}{suffers if both else ''}"
    )


def _weights(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.weights for row in rows))


def _mean(values: Sequence[float]) -> float:
    """Returns the mean of the values that are not NaN."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan


def _changes(rows: Sequence[Row]) -> Table:
    columns = ("weights", "change", "intervals seen", "pings", *OFF)
    ahead = (f"{horizon} s: error over the best physics'" for horizon in HORIZONS)
    body = [
        (
            row.weights,
            row.change,
            row.seen,
            f"{row.n:,}",
            *cells((row.off, row.repeated, row.typical, *row.ahead)),
        )
        for row in rows
    ]
    return Table("After a change of cadence", (*columns, *ahead), body, digits=2)


def _files(usual: Sequence[Usual]) -> Table:
    columns = ("weights", "data", "pings", *OFF)
    return Table(
        "Files as they are",
        columns,
        [(one.weights, one.data, f"{one.n:,}", one.off, one.repeated, one.typical) for one in usual],
        digits=2,
    )


def _picture(rows: Sequence[Row]) -> Picture:
    lines = [
        Line(
            f"{weights}, {change}",
            list(range(len(BINS))),
            [row.off for row in rows if (row.weights, row.change) == (weights, change)],
        )
        for weights, change in dict.fromkeys((row.weights, row.change) for row in rows)
    ]
    right = Line("right", list(range(len(BINS))), [1.0] * len(BINS), reference=True)
    x = "intervals of the new cadence seen: 0, 1, 2 to 3, 4 to 8, 9 to 15"
    return Picture(
        "next", "When the next ping is expected", x, "off by a factor", [*lines, right], x_ticks=range(len(BINS))
    )


def _named(change: tuple[float, float]) -> str:
    return f"{change[0]:g} s to {change[1]:g} s"
