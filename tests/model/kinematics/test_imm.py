"""The IMM against a textbook one, matrix by matrix, and on things whose mode is known."""

from __future__ import annotations

import numpy as np
import pytest
from textbook import dynamics

from model.config import SMALL
from model.kinematics.geo import F64
from model.kinematics.imm import IMM, Imm

FILTER = Imm.around(SMALL)


def switching(dt: float) -> F64:
    """exp(generator dt) by many small steps."""
    rate = (np.tile(FILTER.shares, (3, 1)) - np.eye(3)) / FILTER.memory_s
    return np.asarray(np.linalg.matrix_power(np.eye(3) + rate * dt / 2**20, 2**20))


def textbook(dt_s: F64, d_en: F64, asked_s: float) -> tuple[F64, F64, F64]:
    """Blom & Bar-Shalom's cycle in fixed coordinates, state (e, ve, n, vn).

    Mean [2] and covariance of a fix, and the modes' chances.
    """
    modes = (FILTER.stop, FILTER.cruise, FILTER.manoeuvre)
    see = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0]])
    noise = FILTER.cruise.fix_sigma_m**2 * np.eye(2)
    one = [FILTER.cruise.fix_sigma_m**2, FILTER.cruise.start_speed_mps**2]
    mean, cov = [np.zeros(4)] * 3, [np.diag(one * 2)] * 3
    chance = np.array(FILTER.shares)
    place = np.zeros(2)

    def predicted(dt: float) -> tuple[F64, list[F64], list[F64]]:
        switch = switching(dt)
        ahead, means, covs = np.zeros(3), [], []
        for j, mode in enumerate(modes):
            ahead[j] = sum(chance[i] * switch[i, j] for i in range(3))
            weight = [chance[i] * switch[i, j] / ahead[j] for i in range(3)]
            m = sum(weight[i] * mean[i] for i in range(3))
            p = sum(weight[i] * (cov[i] + np.outer(mean[i] - m, mean[i] - m)) for i in range(3))
            phi, q = dynamics(dt, mode)
            full = np.kron(np.eye(2), phi)
            means.append(full @ m)
            covs.append(full @ p @ full.T + np.kron(np.eye(2), q))
        return ahead, means, covs

    for dt, d in zip(dt_s, d_en, strict=True):
        place = place + d
        ahead, means, covs = predicted(dt)
        likelihood = np.zeros(3)
        mean, cov = [], []
        for j in range(3):
            s = see @ covs[j] @ see.T + noise
            off = place - see @ means[j]
            gain = covs[j] @ see.T @ np.linalg.inv(s)
            likelihood[j] = np.exp(-0.5 * off @ np.linalg.inv(s) @ off) / np.sqrt(np.linalg.det(2 * np.pi * s))
            mean.append(means[j] + gain @ off)
            cov.append((np.eye(4) - gain @ see) @ covs[j])
        chance = ahead * likelihood / (ahead @ likelihood)
    ahead, means, covs = predicted(asked_s)
    middle = sum(ahead[j] * means[j] for j in range(3))
    spread = sum(ahead[j] * (covs[j] + np.outer(means[j] - middle, means[j] - middle)) for j in range(3))
    return see @ middle - place, see @ spread @ see.T + noise, chance


def walked(dt_s: F64, d_en: F64) -> F64:
    state = FILTER.fresh(1)
    for dt, d in zip(dt_s, d_en, strict=True):
        state = FILTER.fold(state, np.array([dt]), d[None])
    return state


@pytest.mark.parametrize("asked_s", [2.0, 300.0])
def test_the_imm_is_the_textbook_one(asked_s: float) -> None:
    rng = np.random.default_rng(5)
    dt = rng.uniform(1, 60, 15)
    speed = np.where(np.arange(15) < 9, 8.0, 0.0)  # it goes, and then stands: the modes must move
    d = np.stack([speed * dt, 0.3 * speed * dt], axis=1) + rng.normal(0, 5, (15, 2))
    mean, cov, chance = textbook(dt, d, asked_s)
    state = walked(dt, d)
    answer = FILTER.after(state, np.array([[asked_s]]))[IMM]
    np.testing.assert_allclose(state[0, :3], chance, atol=1e-4)
    np.testing.assert_allclose(answer.mean_en[0, 0], mean, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(answer.cov_m2[0, 0], cov[[0, 0, 1], [0, 1, 1]], rtol=1e-3)


def test_what_stands_is_taken_to_stand_and_what_goes_to_go() -> None:
    dt = np.full(20, 30.0)
    wander = np.random.default_rng(0).normal(0, 3, (20, 2))
    standing, going = walked(dt, wander), walked(dt, wander + np.array([300.0, 0.0]))
    assert standing[0, 0] > 0.6
    assert going[0, 0] < 0.05
    asked = np.array([[60.0]])
    still, ahead = (FILTER.after(state, asked)[IMM] for state in (standing, going))
    assert still.cov_m2[0, 0, 0] < ahead.cov_m2[0, 0, 0]
    assert ahead.mean_en[0, 0, 0] > 300


def test_chances_stay_chances_over_any_interval_and_any_leap() -> None:
    rng = np.random.default_rng(1)
    dt = np.exp(rng.uniform(np.log(1e-3), np.log(1e6), 300))
    state = walked(dt, rng.normal(0, 1e4, (300, 2)))
    assert np.isfinite(state).all()
    assert state[0, :3].sum() == pytest.approx(1.0)
    assert (state[0, :3] > 0).all()
    ee, en, nn = FILTER.after(state, np.array([[10.0]]))[IMM].cov_m2[0, 0]
    assert ee * nn > en * en
