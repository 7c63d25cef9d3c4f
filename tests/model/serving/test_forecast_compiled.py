"""What serving computes for a forecast, row by row, is what training computes in numpy and torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.config import SMALL
from model.kinematics import baselines, features, queries
from model.kinematics import motion as m
from model.kinematics.answer_bounds import OUT
from model.kinematics.calibration_terms import FORECAST_TERMS
from model.kinematics.geo import E7, move_deg
from model.network import network
from model.network.calibration import Calibration
from model.network.heads import combine, next_log
from model.serving import forecast_compiled

Tracks = Callable[..., NDArray[Any]]
SECONDS = np.exp(np.random.default_rng(3).uniform(np.log(1e-4), np.log(1e6), (20, 5)))


@pytest.mark.parametrize("way", [{}, {"target": "delta"}, {"target": "absolute"}])
def test_a_question_is_the_one_that_training_asks(tracks: Tracks, way: dict[str, Any]) -> None:
    config, fixes, dt = replace(SMALL, **way), tracks(20, 80, seed=2), SECONDS
    for age in (0, 1, 2, 79):
        kin, last = baselines.scan_fixes(fixes, config)[:, age], fixes[:, age]
        last["speed_cms"][:12] = [0, 1, 830, 9_000, 9_001, 65_534, features.ABSENT, features.ABSENT, 830, 0, 830, 830]
        last["heading_cdeg"][:12] = [0, 0, 4_500, 35_999, 0, 0, 0, *[features.ABSENT] * 5]
        kin[9:11, m.D_E : m.D_N + 1] = 0.0  # nowhere to go on to
        want = queries.forecast(kin, dt, config, queries.from_origin(last, config), context=features.context(last))
        got = forecast_compiled.question(kin, dt, last, config)
        for name, x, y in zip(want._fields, got, want, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("size", [0.0, 0.3, 5.0, 100.0])
def test_an_answer_is_combined_as_training_combines_it(tracks: Tracks, size: float) -> None:
    fixes = tracks(50, 30, seed=4)
    fixes["speed_cms"][::3] = features.ABSENT
    kin, context = baselines.scan_fixes(fixes, SMALL)[:, -1], features.context(fixes[:, -1])
    question = queries.forecast(kin, np.broadcast_to([10.0, 300.0, 9e5], (50, 3)), SMALL, context=context)
    assert 0 < question.is_reported[:, 0].sum() < 50
    rng = np.random.default_rng(5)
    raw = (size * rng.normal(size=(50, 3, OUT + queries.FORECAST_OTHERS))).astype(np.float32)
    want = combine(torch.from_numpy(raw), network.to_tensors(question, torch.float64))
    mean, cov = forecast_compiled.combined(raw, question)
    np.testing.assert_allclose(mean, want.mean_en, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(cov, want.cov_m2, rtol=1e-7, atol=1e-6)


def test_what_is_not_finite_stays_so(tracks: Tracks) -> None:
    """Or the fall-back to physics would not be taken."""
    kin = baselines.scan_fixes(tracks(1, 30, seed=6), SMALL)[:, -1]
    question = queries.forecast(kin, np.array([[60.0]]), SMALL)
    for number in range(OUT + queries.FORECAST_OTHERS):
        raw = np.zeros((1, 1, OUT + queries.FORECAST_OTHERS), np.float32)
        raw[..., number] = np.nan
        mean, cov = forecast_compiled.combined(raw, question)
        assert not (np.isfinite(mean).all() and np.isfinite(cov).all()), number


@pytest.mark.parametrize("age", [0, 1, 2, 78, 79])
def test_the_next_interval_is_what_training_makes_of_the_numbers(tracks: Tracks, age: int) -> None:
    fixes = tracks(20, 80, seed=7)
    fixes["ts_ms"][:, -1] += np.geomspace(100, 1e7, 20).astype(np.int64)  # after hardly a silence, and after a long one
    said = np.random.default_rng(8).normal(0, 3, (20, 1 + queries.INTERVAL_OTHERS)).astype(np.float32)
    said[:3, 0], said[3:6, 1], said[6:9, 2] = 3 * [[np.nan, np.inf, -np.inf]]
    odd = ~np.isfinite(said).all(1)
    kin = baselines.scan_fixes(fixes, SMALL)[:, age]
    asked, compiled = queries.interval(kin), forecast_compiled.interval(kin)
    np.testing.assert_allclose(compiled.features, asked.features, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(compiled.others_log, asked.others_log, rtol=1e-12, atol=1e-12)
    longer = next_log(torch.from_numpy(said.astype(np.float64)), torch.from_numpy(asked.others_log)).numpy()
    running = np.where(kin[:, m.DT] == 0.0, 0.0, kin[:, m.LOG_DT])
    want = np.exp(running + np.where(odd, 0.0, longer))
    for horizons in (np.array([60.0, 300.0]), SECONDS):
        dt, sound = forecast_compiled.times(kin, said, compiled, horizons)
        np.testing.assert_allclose(dt[:, 0], np.clip(want, 1e-3, 86_400.0), rtol=1e-12)
        np.testing.assert_array_equal(dt[:, 1:], np.broadcast_to(horizons, (20, horizons.shape[-1])))
        np.testing.assert_array_equal(sound, ~odd)


def test_what_is_seen_of_the_last_intervals() -> None:
    """By hand: the running interval is 10 s, the last one was 40 s, the one before it 20; then only one, and none."""
    kin = m.fresh(SMALL, (3,))
    kin[:, m.LOG_DT] = np.log(10.0)
    kin[:, m.DT], kin[:, m.DT1] = [40.0, 20.0, 0.0], [20.0, 0.0, 0.0]
    kin[2, m.LOG_DT] = 0.0
    two, four = np.log(2.0), np.log(4.0)
    asked = queries.interval(kin)
    np.testing.assert_allclose(asked.others_log, [[four, two], [two, 0], [0, 0]])
    want = [[four / 2, two / 2, four / 2, two / 2, two / 2, 4.0**-4, 2.0**-4, 2.0**-4]]
    want += [[two / 2, 0, two / 2, 0, two / 2, 2.0**-4, 1, 2.0**-4], [0, 0, 0, 0, 0, 1, 1, 1]]
    np.testing.assert_allclose(asked.features, want)


def test_covariances_are_calibrated_as_they_were_fitted(tracks: Tracks) -> None:
    """Weights of any sign and size, so that every term, knot and clip counts; of receivers that tell a course, speeds
    alone or nothing, some of them in doubt.
    """
    fixes, made = tracks(20, 80, seed=9), Calibration()
    for seed, size in enumerate((0.1, 0.3, 3.0)):
        coefficients = np.random.default_rng(seed).normal(0, size, FORECAST_TERMS).astype(np.float32).astype(np.float64)
        made.forecast.copy_(torch.from_numpy(coefficients))
        for age in (0, 1, 79):
            kin, last = baselines.scan_fixes(fixes, SMALL)[:, age], fixes[:, age]
            kin[:, m.AMISS] = np.linspace(0.0, 0.5, 20) * (kin[:, m.BOTH] + m.DOUBT_FLOOR_MPS)
            cov, sound = np.ones((20, 5, 3)) * [1.0, 2.0, 3.0], np.ones(20, np.bool_)
            forecast_compiled.calibrate(np.zeros((20, 5, 2)), cov, sound, kin, last, SECONDS, coefficients)
            course = features.tells_course(kin, features.context(last))
            assert 0 < course.sum() < 17
            want = made.of_forecast(kin, SECONDS, course)[..., None] * [1.0, 2.0, 3.0]
            np.testing.assert_allclose(cov, want, rtol=1e-9)
            assert sound.all()


def test_a_row_is_not_sound_where_any_number_is_not_finite(tracks: Tracks) -> None:
    fixes = tracks(20, 30, seed=12)
    kin = baselines.scan_fixes(fixes, SMALL)[:, -1]
    for place in range(5):
        mean, cov, sound = np.zeros((20, 5, 2)), np.ones((20, 5, 3)), np.ones(20, np.bool_)
        mean[3, place, place % 2], cov[5, place, place % 3], sound[7] = np.nan, np.inf, False
        forecast_compiled.calibrate(mean, cov, sound, kin, fixes[:, -1], SECONDS, np.zeros(FORECAST_TERMS))
        np.testing.assert_array_equal(np.flatnonzero(~sound), [3, 5, 7])


def test_metres_become_the_degrees_of_geo(tracks: Tracks) -> None:
    last = tracks(20, 1, seed=10)[:, 0]
    last["lat_e7"][:4] = 900_000_000, -900_000_000, 899_999_999, 0
    last["lon_e7"][:4] = 1_799_999_999, -1_800_000_000, 0, 1
    en_m = np.random.default_rng(11).normal(0, 1, (20, 5, 2)) * 10.0 ** np.arange(5)[:, None] * 100
    want = move_deg(last["lat_e7"][:, None] / E7, last["lon_e7"][:, None] / E7, en_m)
    for got, degrees in zip(forecast_compiled.moved(last, en_m), want, strict=True):
        np.testing.assert_allclose(got, degrees, rtol=0, atol=1e-12)
