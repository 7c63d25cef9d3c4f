"""Pings become progress along a path: forward, near the truth, and not at all where they do not fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.transit.matching import AWAY_M, BACK_M, STRAYED_PINGS, Progress
from stream.transit.schedule.paths import EARTH_M, OFF_M, Path

M_PER_DEG = math.pi / 180 * EARTH_M
LAT, LON = 30.0, -97.7


def at(east_m: float, north_m: float) -> tuple[float, float]:
    """Returns latitude and longitude of a place beside (LAT, LON)."""
    return LAT + north_m / M_PER_DEG, LON + east_m / M_PER_DEG / math.cos(math.radians(LAT))


def path_through(*corners: tuple[float, float]) -> Path:
    lat, lon = zip(*(at(*corner) for corner in corners), strict=True)
    return Path(lat, lon)


STREET = path_through((0, 0), (2_000, 0), (2_000, 3_000))
THERE_AND_BACK = path_through((0, 0), (3_000, 0), (3_000, 15), (0, 15))


def along_street(along_m: float, error_m: float = 0.0) -> tuple[float, float]:
    return at(along_m, error_m) if along_m <= 2_000 else at(2_000 + error_m, along_m - 2_000)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1_200), st.floats(-20, 20), st.integers(20, 240)), min_size=1, max_size=30),
)
def test_progress_is_near_the_truth_and_never_far_back(steps: list[tuple[float, float, int]]) -> None:
    """A bus that goes forward at up to 60 m/s of errors, 20 m beside its street."""
    progress, truth_m, t_s = Progress(STREET), 0.0, 0.0
    for way_m, error_m, gap_s in steps:
        truth_m, t_s = min(truth_m + min(way_m, 30.0 * gap_s), 4_990.0), t_s + gap_s
        before_m = progress.along_m
        assert progress.observe(t_s, *along_street(truth_m, error_m))
        assert progress.along_m == pytest.approx(truth_m, abs=35)
        assert progress.along_m >= before_m - BACK_M


@settings(max_examples=60, deadline=None)
@given(st.floats(OFF_M + 1, 5_000), st.floats(100, 1_900))
def test_a_ping_off_the_path_moves_nothing_and_is_told(off_m: float, along_m: float) -> None:
    progress = Progress(STREET)
    assert progress.observe(0, *along_street(50))
    assert not progress.observe(60, *at(along_m, -off_m))
    assert (progress.at_s, progress.off_path) == (0, 1)
    assert progress.along_m == pytest.approx(50, abs=1)


def test_on_a_street_that_is_passed_twice_the_way_so_far_decides() -> None:
    """Both directions are 15 m apart, within the error of GPS: after the turn, the same place is the second passing."""
    progress = Progress(THERE_AND_BACK)
    for t_s, east_m in enumerate((100, 1_000, 2_000, 2_900, 2_100, 1_200, 300)):
        assert progress.observe(120.0 * t_s, *at(east_m, 7))
    assert progress.along_m == pytest.approx(6_015 - 300, abs=20)


def test_a_single_wrong_ping_is_left_out_and_a_wrong_start_is_left_after_some() -> None:
    progress = Progress(STREET)
    assert progress.observe(0, *along_street(100))
    assert not progress.observe(20, *along_street(4_900)), "240 m/s"
    assert progress.observe(40, *along_street(300))
    assert progress.along_m == pytest.approx(300, abs=1)
    wrong = Progress(STREET)
    assert wrong.observe(0, *along_street(4_900))
    moved = [wrong.observe(60.0 * n, *along_street(100 * n)) for n in range(1, 31)]
    assert not moved[0]
    assert moved[-1]
    assert wrong.along_m == pytest.approx(3_000, abs=1)


def test_a_ping_that_is_not_newer_moves_nothing() -> None:
    progress = Progress(STREET)
    assert progress.observe(10, *along_street(500))
    assert not progress.observe(10, *along_street(700))
    assert not progress.observe(5, *along_street(700))
    assert progress.along_m == pytest.approx(500, abs=1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 5_000), min_size=2, max_size=40).map(sorted))
def test_stops_in_order_are_placed_in_order_and_near_their_places(stops_m: list[float]) -> None:
    lat, lon = zip(*(along_street(stop_m, 8) for stop_m in stops_m), strict=True)
    along, off = STREET.place_stops(np.array(lat), np.array(lon))
    assert (np.diff(along) >= 0).all()
    assert along == pytest.approx(stops_m, abs=30)
    assert off.max() < 20


def test_a_path_of_one_point_is_short_and_not_an_error() -> None:
    path = Path([LAT], [LON])
    assert path.length_m < 1
    assert path.places(LAT, LON)[0].off_m < 1


@settings(max_examples=60, deadline=None)
@given(st.floats(AWAY_M + 10, 3_000), st.integers(STRAYED_PINGS, 12))
def test_a_detour_loses_the_vehicle_until_two_pings_fit_again(off_m: float, pings: int) -> None:
    progress = Progress(STREET)
    assert progress.observe(0, *along_street(200))
    lost = []
    for n in range(1, pings + 1):
        progress.observe(30.0 * n, *at(200 + 100 * n, -off_m))
        lost.append(progress.is_lost)
    assert lost == [n >= STRAYED_PINGS for n in range(1, pings + 1)]
    back = []
    for n in range(1, 4):
        assert progress.observe(30.0 * (pings + n), *along_street(200 + 100 * (pings + n)))
        back.append(progress.is_lost)
    assert back[-2:] == [False, False]
    assert back[0] or pings == STRAYED_PINGS


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-AWAY_M + 40, AWAY_M - 40), min_size=1, max_size=30))
def test_who_is_beside_its_street_for_long_is_not_on_a_detour(off_m: list[float]) -> None:
    """As where a feed has no shape, or tall houses reflect."""
    progress = Progress(STREET)
    for n, off in enumerate(off_m):
        progress.observe(30.0 * n, *at(60.0 * n, -abs(off)))
        assert not progress.is_lost


def test_who_turns_back_is_lost_and_gets_no_arrivals_ahead() -> None:
    progress = Progress(STREET)
    for n in range(10):
        assert progress.observe(30.0 * n, *along_street(200 + 150 * n))
    lost = 0
    for n in range(1, 9):
        progress.observe(30.0 * (9 + n), *along_street(1_550 - 150 * n))
        lost += progress.is_lost
    assert lost >= 6, "but for the first pings on its way back"
