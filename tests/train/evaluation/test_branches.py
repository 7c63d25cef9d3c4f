"""What branches are judged by, in a case that is worked out by hand; and that the evaluation prints it."""

from __future__ import annotations

import numpy as np
import pytest
from train_worlds import MakeCorpus, together, track

from model.atlas.branching import Branches
from train.data.anchors import HORIZONS_S, Anchors
from train.evaluation.atlas import judge_branches

NAN = np.nan


def test_branches_are_judged_by_where_the_thing_went(make_corpus: MakeCorpus) -> None:
    """A bus goes east at 10 m/s. Of four anchors, three have branches at 60 s, of which one has no target."""
    times = np.arange(0, 600, 30.0)
    corpus = make_corpus(together(track("bus", times.tolist(), (10.0 * times).tolist(), (0.0 * times).tolist())))
    target = np.full((4, 1 + len(HORIZONS_S)), -1)
    target[:3, 1] = [2, 3, 4]
    anchors = Anchors(np.arange(4), np.zeros(4, np.int64), target, np.tile([30.0, *HORIZONS_S], (4, 1)))
    parted = Branches.none(4, len(HORIZONS_S))
    parted.share[[0, 1, 3]] = [[0.7, 0.3, 0], [0.5, 0.3, 0.2], [0.6, 0.4, 0]]
    east, aside = [600.0, 0.0], [600.0, 800.0]
    parted.mean_m[0, :2, 0] = east, aside
    parted.mean_m[1, :3, 0] = aside, [500.0, 0.0], [0.0, 0.0]
    parted.mean_m[3, :2, 0] = east, aside
    errors_m = np.array([[40.0, NAN, NAN], [60.0, NAN, NAN], [70.0, NAN, NAN], [NAN, NAN, NAN]])
    (row,) = judge_branches(corpus, anchors, parted, errors_m)
    assert (row["horizon_s"], row["anchors"], row["of"]) == (60.0, 2, 3)
    assert (row["forecast_m"], row["share"], row["went"]) == pytest.approx((50.0, 0.6, 0.5))
    assert (row["likeliest_m"], row["nearest_m"]) == pytest.approx((400.0, 50.0), abs=1.0)


def test_without_branches_there_is_nothing_to_judge(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(together(track("bus", [0.0, 60.0], [0.0, 600.0], [0.0, 0.0])))
    target = np.array([[1, 1, -1, -1]])
    anchors = Anchors(np.zeros(1, np.int64), np.zeros(1, np.int64), target, np.tile([30.0, *HORIZONS_S], (1, 1)))
    assert judge_branches(corpus, anchors, Branches.none(1, 3), np.array([[40.0, NAN, NAN]])) == []
