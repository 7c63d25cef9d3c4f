"""Trees: what they can learn in a world with one rule, and what they may see."""

from __future__ import annotations

import numpy as np
import pytest
from train_worlds import MakeCorpus, together, track

from train.data.anchors import find_anchors
from train.data.corpus import Corpus
from train.data.cutting import EVALUATION
from train.evaluation.baselines.trees import train_trees
from train.evaluation.forecasts import error_en_m

FAR_S = (300.0,)


def zigzag(entity: str, seed: int, *, lat: float = 37.75) -> dict[str, list[object]]:
    """A car that turns left and right by turns at every ping, wherever it heads: no physics knows it, a tree can."""
    heading = np.random.default_rng(seed).uniform(0, 7) + np.where(np.arange(60) % 2 == 0, 0.0, np.pi / 2)
    east, north = np.cumsum(500.0 * np.stack([np.sin(heading), np.cos(heading)], axis=1), axis=0).T
    return track(entity, [60.0 * i for i in range(60)], east.tolist(), north.tolist(), lat=lat)


def miss_m(trained: Corpus, judged: Corpus) -> float:
    """Mean error at the next ping."""
    anchors = find_anchors(judged, FAR_S)
    answers = train_trees(trained, FAR_S, rounds=40).answers(judged, anchors)
    assert answers.cov_m2 is None
    target, at = anchors.target[:, 0], judged.lat[anchors.row]
    error = error_en_m(judged.lat[target], judged.lon[target], answers.lat[:, 0], answers.lon[:, 0], at)
    return float(np.hypot(*error.T).mean())


def test_trees_learn_a_turn_that_no_physics_knows_in_every_heading(make_corpus: MakeCorpus) -> None:
    trained = make_corpus(together(*(zigzag(f"v{i}", i) for i in range(30))), cut=EVALUATION)
    judged = make_corpus(together(*(zigzag(f"w{i}", 100 + i) for i in range(5))), cut=EVALUATION, name="other.csv")
    assert miss_m(trained, judged) < 120  # of a step of 500 m; going straight on is off by 707 m


def test_trees_without_position_say_the_same_anywhere(make_corpus: MakeCorpus) -> None:
    trained = make_corpus(together(*(zigzag(f"v{i}", i) for i in range(30))), cut=EVALUATION)
    here, there = (make_corpus(zigzag("w", 7, lat=lat), cut=EVALUATION, name=f"{lat:g}.csv") for lat in (1.0, 60.0))
    # not to the metre: 1e-7 deg of the fixes are another length there, and a tree cuts finely
    assert miss_m(trained, here) == pytest.approx(miss_m(trained, there), rel=0.25)


def test_trees_with_position_see_four_numbers_more(make_corpus: MakeCorpus) -> None:
    trained = make_corpus(together(*(zigzag(f"v{i}", i) for i in range(10))), cut=EVALUATION)
    seen = []
    for absolute in (False, True):
        (pair, _) = train_trees(trained, FAR_S, absolute=absolute, rounds=1).pairs
        assert pair is not None
        seen.append(pair[0].num_feature())
    assert seen[1] == seen[0] + 4  # latitude, longitude, and the heading as two


def test_the_same_tracks_grow_the_same_trees_and_fewer_rows_other_ones(make_corpus: MakeCorpus) -> None:
    trained = make_corpus(together(*(zigzag(f"v{i}", i) for i in range(10))), cut=EVALUATION)
    anchors = find_anchors(trained, FAR_S)
    one, same, other = (
        train_trees(trained, FAR_S, rounds=10, rows=rows).answers(trained, anchors).lat for rows in (400, 400, 120)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
