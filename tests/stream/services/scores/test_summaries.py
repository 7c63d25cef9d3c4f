"""Summaries of scores: worked out by hand, and compared with the evaluation's."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scores_rig import records, score, scored

from stream.services.scores.summaries import atlas_version, by_version, compare_paired, summaries
from stream.services.scores.sums import Labels
from stream.wire import AtlasRef, Outcome, Score
from train.evaluation import metrics


def test_a_row_has_means_medians_skill_and_shares() -> None:
    some = [score(n, error_m=error) for n, error in enumerate((5.0, 10.0, 20.0, 40.0, 100.0))]
    ((labels, row),) = summaries([*some, score(9, damped_m=None, error_m=5.0)]).items()
    assert labels == Labels("a", "none", "next")
    assert (row.n, row.unscored, row.entities) == (6, 0, 5)
    assert row.mean_m.value == pytest.approx(30.0)
    assert row.median_m == 15.0
    assert row.damped_m == 20.0
    assert row.skill is not None
    assert row.skill.value == pytest.approx(1 - 175 / 100), "of the five that have both"
    assert row.inside50.value == pytest.approx(3 / 6)
    assert row.inside90.value == pytest.approx(4 / 6)


def test_scores_that_come_twice_count_once_and_those_of_warmup_and_late_pings_never() -> None:
    some = [score(n) for n in range(10)]
    noise = [score(90, status="warmup", error_m=1e6), score(91, status="stale", error_m=1e6)]
    assert summaries([*some, *some, *noise]) == summaries(some)


def test_what_no_ping_could_tell_is_counted_and_is_no_error() -> None:
    some = [score(n) for n in range(10)] + [score(n, next=Outcome()) for n in range(10, 14)]
    ((_, row),) = summaries(some).items()
    assert (row.n, row.unscored, row.mean_m.value) == (10, 4, 10.0)


def test_the_newest_of_each_version_are_those_of_the_latest_anchors() -> None:
    some = [score(n, version, error_m=float(n)) for version in "ab" for n in range(1, 101)]
    random.Random(0).shuffle(some)
    found = by_version(some, 10)
    assert found.keys() == {"a", "b"}
    for summary in found.values():
        assert (summary.forecasts, summary.from_ts, summary.to_ts) == (10, 91_000, 100_000)
        assert summary.horizons["next"].mean_m.value == pytest.approx(95.5)
    assert by_version(some, 0) == {}
    assert by_version(some)["a"].forecasts == 100


def test_versions_may_be_those_of_the_atlas() -> None:
    some = [score(n, atlas=None if n % 2 else AtlasRef("x", 3, False)) for n in range(10)]
    assert by_version(some, of=atlas_version).keys() == {"", "x"}


def test_intervals_are_those_of_the_evaluation() -> None:
    rng = np.random.default_rng(0)
    errors, entities = rng.gamma(2, 30, 500), rng.integers(0, 5, 500)
    some = [score(n, error_m=float(errors[n]), entity_id=f"e{entities[n]}") for n in range(500)]
    ((_, row),) = summaries(some).items()
    low, high, count = metrics.bootstrap_interval(errors, entities)
    assert row.entities == count
    assert (row.mean_m.low, row.mean_m.high) == pytest.approx((low, high))


def test_one_entity_gives_no_interval() -> None:
    ((_, row),) = summaries([score(n, entity_id="alone") for n in range(50)]).items()
    assert row.mean_m == (10.0, None, None)


def pair(seed: int, ratio: float, entities: int = 12) -> list[Score]:
    """Two versions on the same pings: errors of very different sizes by ping, `ratio` between the versions."""
    rng = random.Random(seed)
    found = []
    for n in range(600):
        size_m, name = math.exp(rng.gauss(5, 1.5)), f"e{n % entities}"
        found.append(score(n, "a", error_m=size_m * ratio * math.exp(rng.gauss(0, 0.1)), entity_id=name))
        found.append(score(n, "b", error_m=size_m, entity_id=name))
    return found


def test_paired_versions_differ_where_means_cannot_tell() -> None:
    some = pair(1, 0.95)
    found = compare_paired(some, "a", "b")
    assert found is not None
    assert (found.n, found.entities) == (600, 12)
    assert found.log_ratio.value == pytest.approx(math.log(0.95), abs=0.01)
    assert found.is_better
    assert not found.is_worse
    a, b = (by_version(some)[version].horizons["next"].mean_m for version in "ab")
    assert a.low is not None
    assert b.high is not None
    assert a.low < b.value < b.high, "their intervals overlap"
    back = compare_paired(some, "b", "a")
    assert back is not None
    assert back.is_worse


def test_versions_of_one_quality_are_not_told_apart() -> None:
    told = [compare_paired(pair(seed, 1.0), "a", "b") for seed in range(20)]
    assert sum(one is not None and (one.is_better or one.is_worse) for one in told) <= 4  # 5 % of 20, and chance


def test_only_pings_that_both_answered_are_compared() -> None:
    some = [score(n, "a") for n in range(10)] + [score(n, "b") for n in range(5, 15)]
    found = compare_paired(some, "a", "b")
    assert found is not None
    assert found.n == 5
    assert compare_paired(some, "a", "c") is None
    assert compare_paired(some, "a", "b", horizon="60") is None


def test_scores_of_a_made_up_fleet_are_summarised_by_version_atlas_and_horizon() -> None:
    rows = summaries(scored(records(1, minutes=240)))
    assert {(one.model, one.atlas) for one in rows} == {("m1", "none"), ("m2", "asked")}
    assert {one.horizon for one in rows} == {"next", "60", "300", "900"}
