"""Evaluates paths that are inferred from their two ends and the times alone."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import Gap, Predictor
from model.kinematics.baselines import linear
from model.kinematics.geo import F64, haversine_m, moved_deg
from model.serving.gaps import stack
from train.data.corpus import Corpus

LONGEST_S: Final = 1_800.0  # training has gaps of up to 20 min
TRIP_M: Final = 1_000.0  # from end to end: shorter ones are mostly waiting
TRIP_PINGS: Final = 9
POINTS: Final = 60  # at most so many of one path, evenly spaced: otherwise paths of fast receivers would dominate
BATCH: Final = 128


class PathScore(NamedTuple):
    """The mean error in metres of the points between the ends."""

    paths: int
    points: int
    model_m: float
    line_m: float  # error of the straight line at constant speed


def trips_of(corpus: Corpus) -> Corpus:
    """Returns the tracks of TRIP_PINGS or more that end TRIP_M or more from where they began."""
    first, last = corpus.tracks[:, 0], corpus.tracks[:, 1] - 1
    far = haversine_m(corpus.lat[first], corpus.lon[first], corpus.lat[last], corpus.lon[last]) >= TRIP_M
    return corpus.select(far & (last - first + 1 >= TRIP_PINGS))


def judge_paths(predictor: Predictor, trips: Corpus, most: int) -> PathScore | None:
    """Scores at most `most` of the trips (`trips_of`), evenly spaced among those that take at most LONGEST_S; returns
    None where there is none.
    """
    seconds = (trips.ts_ms[trips.tracks[:, 1] - 1] - trips.ts_ms[trips.tracks[:, 0]]) / 1000.0
    brief = np.flatnonzero(seconds <= LONGEST_S)
    if not len(brief):
        return None
    few = brief[np.unique(np.linspace(0, len(brief) - 1, min(most, len(brief))).astype(np.int64))]
    hidden = [_between(first, last) for first, last in trips.tracks[few]]
    gaps = [_gap(trips, rows, *ends) for rows, ends in zip(hidden, trips.tracks[few], strict=True)]
    model, line = [], []
    for begin in range(0, len(gaps), BATCH):
        part = gaps[begin : begin + BATCH]
        rows = np.concatenate(hidden[begin : begin + BATCH])
        lat, lon = np.asarray(trips.lat[rows]), np.asarray(trips.lon[rows])
        model.append(haversine_m(*_filled(predictor, part), lat, lon))
        line.append(haversine_m(*_straight(part), lat, lon))
    model_m, line_m = np.concatenate(model), np.concatenate(line)
    return PathScore(len(gaps), len(model_m), float(model_m.mean()), float(line_m.mean()))


def _gap(trips: Corpus, hidden: NDArray[np.int64], first: int, last: int) -> Gap:
    return Gap(
        trips.fixes(slice(first, first + 1)), trips.fixes(slice(last - 1, last)), np.asarray(trips.ts_ms[hidden])
    )


def _filled(predictor: Predictor, gaps: list[Gap]) -> tuple[F64, F64]:
    """Returns the degrees of the points of all gaps, one gap after the other, from a model that knows only the ends."""
    slots = predictor.acquire(len(gaps))
    predictor.rebuild(slots, [np.concatenate([gap.before, gap.after]) for gap in gaps])
    fills = predictor.fill(slots, gaps)
    predictor.release(slots)
    return np.concatenate([fill.lat for fill in fills]), np.concatenate([fill.lon for fill in fills])


def _straight(gaps: list[Gap]) -> tuple[F64, F64]:
    """Returns the same on the straight line between the ends."""
    batch = stack(gaps)
    ends, (t_s, asked) = batch.ends, batch.padded()
    en_m = linear(ends.chord_en, ends.gap_s, ends.before_mps, ends.after_mps, t_s)
    lat, lon = moved_deg(batch.start_lat[:, None], batch.start_lon[:, None], en_m)
    return lat[asked], lon[asked]


def _between(first: int, last: int) -> NDArray[np.int64]:
    inner = np.arange(first + 1, last - 1)
    return inner[np.unique(np.linspace(0, len(inner) - 1, min(POINTS, len(inner))).astype(np.int64))]
