"""Live scores against `pathcast evaluate`, on the demo's buses, with the same weights.

They differ where they have to. The evaluation cuts tracks at silences and jumps, wants eight earlier pings, and begins
its model anew at each cut; a worker goes on. The evaluation asks the model for the real time of a horizon's ping; a
score reads the record there.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stream
from model.api import Predictor
from stream.adapters.options import recording_of
from stream.commands.replay import engine_of, records_of
from stream.config.settings import UNLIMITED, Settings
from stream.services.scores.scoring.scorer import Scorer
from stream.services.scores.scoring.waiting import ScoringRules
from stream.wire import Outcome, Score
from train.evaluation import published
from train.evaluation.forecasts import measure_column, open_samples, roll_out
from train.evaluation.metrics import is_inside

SAMPLE = Path(stream.__file__).parent / "demo" / "sample" / "austin_buses.csv.gz"
COLUMNS = ("next", 60.0, 300.0, 900.0)


@pytest.fixture(scope="module")
def scores() -> dict[tuple[str, int], Score]:
    settings = Settings(max_stored_entities=UNLIMITED)
    rows = list(recording_of(str(SAMPLE), None).in_order())
    records = records_of(rows, 0, settings.topics.pings, 1_700_000_000_000)
    answers = asyncio.run(engine_of(settings).process(records, started_ms=0.0, fetched_ms=0.0))
    scorer, found = Scorer(ScoringRules()), []
    for offset, answer in enumerate(one for one in answers if one.topic == settings.topics.forecasts):
        found += scorer.fold(offset, answer.value)
    for name in list(scorer._entities):  # the recording ends: nothing comes any more
        found += scorer._forget(name, "silent")
    return {(score.entity_id, score.anchor_ts): score for score in found}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Any:
    (sample,) = open_samples([SAMPLE], "all", cache_dir=tmp_path_factory.mktemp("corpora"))
    return sample.corpus, roll_out(sample, Predictor.load("small"))


@pytest.mark.parametrize("column", range(len(COLUMNS)), ids=map(str, COLUMNS))
def test_every_case_of_the_evaluation_has_the_same_target_and_nearly_the_same_errors(
    column: int, scores: dict[tuple[str, int], Score], judged: Any
) -> None:
    corpus, (anchors, answers, _, _, recorded, _) = judged
    asked = np.flatnonzero(anchors.target[:, column] >= 0)
    assert len(asked) > 1_500
    outcomes: list[Outcome] = []
    for i in asked:
        name, row = corpus.names[corpus.entity[anchors.track[i]]], anchors.row[i]
        score = scores[name, int(corpus.ts_ms[row])]
        outcomes.append(score.horizons[column - 1] if column else score.next)
    assert [one.dt_s for one in outcomes] == pytest.approx(anchors.dt_s[asked, column])

    damped = measure_column(corpus, anchors, answers["damped_velocity"], column, asked).distance_m
    # The record's degrees have seven digits: a centimetre of a step of ten seconds is half a metre after 900 s.
    assert [one.damped_error_m for one in outcomes] == pytest.approx(damped, abs=0.5, rel=1e-4)

    model = measure_column(corpus, anchors, answers["model"], column, asked)
    expected = model.distance_m if column else published.read_errors_m(corpus, anchors, recorded)
    found = np.array([one.error_m for one in outcomes])
    off = np.abs(found - expected)
    assert found.mean() == pytest.approx(expected.mean(), rel=0.006)
    if not column:  # the evaluation reads the record here, too
        assert np.quantile(off, 0.9) < 0.01
    assert np.median(off) < 0.015 * np.median(expected)

    assert model.surprise is not None
    inside90 = np.array([bool(one.inside90) for one in outcomes])
    assert inside90.mean() == pytest.approx(is_inside(model.surprise, 0.9).mean(), abs=0.01)
