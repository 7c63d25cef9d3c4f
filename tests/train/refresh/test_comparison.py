"""Both on the same forecasts: what a challenger gains on average does not hide what it loses for some."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from train_worlds import MakeCorpus, together, wander

from model.kinematics.geo import F64, M_PER_DEG
from train.data import anchors as anchoring
from train.data.anchors import Anchors
from train.data.corpus import Corpus
from train.data.cutting import EVALUATION
from train.evaluation.rollout import Answers
from train.refresh.comparison import compare_answers
from train.refresh.decision import ALL, Comparison, decide

TAXIS, BUSES = 24, 8


@pytest.fixture
def fleet(make_corpus: MakeCorpus) -> Corpus:
    """Taxis, and a quarter of buses, with a ping every 30 s."""
    columns = together(*(wander(f"v{i:02}", 60, i) for i in range(TAXIS + BUSES)))
    modes = ["bus" if int(name[1:]) >= TAXIS else "taxi" for name in columns["entity_id"]]
    return make_corpus({**columns, "mode": modes}, cut=EVALUATION)


def is_bus(corpus: Corpus, anchors: Anchors) -> F64:
    return np.asarray(corpus.mode[anchors.track] == corpus.modes.index("bus"), np.float64)


def off(corpus: Corpus, anchors: Anchors, metres: F64, sigma_m: float) -> Answers:
    """Answers that are about so many metres (A,) off, in any direction, and whose covariance says sigma_m."""
    rng = np.random.default_rng(0)
    target = np.maximum(anchors.target, 0)
    away = rng.normal(0, 1, (*target.shape, 2)) * metres[:, None, None] / M_PER_DEG
    lat = corpus.lat[target] + away[..., 0]
    lon = corpus.lon[target] + away[..., 1] / np.cos(np.radians(corpus.lat[target]))
    cov = np.broadcast_to(np.array([1.0, 0.0, 1.0]) * sigma_m**2, (*target.shape, 3))
    return Answers(lat, lon, np.array(cov))


def judged(corpus: Corpus, taxis_m: float, buses_m: float, sigma_m: float = 100.0) -> list[Comparison]:
    """A challenger so far off for each, against a champion that is off by 120 m."""
    anchors = anchoring.find_anchors(corpus)
    buses = is_bus(corpus, anchors)
    champion = off(corpus, anchors, np.full(len(buses), 120.0), 100.0)
    challenger = off(corpus, anchors, taxis_m + buses * (buses_m - taxis_m), sigma_m)
    return list(compare_answers("fleet.parquet", corpus, anchors, champion, challenger))


def test_nearer_for_all_is_promoted(fleet: Corpus) -> None:
    decision = decide([], judged(fleet, 100.0, 100.0), [])
    assert decision.promote, decision.sentence
    whole = next(row for row in decision.numbers["judged"] if row["stratum"] == ALL)
    assert whole["change"] == pytest.approx(100 / 120 - 1, abs=0.001)
    assert whole["entities"] == TAXIS + BUSES


def test_better_on_average_but_worse_for_buses_is_refused_for_the_buses(fleet: Corpus) -> None:
    found = judged(fleet, 95.0, 126.0)
    whole = [one for one in found if one.stratum == ALL]
    assert all(one.high_m < 0 for one in whole)  # on average it is nearer at every horizon, beyond chance
    decision = decide([], found, [])
    assert not decision.promote
    assert {reason.rpartition(", ")[2].split(" (")[0] for reason in decision.reasons} == {"bus"}


def test_an_overconfident_challenger_is_refused_for_its_regions(fleet: Corpus) -> None:
    decision = decide([], judged(fleet, 100.0, 100.0, sigma_m=50.0), [])
    assert not decision.promote
    assert all("regions hold" in reason for reason in decision.reasons)
    assert any(reason.startswith("90 %") for reason in decision.reasons)


def test_kinds_cadences_and_motion_are_strata(fleet: Corpus) -> None:
    names = {one.stratum for one in judged(fleet, 100.0, 100.0)}
    assert {ALL, "bus", "taxi", "cadence 10-45 s", "moving", "stopped", "turning"} <= names


def test_a_file_of_one_kind_has_no_stratum_of_it(fleet: Corpus) -> None:
    taxis = fleet.select(fleet.mode == fleet.modes.index("taxi"))
    assert "taxi" not in {one.stratum for one in judged(taxis, 100.0, 100.0)}


def test_no_mode_beside_one_is_no_kind(fleet: Corpus) -> None:
    some = replace(fleet, mode=np.where(fleet.mode == fleet.modes.index("taxi"), -1, fleet.mode).astype(np.int32))
    names = {one.stratum for one in compared_alone(some)}
    assert "bus" in names
    assert "taxi" not in names


def compared_alone(corpus: Corpus) -> list[Comparison]:
    anchors = anchoring.find_anchors(corpus)
    answers = off(corpus, anchors, np.full(len(anchors.row), 120.0), 100.0)
    return list(compare_answers("fleet.parquet", corpus, anchors, answers, answers))
