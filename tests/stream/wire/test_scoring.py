"""Scores of published forecasts, by cases worked out by hand. One degree of latitude is 111,195 m."""

from __future__ import annotations

import math

import numpy as np
import pytest
from forecast_rig import forecast_of
from msgspec.structs import replace

from model.api import ModelConfig
from stream.wire import Anchor, Forecast, Horizon, NextStep
from stream.wire.positions import COV_OF_SCALE, covariance, covariance_at, mahalanobis2, position, position_at, radius2
from stream.wire.scoring import DAMPING_S, Errors, distance_m, errors, score

DEGREE_M = 111_195.0
NO_COV = (1.0, 0.0, 1.0)


def forecast(
    ts_s: float,
    lat: float,
    *,
    dt_s: float = 30,
    d_lat: float = 0.0,
    h: dict[float, float] | None = None,
    lon: float = 10.0,
) -> Forecast:
    """A forecast that stays on its meridian: `h` is the latitude at each horizon."""
    horizons = {60.0: lat, 300.0: lat, 900.0: lat} if h is None else h
    step = NextStep(dt_s=dt_s, d_east_m=0, d_north_m=d_lat * DEGREE_M, d_lat=d_lat, d_lon=0, cov_m2=NO_COV)
    ahead = [Horizon(h_s, at, lon, NO_COV) for h_s, at in horizons.items()]
    return forecast_of("bus", Anchor(int(ts_s * 1000), lat, lon), step, ahead)


def track(*points: tuple[float, float]) -> dict[str, list[Anchor]]:
    return {"bus": [Anchor(int(ts_s * 1000), lat, 10.0) for ts_s, lat in points]}


@pytest.mark.parametrize(
    ("ahead_s", "lat"),
    [
        pytest.param(0, 50.0, id="the anchor itself"),
        pytest.param(15, 50.5, id="halfway to next"),
        pytest.param(30, 51.0, id="next"),
        pytest.param(45, 51.5, id="between next and the first horizon"),
        pytest.param(180, 53.0, id="between horizons"),
        pytest.param(960, 14.4, id="beyond the last, on as between the last two"),
    ],
)
def test_the_path_is_straight_between_its_places(ahead_s: float, lat: float) -> None:
    path = forecast(0, 50.0, dt_s=30, d_lat=1.0, h={60: 52.0, 300: 54.0, 900: 18.0})
    assert position(path, ahead_s) == pytest.approx((lat, 10.0))


def test_a_next_step_beyond_a_horizon_takes_its_place_in_time() -> None:
    path = forecast(0, 50.0, dt_s=120, d_lat=3.0, h={60: 51.0, 300: 54.5, 900: 60.0})
    assert position(path, 90)[0] == pytest.approx(52.0)
    assert position(path, 210)[0] == pytest.approx(53.75)


def test_errors_of_the_four_are_distances_to_the_same_ping() -> None:
    # 0.001 deg/s north before the anchor; then the bus slows to half of that, and the forecast says a quarter.
    path = forecast(100, 50.0, dt_s=40, d_lat=0.01)
    found = errors(path, Anchor(90_000, 49.99, 10.0), Anchor(140_000, 50.02, 10.0))
    damped_s = 200 * (1 - math.exp(-40 / 200))  # what 40 s are worth to a velocity that decays: 36.25 s
    damped = abs(0.001 * damped_s - 0.02)
    expected = Errors(0.01 * DEGREE_M, 0.02 * DEGREE_M, damped * DEGREE_M, 0.02 * DEGREE_M)
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_damped_velocity_of_the_demo_is_that_of_the_judge() -> None:
    assert ModelConfig().damping_s == DAMPING_S


def test_a_position_is_read_at_a_time_of_the_clock() -> None:
    path = forecast(100, 50.0, dt_s=30, d_lat=1.0, h={60: 52.0, 300: 54.0, 900: 18.0})
    assert position_at(path, 145_000) == pytest.approx((51.5, 10.0))
    assert position_at(path, 100_000) == pytest.approx((50.0, 10.0))
    with pytest.raises(ValueError, match="earlier time"):
        position_at(path, 99_999)


def test_a_position_beyond_the_date_line_is_a_longitude() -> None:
    path = forecast(0, 0.0, dt_s=30, lon=179.999)
    path = replace(path, next=replace(path.next, d_lon=0.004))
    assert position(path, 30) == pytest.approx((0.0, -179.997))


NOBODY: dict[str, list[float]] = {"next": [], "60": [], "300": [], "900": []}


@pytest.mark.parametrize(
    ("pings", "stays"),
    [
        # 60 s: 73 is 63 s after the anchor, and 49 only 39 s. 300 s: 310 is exact. 900 s: 1089 is 1079 s after, the
        # last second that a fifth allows.
        pytest.param(
            [(0, 50.0), (10, 50.0), (49, 50.1), (73, 50.2), (310, 50.3), (1089, 50.4)],
            {"next": [0.1], "60": [0.2], "300": [0.3], "900": [0.4]},
            id="the next ping and the nearest within a fifth",
        ),
        pytest.param(
            [(0, 50.0), (10, 50.0), (83, 50.2), (1091, 50.4)], {**NOBODY, "next": [0.2]}, id="none near a horizon"
        ),
        pytest.param([(0, 50.0), (10, 50.0), (1091, 50.4)], NOBODY, id="a long silence is no step"),
        pytest.param([(10, 50.0), (70, 50.1)], NOBODY, id="the first ping has none for anybody"),
        pytest.param(
            [(0, 50.0), (10, 50.0), (60, 50.1), (80, 50.2)],
            {**NOBODY, "next": [0.1], "60": [0.1]},
            id="the earlier of two as near",
        ),
    ],
)
def test_a_forecast_is_compared_with(pings: list[tuple[float, float]], stays: dict[str, list[float]]) -> None:
    pairs = score([forecast(10, 50.0)], track(*pings))
    assert {name: [round(pair.stay / DEGREE_M, 2) for pair in found] for name, found in pairs.items()} == stays


def test_each_list_has_the_same_pairs_for_all_four() -> None:
    steps = [(30.0 * n, 50 + 0.001 * n) for n in range(60)]  # the last is 1770 s: 48, 240 and 720 s must remain
    pairs = score([forecast(ts, lat) for ts, lat in steps], track(*steps))
    assert {name: len(found) for name, found in pairs.items()} == {"next": 58, "60": 57, "300": 51, "900": 35}
    assert all(pair.constant_velocity < 0.01 for found in pairs.values() for pair in found), "the bus never turns"


def test_nothing_crosses_the_world_at_the_date_line() -> None:
    path = forecast(100, 0.0, lon=179.999)
    found = errors(path, Anchor(0, 0.0, 179.998), Anchor(200_000, 0.0, -180.0))
    assert found.constant_velocity == pytest.approx(0, abs=1)
    assert found.stay == pytest.approx(111.2, abs=0.1)


def test_a_path_over_the_date_line_goes_the_short_way() -> None:
    path = forecast(0, 0.0, dt_s=30, lon=179.999)
    path = replace(path, horizons=tuple(replace(horizon, lon=-179.999) for horizon in path.horizons))
    assert distance_m(*position(path, 45), 0.0, 180.0) == pytest.approx(0, abs=1)


def test_a_next_step_as_far_as_the_last_horizon_is_one_place_with_it() -> None:
    path = forecast(0, 50.0, dt_s=900, d_lat=9.0, h={60: 50.6, 300: 53.0, 900: 59.0})
    assert position(path, 960)[0] == pytest.approx(59.6)


def test_the_distance_is_the_great_circle() -> None:
    assert distance_m(0, 0, 0, 90) == pytest.approx(10_007_557, abs=1)  # a quarter of the equator of the mean sphere


def spread(next_s: float, next_cov: tuple[float, float, float], h: dict[float, tuple[float, float, float]]) -> Forecast:
    plain = forecast(0, 50.0, dt_s=next_s, h=dict.fromkeys(h, 50.0))
    horizons = tuple(replace(one, cov_m2=h[one.h_s]) for one in plain.horizons)
    return replace(plain, next=replace(plain.next, cov_m2=next_cov), horizons=horizons)


@pytest.mark.parametrize(
    ("ahead_s", "cov_m2"),
    [
        pytest.param(0, (0.0, 0.0, 0.0), id="the anchor itself"),
        pytest.param(30, (100.0, 60.0, 400.0), id="next"),
        pytest.param(15, (25.0, 15.0, 100.0), id="halfway to next: half of the deviations, the same correlation"),
        pytest.param(45, (400.0, 0.15 * 20 * 30, 900.0), id="between next and the first horizon"),
        pytest.param(60, (900.0, 0.0, 1600.0), id="a horizon"),
        pytest.param(75, (1600.0, -0.15 * 40 * 50, 2500.0), id="beyond the last, on as between the last two"),
    ],
)
def test_deviations_and_correlation_are_straight_between_the_places(
    ahead_s: float, cov_m2: tuple[float, float, float]
) -> None:
    path = spread(30, (100.0, 60.0, 400.0), {60.0: (900.0, 0.0, 1600.0)})
    assert covariance(path, ahead_s) == pytest.approx(cov_m2)
    assert covariance_at(path, 1000 * round(ahead_s)) == pytest.approx(cov_m2)
    with pytest.raises(ValueError, match="says nothing of an earlier time"):
        covariance_at(path, -1)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_region_holds_its_share_of_a_student_t(share: float) -> None:
    """Drawn as a Gaussian over the root of chi² over its 4 degrees of freedom."""
    rng = np.random.default_rng(0)
    scale = np.array([[4.0, 1.5], [1.5, 9.0]])
    drawn = rng.multivariate_normal([0, 0], scale, 20_000) / np.sqrt(rng.chisquare(4, (20_000, 1)) / 4)
    cov = (4.0 * COV_OF_SCALE, 1.5 * COV_OF_SCALE, 9.0 * COV_OF_SCALE)
    inside = [mahalanobis2((float(east), float(north)), cov) <= radius2(share) for east, north in drawn]
    assert np.mean(inside) == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 20_000))
