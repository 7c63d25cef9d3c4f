"""The scorer on cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from train.evaluation.metrics import (
    bootstrap_interval,
    compare_pairs,
    energy_score,
    mahalanobis2,
    measure,
    reliability,
    score,
    time_factor,
)


def test_mean_median_and_p90_of_errors_worked_by_hand() -> None:
    errors = np.array([[3.0, 4.0], [0.0, 0.0], [-6.0, 8.0], [0.0, 20.0]])  # 5, 0, 10, 20 m
    result = score(measure(errors), np.array([1, 1, 2, 2]))
    assert (result.n, result.entities) == (4, 2)
    assert result.mean_m == 8.75
    assert result.median_m == 7.5
    assert result.p90_m == pytest.approx(17.0)  # three tenths of the way down from 20 to 10
    assert result.crps_m == result.mean_m  # of a point forecast
    assert result.coverage_50 is None
    assert result.coverage_90 is None
    assert result.coverage_90_low is None


def test_given_distances_take_the_place_of_the_errors_length() -> None:
    assert score(measure(np.zeros((2, 2)), None, np.array([1.0, 3.0])), np.zeros(2, int)).mean_m == 2.0


def test_coverage_counts_errors_inside_the_ellipse() -> None:
    # variances 4 and 1: the 50 % ellipse has the half axes 2.35 and 1.18 m, the 90 % one 4.29 and 2.15 m
    cov = np.tile([4.0, 0.0, 1.0], (4, 1))
    errors = np.array([[2.3, 0.0], [0.0, 1.3], [0.0, 2.1], [4.4, 0.0]])
    result = score(measure(errors, cov), np.zeros(4, int))
    assert result.coverage_50 == 0.25
    assert result.coverage_90 == 0.75


def test_the_interval_of_a_coverage_is_that_of_its_entities() -> None:
    """Nine vehicles whose every error is inside and one whose none is: 90 %, and not at all sure."""
    errors = np.repeat([[0.1, 0.0]] * 9 + [[9.0, 0.0]], 100, axis=0)
    cases = measure(errors, np.tile([1.0, 0.0, 1.0], (1000, 1)))
    result = score(cases, np.repeat(np.arange(10), 100))
    assert result.coverage_90 == 0.9
    assert (result.coverage_90_low, result.coverage_90_high) == pytest.approx((0.7, 1.0))
    mixed = score(cases, np.arange(1000) % 10)  # the same errors, each vehicle with its tenth of the misses
    assert (mixed.coverage_90_low, mixed.coverage_90_high) == pytest.approx((0.9, 0.9))


def test_a_tilted_ellipse_holds_more_along_than_across() -> None:
    cov = np.tile([5.0, 4.0, 5.0], (2, 1))  # variance 9 along (1, 1), 1 across
    np.testing.assert_allclose(mahalanobis2(np.array([[3.0, 3.0], [3.0, -3.0]]), cov), [2.0, 18.0])


def test_a_covariance_without_area_is_widened_not_divided_by() -> None:
    squared = mahalanobis2(np.array([[1.0, 0.0], [0.0, 0.0]]), np.zeros((2, 3)))
    np.testing.assert_allclose(squared, [1e4, 0.0])
    lines = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, 1.0]])  # along both diagonals
    assert np.isfinite(energy_score(np.ones((2, 2)), lines)).all()
    assert np.isfinite(mahalanobis2(np.ones((2, 2)), lines)).all()


def test_energy_score_equals_the_mean_over_many_samples() -> None:
    rng = np.random.default_rng(1)
    factor = np.array([[80.0, 0.0], [60.0, 20.0]])
    full, error = factor @ factor.T, np.array([50.0, -120.0])
    one, other = (rng.normal(size=(200_000, 2)) @ factor.T for _ in range(2))
    sampled = np.hypot(*(one - error).T).mean() - np.hypot(*(one - other).T).mean() / 2
    found = energy_score(error[None], np.array([[full[0, 0], full[0, 1], full[1, 1]]]))[0]
    assert found == pytest.approx(sampled, rel=0.01)


def test_the_interval_is_by_entity_not_by_case() -> None:
    rng = np.random.default_rng(3)
    entity = np.repeat(np.arange(20), 200)
    alike = rng.exponential(100, 20)[entity]  # every case of an entity has the same error
    low, high, entities = bootstrap_interval(alike, entity)
    assert entities == 20
    assert low < alike.mean() < high
    as_cases = bootstrap_interval(alike, np.arange(4_000))
    assert high - low > 5 * (as_cases[1] - as_cases[0])
    assert bootstrap_interval(alike, np.zeros(4_000, int))[:2] == pytest.approx((alike.mean(),) * 2)
    assert bootstrap_interval(alike, entity) == (low, high, entities)


def test_the_interval_holds_the_mean_of_ninety_five_of_a_hundred_draws() -> None:
    value = np.arange(100.0)
    low, high, _ = bootstrap_interval(value, np.arange(100), resamples=5_000)
    error = value.std() / np.sqrt(100)
    assert (low, high) == pytest.approx((value.mean() - 1.96 * error, value.mean() + 1.96 * error), abs=error / 8)


def test_the_interval_is_of_the_mean_that_is_reported_however_unlike_the_entities() -> None:
    """Half of the vehicles report nine times and err by 10 m, half of them once, by 110 m: 20 m on average, not 60."""
    entity = np.concatenate([np.repeat(np.arange(50), 9), np.arange(50, 100)])
    value = np.where(entity < 50, 10.0, 110.0)
    low, high, _ = bootstrap_interval(value, entity)
    assert low < value.mean() == 20.0 < high < 30.0


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to score"):
        score(measure(np.empty((0, 2))), np.empty(0, int))
    with pytest.raises(ValueError, match="1 errors in 2 cases are not finite"):
        measure(np.array([[1.0, 1.0], [np.nan, 1.0]]))
    with pytest.raises(ValueError, match="covariances"):
        measure(np.ones((1, 2)), np.array([[np.inf, 0.0, 1.0]]))


def test_a_choice_of_cases_takes_every_column() -> None:
    cases = measure(np.array([[3.0, 4.0], [0.0, 1.0]]), np.tile([1.0, 0.0, 1.0], (2, 1)))
    chosen = cases.select(np.array([False, True]))
    assert chosen.distance_m.tolist() == [1.0]
    assert chosen.energy_m is not None
    assert chosen.surprise is not None
    assert chosen.surprise.tolist() == [1.0]
    assert measure(np.zeros((2, 2))).select(np.array([0])).energy_m is None


def test_a_pair_is_compared_case_by_case() -> None:
    hard = np.array([1.0, 10.0, 100.0, 1_000.0])  # the same cases for both, one metre apart
    result = compare_pairs(hard + 1, hard, np.arange(4))
    assert result.difference_m == pytest.approx(1.0)
    assert (result.low_m, result.high_m) == pytest.approx((1.0, 1.0))
    assert result.ratio == pytest.approx(1115 / 1111)
    assert compare_pairs(hard, 0 * hard, np.arange(4)).ratio is None


def test_a_pair_s_interval_is_by_entity() -> None:
    """One is a metre better on one vehicle and a metre worse on the other: two opinions, not two hundred."""
    result = compare_pairs(np.repeat([9.0, 11.0], 100), np.full(200, 10.0), np.repeat([1, 2], 100))
    assert (result.difference_m, result.low_m, result.high_m) == (0.0, -1.0, 1.0)


def test_reliability_is_coverage_at_each_nominal_share() -> None:
    squared = -2 * np.log1p(-np.array([0.05, 0.15, 0.25, 0.85]))  # the regions on whose rim the errors lie
    assert reliability(squared, (0.1, 0.2, 0.5, 0.9)) == [0.25, 0.5, 0.75, 1.0]


def test_a_time_is_off_by_the_same_factor_early_or_late() -> None:
    entity = np.array([0, 0, 1, 1])
    found = time_factor(np.array([20.0, 5.0, 40.0, 2.5]), np.full(4, 10.0), entity)
    assert (found.n, found.entities) == (4, 2)
    assert found.factor == pytest.approx(
        np.sqrt(2.0 * 4.0)
    )  # twice and half of one, four times and a quarter of the other
    assert (found.low, found.high) == pytest.approx((2.0, 4.0))  # of two entities, both draws of one occur
    assert time_factor(np.ones(1), np.ones(1), entity[:1]).factor == 1.0
