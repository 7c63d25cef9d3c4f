"""Followers: the velocity of a window worked by hand, and what every follower promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.config import SMALL
from model.kinematics import motion
from model.kinematics.baselines import FORECASTS
from model.kinematics.filters import FITTED, KALMAN, WINDOW, FittedKalman, Follower, Kinematic, line_velocity
from model.kinematics.geo import F64
from model.kinematics.imm import Imm

ALL: list[Follower] = [Kinematic(SMALL), FittedKalman(replace(SMALL, accel_psd=3.0)), Imm.around(SMALL)]
ASKED = np.array([[5.0, 60.0, 900.0]])


def walked(follower: Follower, dt_s: F64, d_en: F64) -> F64:
    """The state [1, S] after steps dt_s [T], d_en [T, 2]."""
    state = follower.fresh(1)
    for dt, d in zip(dt_s, d_en, strict=True):
        state = follower.fold(state, np.array([dt]), d[None])
    return state


def steps(pings: int = 30, seed: int = 0) -> tuple[F64, F64]:
    rng = np.random.default_rng(seed)
    return rng.uniform(1, 60, pings), rng.normal(0, 100, (pings, 2))


def test_the_line_through_three_fixes_is_the_one_worked_by_hand() -> None:
    # at 0, 10, 30 s the thing was at 0, 10, 90 m east: Σ(t−t̄)(x−x̄)/Σ(t−t̄)² = 1466.7/466.7, with means 13.3 and 33.3
    dt, d = np.array([[20.0, 10.0, 0.0, 0.0]]), np.zeros((1, 4, 2))
    d[0, :, 0] = [80.0, 10.0, 999.0, 999.0]  # what was no step does not count
    np.testing.assert_allclose(line_velocity(dt, d), [[22 / 7, 0.0]])


def test_the_window_forgets_what_is_older_than_five_fixes() -> None:
    dt = np.full(9, 10.0)
    d = np.array([[500.0, 0.0]] * 5 + [[0.0, 30.0]] * 4)
    state = walked(Kinematic(SMALL), dt, d)
    np.testing.assert_allclose(Kinematic(SMALL).after(state, ASKED)[WINDOW].mean_en[0], 3.0 * ASKED.T * [0, 1])


def test_a_window_averages_jitter_that_the_last_step_takes_at_its_word() -> None:
    dt = np.full(20, 10.0)
    d = np.stack([100.0 + 40.0 * (-1.0) ** np.arange(20), np.zeros(20)], axis=1)
    answers = Kinematic(SMALL).after(walked(Kinematic(SMALL), dt, d), np.array([[60.0]]))
    assert answers["constant_velocity"].mean_en[0, 0, 0] == pytest.approx(6 * 60)
    assert answers[WINDOW].mean_en[0, 0, 0] == pytest.approx(600, abs=30)


def test_kinematic_answers_are_those_of_the_baselines() -> None:
    dt, d = steps()
    answers = Kinematic(SMALL).after(walked(Kinematic(SMALL), dt, d), ASKED)
    kin = motion.scan(np.array([[0.0, *dt]]), np.concatenate([np.zeros((1, 2)), d])[None], SMALL)[:, -1]
    for name, forecast in FORECASTS.items():
        law = forecast(kin, ASKED, SMALL)
        np.testing.assert_allclose(answers[name].mean_en, law.mean_en, rtol=1e-12)
        np.testing.assert_allclose(answers[name].cov_m2[..., [0, 2]], np.stack([law.var_m2] * 2, -1), rtol=1e-12)


def test_the_fitted_filter_with_the_same_noise_is_the_same_filter() -> None:
    dt, d = steps()
    plain = Kinematic(SMALL).after(walked(Kinematic(SMALL), dt, d), ASKED)[KALMAN]
    same = FittedKalman(SMALL).after(walked(FittedKalman(SMALL), dt, d), ASKED)[FITTED]
    other = FittedKalman(replace(SMALL, accel_psd=9.0))
    np.testing.assert_array_equal(plain.mean_en, same.mean_en)
    assert (other.after(walked(other, dt, d), ASKED)[FITTED].cov_m2[..., 0] > 2 * same.cov_m2[..., 0])[0, 1:].all()


@pytest.mark.parametrize("follower", ALL)
def test_a_follower_keeps_its_names_its_states_and_its_fixes_apart(follower: Follower) -> None:
    """Rows of a batch do not touch each other, and nothing handed over is changed."""
    one, other = steps(seed=1), steps(seed=2)
    state = follower.fresh(2)
    for dt0, d0, dt1, d1 in zip(*one, *other, strict=True):
        kept = state.copy()
        folded = follower.fold(state, np.array([dt0, dt1]), np.stack([d0, d1]))
        np.testing.assert_array_equal(state, kept)
        state = folded
    both = follower.after(state, np.tile(ASKED, (2, 1)))
    assert tuple(both) == follower.names
    for row, track in enumerate((one, other)):
        alone = follower.after(walked(follower, *track), ASKED)
        for name, answer in alone.items():
            np.testing.assert_allclose(both[name].mean_en[row], answer.mean_en[0], rtol=1e-9)
            np.testing.assert_allclose(both[name].cov_m2[row], answer.cov_m2[0], rtol=1e-9)


@pytest.mark.parametrize("follower", ALL)
def test_after_one_fix_a_follower_stays_and_is_unsure(follower: Follower) -> None:
    for answer in follower.after(follower.fresh(3), np.tile(ASKED, (3, 1))).values():
        np.testing.assert_allclose(answer.mean_en, 0)
        assert (answer.cov_m2[..., [0, 2]] > 0).all()
        assert (np.diff(answer.cov_m2[..., 0]) > 0).all()


@pytest.mark.parametrize("follower", ALL)
def test_turning_the_world_turns_every_answer(follower: Follower) -> None:
    dt, d = steps(seed=3)
    turn = np.array([[np.cos(0.7), np.sin(0.7)], [-np.sin(0.7), np.cos(0.7)]])
    plain, turned = (follower.after(walked(follower, dt, way), ASKED) for way in (d, d @ turn))
    for name in follower.names:
        np.testing.assert_allclose(plain[name].mean_en @ turn, turned[name].mean_en, atol=1e-6)
        full, there = (answer.cov_m2[0][:, [0, 1, 1, 2]].reshape(-1, 2, 2) for answer in (plain[name], turned[name]))
        np.testing.assert_allclose(turn.T @ full @ turn, there, rtol=1e-6, atol=1e-6)
