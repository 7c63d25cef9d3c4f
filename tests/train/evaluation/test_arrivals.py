"""The judge of arrivals, in worlds of which the answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_worlds import MakeCorpus, WriteFile, together, track

from model.api import ModelConfig, Predictor
from model.arrivals.believing import believe
from model.arrivals.passages import Passages
from train.data.anchors import find_anchors
from train.data.cutting import EVALUATION
from train.evaluation import arrivals
from train.evaluation.arrivals import RADIUS_M, judge_arrivals, pose_questions
from train.evaluation.forecasts import open_samples

CONFIG = ModelConfig(d=16, heads=2, window=16)
DAY_MS = 86_400_000
START_MS = 1_211_018_404_000


def line(entity: str, mps: float, *, day: int = 0, pings: int = 80) -> dict[str, list[Any]]:
    """A drive on one line, of which it is known when it is where."""
    at_s = [30.0 * n for n in range(pings)]
    return track(entity, at_s, [mps * t for t in at_s], start_ms=START_MS + day * DAY_MS)


def test_a_question_is_when_an_entity_is_first_inside(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(together(*(line(f"v{n}", 5.0 + n) for n in range(4))), cut=EVALUATION)
    anchors = find_anchors(corpus)
    asked = pose_questions(corpus, anchors)
    assert len(asked.seconds) > 50
    mps = np.array([5.0 + n for n in range(4)])[corpus.entity[anchors.track[asked.anchor]]]
    np.testing.assert_allclose(asked.seconds, asked.distance_m / mps, rtol=2e-3)
    np.testing.assert_allclose(np.hypot(*asked.place_m.T) - RADIUS_M, asked.distance_m)


def test_who_stays_where_it_is_is_asked_nothing(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(together(line("a", 0.01), line("b", 0.02)), cut=EVALUATION)
    assert len(pose_questions(corpus, find_anchors(corpus)).seconds) == 0


def test_a_fleet_that_went_there_before_is_told_to_arrive_as_then(write_file: WriteFile, tmp_path: Path) -> None:
    """The untrained model is constant velocity, which these vehicles do not have: all wait for ten minutes half way."""

    def halting(entity: str, day: int) -> dict[str, list[Any]]:
        at_s = [30.0 * n for n in range(100)]
        east = [8.0 * (t if t < 900 else max(900.0, t - 600)) for t in at_s]
        return track(entity, at_s, east, start_ms=START_MS + day * DAY_MS)

    rows = together(*(halting(f"v{n}", day) for day in range(4) for n in range(12)))
    file = write_file(rows, "halting.parquet")
    (sample,) = open_samples([file], "test", cache_dir=tmp_path)
    report = judge_arrivals(sample, Predictor.untrained(CONFIG, capacity=4))
    scores = report["predictors"]
    assert report["passages_known"] > 0.4
    assert scores["passages_median"]["mae_s"] < 0.7 * scores["median_speed"]["mae_s"]
    assert 0 <= scores["arrivals"]["coverage_80"] <= scores["arrivals"]["coverage_90"] <= 1
    assert set(report["geofences"]) == {"60", "300", "900"}
    for steps in report["geofences"].values():
        assert all(step["from"] <= step["chance"] <= step["from"] + 0.1 for step in steps)


def test_arrivals_are_told_from_forecasts_and_so_need_a_model(write_file: WriteFile, tmp_path: Path) -> None:
    file = write_file(together(*(line(f"v{n}", 5.0 + n) for n in range(4))), "lines.parquet")
    (sample,) = open_samples([file], "all", cache_dir=tmp_path)
    with pytest.raises(ValueError, match="--weights"):
        judge_arrivals(sample, None)


def test_what_is_believed_is_found_on_tracks_that_are_not_judged(
    write_file: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[Passages]()
    monkeypatch.setattr(arrivals, "believe", lambda passages: asked.append(passages) or believe(passages))
    rows = together(*(line(f"v{n}", 5.0 + n, day=day) for n in range(12) for day in range(3)))
    (sample,) = open_samples([write_file(rows, "lines.parquet")], "test", cache_dir=tmp_path)
    judge_arrivals(sample, Predictor.untrained(CONFIG, capacity=4))
    (passages,) = asked
    judged = sample.corpus
    known = set(zip(passages.entity.tolist(), passages.ts_ms.tolist(), strict=True))
    for entity, (first, last) in zip(judged.entity.tolist(), judged.tracks.tolist(), strict=True):
        assert not known & {(entity, int(ts)) for ts in judged.ts_ms[first:last]}
    assert len(passages) > 1_000
