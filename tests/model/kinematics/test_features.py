"""Inputs: exact over the antimeridian and over years, finite for anything valid, honest about what is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.api import Predictor
from model.config import SMALL, ModelConfig
from model.kinematics import features, geo
from model.kinematics.baselines import scan_fixes
from model.kinematics.features import ABSENT, FIX

Tracks = Callable[..., NDArray[Any]]
LAT = st.integers(-900_000_000, 900_000_000)
LON = st.integers(-1_800_000_000, 1_799_999_999)
FIXES = st.tuples(st.integers(-(10**14), 10**14), LAT, LON, st.integers(0, 65_535), st.integers(0, 35_999))


def encoded(fixes: NDArray[Any], config: ModelConfig = SMALL) -> NDArray[np.float32]:
    return features.encode(scan_fixes(fixes[None], config), features.context(fixes[None]), config)[0]


@given(st.lists(FIXES, min_size=1, max_size=6))
def test_any_valid_pings_give_finite_features(rows: list[tuple[int, ...]]) -> None:
    fixes = np.array(sorted(rows), dtype=FIX)
    for absolute in (False, True):
        config = ModelConfig(absolute=absolute)
        x = encoded(fixes, config)
        assert x.shape == (len(rows), features.width(config))
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
        assert np.abs(x).max() < 100


def test_years_leave_only_the_phase_of_the_week(tracks: Tracks) -> None:
    fixes = tracks(1, 50)[0]
    shifted = fixes.copy()
    shifted["ts_ms"] += 52 * 20 * 7 * 86_400_000
    np.testing.assert_array_equal(encoded(fixes), encoded(shifted))
    shifted["ts_ms"] += 86_400_000
    differs = (encoded(fixes) != encoded(shifted)).any(axis=0)
    assert differs.sum() == 2  # sine and cosine of the day in the week


def test_a_millisecond_counts_at_any_epoch(tracks: Tracks) -> None:
    fixes = tracks(1, 3)[0]
    later = fixes.copy()
    later["ts_ms"][2] += 1
    assert (encoded(fixes)[2] != encoded(later)[2]).any()


def test_the_antimeridian_is_no_place(tracks: Tracks) -> None:
    """The same motion, west of Greenwich and across the date line; only the solar clock tells them apart."""
    here = tracks(1, 40)[0]
    there = here.copy()
    middle = (int(here["lon_e7"].min()) + int(here["lon_e7"].max())) // 2
    lon = here["lon_e7"].astype(np.int64) - middle + 1_800_000_000
    there["lon_e7"] = (lon + 1_800_000_000) % 3_600_000_000 - 1_800_000_000
    assert (np.abs(np.diff(there["lon_e7"].astype(np.int64))) > 3_000_000_000).any()
    np.testing.assert_array_equal(encoded(here)[:, :28], encoded(there)[:, :28])


def test_absent_is_not_zero(tracks: Tracks) -> None:
    fixes = tracks(1, 2)[0]
    fixes["speed_cms"], fixes["heading_cdeg"] = 0, 0
    absent = fixes.copy()
    absent["speed_cms"], absent["heading_cdeg"] = ABSENT, ABSENT
    told, untold = encoded(fixes)[1, :5], encoded(absent)[1, :9]
    np.testing.assert_allclose(told, [0, 1, 0, 1, 1])
    np.testing.assert_allclose(untold, 0)


def test_a_reported_velocity_is_along_the_course_or_else_along_the_last_step() -> None:
    """Both are needed, or a step to tell the direction by; what no vehicle does is as if it were not told."""
    fixes = np.zeros((5, 2), dtype=FIX)
    fixes["ts_ms"][:, 1], fixes["lon_e7"][:4, 1] = 10_000, 10_000  # east, but for the last, which stands
    fixes["speed_cms"][:, 1] = [800, 800, ABSENT, 9_001, 800]
    fixes["heading_cdeg"][:, 1] = [0, ABSENT, 9_000, 0, ABSENT]
    told = features.reported_mps(scan_fixes(fixes, SMALL)[:, 1], features.context(fixes[:, 1]))
    np.testing.assert_allclose(told[:2], [[0, 8], [8, 0]], atol=1e-9)
    assert np.isnan(told[2:]).all()
    by_course = features.velocity_mps(features.context(fixes[:, 1]))
    np.testing.assert_allclose(by_course[0], [0, 8])
    assert np.isnan(by_course[1:]).all()


def test_noon_is_noon_everywhere() -> None:
    """12:00 UTC at Greenwich and 18:30 UTC at 97.5° W are both solar noon of the same Monday."""
    fixes = np.zeros(2, dtype=FIX)
    fixes["ts_ms"] = [1_480_334_400_000, 1_480_334_400_000 + 6 * 3_600_000 + 1_800_000]
    fixes["lon_e7"] = [0, -975_000_000]
    np.testing.assert_array_equal(features.context(fixes).phase_ms, [43_200_000, 43_200_000])


def test_an_absolute_model_sees_where_it_is_and_another_does_not(tracks: Tracks) -> None:
    here = tracks(1, 10)[0]
    north = here.copy()
    north["lon_e7"] += 10_000_000
    clock = slice(31, 40)  # solar time moves with the longitude
    plain = np.delete(encoded(here) == encoded(north), clock, axis=1)
    assert plain.all()
    config = ModelConfig(absolute=True)
    assert (encoded(here, config)[:, 40:] != encoded(north, config)[:, 40:]).any()
    assert Predictor.untrained(config, capacity=1).config.absolute


@given(LAT, LON, st.floats(-3000, 3000), st.floats(-3000, 3000))
def test_moving_and_measuring_are_inverse(lat_e7: int, lon_e7: int, east: float, north: float) -> None:
    if abs(lat_e7) > 890_000_000:  # at the poles the clamp of the latitude may cut the move short
        return
    lat, lon = np.array(lat_e7 / 1e7), np.array(lon_e7 / 1e7)
    lat1, lon1 = geo.move_deg(lat, lon, np.array([east, north]))
    there = (np.rint(lat1 * 1e7).astype(np.int64), np.rint(lon1 * 1e7).astype(np.int64))
    back = geo.displacement_m(np.array(lat_e7), np.array(lon_e7), *there)
    np.testing.assert_allclose(back, [east, north], atol=0.02)


@pytest.mark.parametrize("lat", [0.0, 30.27, -60.0, 70.0])
def test_local_metres_are_true_metres_near_by(lat: float) -> None:
    moved = geo.move_deg(np.array(lat), np.array(179.99), np.array([3000.0, -4000.0]))
    assert geo.haversine_m(np.array(lat), np.array(179.99), *moved) == pytest.approx(5000, rel=2e-3)
