"""Dead reckoning by reported speed and course, and by the last step where they are not reported."""

from __future__ import annotations

import numpy as np
import pytest
from train_worlds import MakeCorpus, together, track

from train.data.anchors import find_anchors
from train.data.corpus import Corpus
from train.data.cutting import EVALUATION
from train.evaluation.baselines.dead_reckoning import REPORTED, dead_reckon
from train.evaluation.forecasts import Sample, judge_forecasts

MINUTES = [60.0 * i for i in range(12)]


def boat(entity: str, speed_mps: float, heading_deg: float) -> dict[str, list[object]]:
    """Seen to go east at 5 m/s, whatever it reports."""
    said = {"speed_mps": [speed_mps] * len(MINUTES), "heading_deg": [heading_deg] * len(MINUTES)}
    return track(entity, MINUTES, [5.0 * t for t in MINUTES]) | said


def moved_m(corpus: Corpus) -> dict[str, tuple[float, float]]:
    """How far east and north of the first anchor each boat is to be 60 s later."""
    anchors = find_anchors(corpus)
    answer = dead_reckon(corpus, anchors)[REPORTED]
    row, metres = anchors.row, 111_195.0
    east = (answer.lon[:, 1] - corpus.lon[row]) * metres * np.cos(np.radians(corpus.lat[row]))
    north = (answer.lat[:, 1] - corpus.lat[row]) * metres
    names = [corpus.names[entity] for entity in corpus.entity[anchors.track]]
    return {name: (e, n) for name, e, n in zip(names, east, north, strict=True)}


def test_it_goes_where_the_receiver_says_and_else_as_it_went(make_corpus: MakeCorpus) -> None:
    nothing = float("nan")
    boats = [boat("both", 8, 0), boat("no course", 8, nothing), boat("no speed", nothing, 0), boat("at rest", 0, 90)]
    moved = moved_m(make_corpus(together(*boats), cut=EVALUATION))
    wanted = {"both": (0, 480), "no course": (480, 0), "no speed": (300, 0), "at rest": (0, 0)}
    for name, metres in wanted.items():
        assert moved[name] == pytest.approx(metres, abs=1.0), name


def test_it_is_judged_where_something_is_reported_and_nowhere_else(make_corpus: MakeCorpus) -> None:
    told = make_corpus(boat("a", 5, 90), cut=EVALUATION)
    mute = make_corpus(track("a", MINUTES, MINUTES), cut=EVALUATION, name="mute.parquet")
    with_it, without = (
        judge_forecasts(Sample("world", "all", "-", corpus, 1, 1), None)["horizons"]["60"] for corpus in (told, mute)
    )
    assert with_it[REPORTED]["mean_m"] < 0.5
    assert with_it[REPORTED]["coverage_90"] is None
    assert REPORTED not in without
