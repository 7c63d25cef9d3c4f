"""The filter against a textbook one, and the baselines against what they claim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from textbook import dynamics

from model.config import SMALL
from model.kinematics import baselines, motion
from model.kinematics.features import context, mean_reported_mps
from model.kinematics.geo import F64

Tracks = Callable[..., NDArray[Any]]


def textbook(dt_s: F64, d_en: F64) -> tuple[F64, F64]:
    """Mean [2 axes, (position, velocity)] and covariance of a matrix Kalman filter in fixed coordinates."""
    mean = np.zeros((2, 2))
    cov = np.diag([SMALL.fix_sigma_m**2, SMALL.start_speed_mps**2])
    seen = np.zeros(2)
    for dt, d in zip(dt_s[1:], d_en[1:], strict=True):
        seen = seen + d
        phi, q = dynamics(dt, SMALL)
        mean, cov = mean @ phi.T, phi @ cov @ phi.T + q
        gain = cov[:, 0] / (cov[0, 0] + SMALL.fix_sigma_m**2)
        mean = mean + np.outer(seen - mean[:, 0], gain)
        cov = cov - np.outer(gain, cov[0])
    return mean - np.stack([seen, [0, 0]], axis=1), cov


def test_the_filter_is_the_textbook_one() -> None:
    rng = np.random.default_rng(1)
    dt, d = rng.uniform(0.5, 200, 25), rng.normal(0, 300, (25, 2))
    kin = motion.scan(dt[None], d[None], SMALL)[0, -1]
    mean, cov = textbook(dt, d)
    np.testing.assert_allclose(kin[[motion.X_E, motion.X_N]], mean[:, 0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(kin[[motion.V_E, motion.V_N]], mean[:, 1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(kin[[motion.PP, motion.PV, motion.VV]], cov[[0, 0, 1], [0, 1, 1]], rtol=1e-5)


def test_folding_one_by_one_is_the_scan(tracks: Tracks) -> None:
    fixes = tracks(4, 60)
    rows = baselines.scan_fixes(fixes, SMALL)
    kin = motion.fresh(SMALL, (4,))
    for t in range(1, 60):
        dt_s, d_en = baselines.steps_between(fixes[:, t - 1], fixes[:, t])
        told = mean_reported_mps(context(fixes[:, t - 1 : t + 1]), d_en[:, None])[:, 1]
        kin = motion.fold(kin, dt_s, d_en, SMALL, told)
        np.testing.assert_allclose(kin, rows[:, t], rtol=1e-12)


def test_the_covariance_stays_positive_over_any_interval() -> None:
    dt = np.exp(np.random.default_rng(3).uniform(np.log(1e-3), np.log(3e9), (50, 200)))
    kin = motion.scan(dt, np.zeros((50, 200, 2)), SMALL)
    pp, pv, vv = kin[..., motion.PP], kin[..., motion.PV], kin[..., motion.VV]
    assert (pp > 0).all()
    assert (vv > 0).all()
    assert (pp * vv - pv * pv > 0).all()


def straight(speed_mps: float = 12.0, dt_s: float = 5.0, pings: int = 60) -> F64:
    """Rows after going east at constant speed."""
    d = np.zeros((1, pings, 2))
    d[..., 0] = speed_mps * dt_s
    return np.asarray(motion.scan(np.full((1, pings), dt_s), d, SMALL)[:, -1])


def test_each_baseline_is_what_its_name_says() -> None:
    asked = np.array([[30.0, 600.0]])
    east = {name: forecast(straight(), asked, SMALL).mean_en[0, :, 0] for name, forecast in baselines.FORECASTS.items()}
    np.testing.assert_allclose(east["stay"], 0)
    np.testing.assert_allclose(east["constant_velocity"], [360, 7200])
    worth = SMALL.damping_s * (1 - np.exp(-asked[0] / SMALL.damping_s))
    np.testing.assert_allclose(east["damped_velocity"], 12 * worth)
    np.testing.assert_allclose(east["kalman"], 12 * worth, rtol=0.05)  # it has seen the speed, less the damping


@pytest.mark.parametrize("name", baselines.BRIDGES)
def test_bridges_meet_both_ends(name: str) -> None:
    chord, v0, v1 = np.array([[300.0, -40.0]]), np.array([[10.0, 3.0]]), np.array([[-2.0, 8.0]])
    at = baselines.BRIDGES[name](chord, np.array([60.0]), v0, v1, np.array([[0.0, 60.0]]))
    np.testing.assert_allclose(at[0], [[0, 0], [300, -40]], atol=1e-9)


def test_hermite_leaves_and_arrives_at_the_given_speeds() -> None:
    chord, v0, v1 = np.array([[300.0, -40.0]]), np.array([[10.0, 3.0]]), np.array([[-2.0, 8.0]])
    t = np.array([[0.0, 1e-4, 60 - 1e-4, 60.0]])
    at = baselines.hermite(chord, np.array([60.0]), v0, v1, t)[0]
    np.testing.assert_allclose((at[1] - at[0]) / 1e-4, v0[0], rtol=1e-3)
    np.testing.assert_allclose((at[3] - at[2]) / 1e-4, v1[0], rtol=1e-3)


def test_one_long_silence_hardly_moves_the_running_interval() -> None:
    dt = np.full((1, 40), 10.0)
    calm = motion.scan(dt, np.zeros((1, 40, 2)), SMALL)[0, -1, motion.LOG_DT]
    dt[0, -1] = 50_000.0
    shaken = motion.scan(dt, np.zeros((1, 40, 2)), SMALL)[0, -1, motion.LOG_DT]
    assert calm == pytest.approx(np.log(10))
    assert shaken - calm == pytest.approx(motion.MAX_LOG_DT_MOVE)


def test_the_windows_velocity_is_the_mean_of_the_last_steps_whatever_their_intervals() -> None:
    dt_s = np.array([[0.0, 5.0, 300.0, 1.0, 60.0]])
    d_en = dt_s[..., None] * np.array([3.0, -4.0])
    kin = motion.scan(dt_s, d_en, SMALL)
    np.testing.assert_allclose(motion.window_mps(kin[:, 1:]), np.broadcast_to([3.0, -4.0], (1, 4, 2)))
    np.testing.assert_array_equal(motion.window_mps(kin[:, 0]), 0.0)


def test_the_windows_velocity_forgets() -> None:
    """Of a corner five steps ago a sixth is left: 0.7 to the power of five."""
    d_en = np.array([[[0.0, 0.0]] + 100 * [[0.0, 10.0]] + 5 * [[10.0, 0.0]]])
    kin = motion.scan(np.ones(d_en.shape[:2]), d_en, SMALL)
    np.testing.assert_allclose(motion.window_mps(kin[:, -1]), [[10 * (1 - 0.7**5), 10 * 0.7**5]])
