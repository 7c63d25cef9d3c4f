"""Quantiles of arrival times, and the chances between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.arrivals.passages import Like
from model.arrivals.times import FLOOR_S, LEVELS, MEDIAN, PRIOR, Times, arrive, path_s

seconds = st.floats(1, 7_200)


def like(middle_s: float, spread: float = 1.2, count: int = 20) -> Like:
    taken = middle_s * spread ** np.linspace(-1, 1, count)
    return Like(taken, np.full(count, 1 / count), float(count), count, 0.9)


def test_a_path_that_leads_there_is_as_long_as_it_takes_to_the_edge() -> None:
    knots = np.array([0.0, 60.0, 300.0, 900.0])
    assert path_s(knots, np.array([[3_000.0, 2_400.0, 0.0, 6_000.0]]))[0] == pytest.approx(300, abs=10)
    away = path_s(knots, np.array([[1_000.0, 2_000.0, 3_000.0, 9_000.0]]))[0]
    assert away == pytest.approx(200), "who goes away has the straight way at a typical speed before him"


@given(
    st.lists(st.tuples(st.floats(0, 50_000), st.floats(0, 10_000), st.none() | seconds), min_size=1, max_size=5),
)
@settings(max_examples=100, deadline=None)
def test_quantiles_rise_and_are_times(questions: list[tuple[float, float, float | None]]) -> None:
    distance, path = (np.array([one[i] for one in questions]) for i in (0, 1))
    known = [None if one[2] is None else like(one[2]) for one in questions]
    found = arrive(distance, path, known).seconds
    assert found.shape == (len(questions), len(LEVELS))
    assert np.isfinite(found).all()
    assert (found >= 1).all()
    assert (np.diff(found, axis=1) >= 0).all()


def test_a_fleets_own_belief_is_used() -> None:
    own = PRIOR._replace(alone=np.stack([5.0 + np.arange(7), np.zeros(7), np.zeros(7)], axis=-1))
    found = arrive(np.array([3_000.0]), np.array([600.0]), [None], own).seconds[0]
    np.testing.assert_allclose(found, np.exp(5.0 + np.arange(7)) - FLOOR_S)


def test_of_a_fleet_unknown_the_path_and_the_passages_count_alike() -> None:
    alone, both = (arrive(np.array([3_000.0]), np.array([600.0]), [one]).seconds[0] for one in (None, like(1_200.0)))
    assert alone[MEDIAN] == pytest.approx(600)
    assert both[MEDIAN] + FLOOR_S == pytest.approx(np.sqrt((600 + FLOOR_S) * (1_200 + FLOOR_S)), rel=0.01)


def test_of_a_fleet_unknown_few_passages_and_passages_that_differ_make_it_wider() -> None:
    def width(one: Like) -> float:
        found = arrive(np.array([3_000.0]), np.array([600.0]), [one]).seconds[0]
        return float(np.log((found[-1] + FLOOR_S) / (found[0] + FLOOR_S)))

    many, few, differ = (
        like(600.0, 1.2),
        like(600.0, 1.2)._replace(passages=4.0),
        like(600.0, 2.0)._replace(passages=4.0),
    )
    assert 1.1 * width(many) < width(few) < width(differ)


def test_passages_that_took_twice_as_long_make_it_later() -> None:
    short, long = (arrive(np.array([3_000.0]), np.array([600.0]), [like(s)]).seconds for s in (400.0, 800.0))
    assert (long > short).all()


@given(st.lists(st.floats(2, 5_000), min_size=7, max_size=7), st.lists(st.floats(-10, 1e6), min_size=2, max_size=2))
@settings(max_examples=200, deadline=None)
def test_a_chance_is_one_between_levels_and_rises(quantiles: list[float], asked: list[float]) -> None:
    times = Times(np.sort(np.array([quantiles]), axis=1))
    early, late = sorted(asked)
    first, second = (float(times.chance_by(np.array([s]))[0]) for s in (early, late))
    assert 0 <= first <= second + 1e-12 <= 1 + 1e-9
    for number, level in enumerate(LEVELS):
        at = times.seconds[0, number]
        same = np.isclose(times.seconds[0], at)
        chance = float(times.chance_by(np.array([at]))[0])
        assert LEVELS[same].min() - 1e-6 <= chance <= LEVELS[same].max() + 1e-6, level
