"""The smoother across gaps against a textbook one, and at places whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from textbook import dynamics

from model.config import SMALL, ModelConfig
from model.kinematics import baselines
from model.kinematics.features import FIX, steps_between
from model.kinematics.geo import F64, M_PER_DEG
from model.kinematics.motion import Law
from model.kinematics.smoother import rts

Fixes = NDArray[np.void]


def fixes(times_s: F64, east_m: F64, north_m: F64) -> Fixes:
    """On the equator, where a degree is the same both ways."""
    out = np.zeros(len(times_s), FIX)
    out["ts_ms"] = 1_480_000_000_000 + np.rint(1000 * times_s).astype(np.int64)
    out["lat_e7"], out["lon_e7"] = (np.rint(metres / M_PER_DEG * 1e7) for metres in (north_m, east_m))
    return out


def smoothed(before: Fixes, after: list[Fixes], t_s: F64, config: ModelConfig = SMALL) -> Law:
    kin = baselines.kinematics([before] * len(after), config)
    return rts(kin, np.array([before[-1]] * len(after)), after, t_s, config)


def textbook(before: Fixes, after: Fixes, t_s: float) -> tuple[F64, float]:
    """Mean [2] from the last fix before and variance of a fix: forward and backward over all events, as matrices."""
    at = np.concatenate([before, after])
    seen = np.concatenate([np.zeros((1, 2)), np.cumsum(steps_between(at[:-1], at[1:])[1], axis=0)])
    times = (at["ts_ms"] - before["ts_ms"][-1]) / 1000.0
    seen = seen - seen[len(before) - 1]
    events = sorted([*((t, place) for t, place in zip(times, seen, strict=True)), (t_s, None)], key=lambda e: e[0])
    noise = SMALL.fix_sigma_m**2
    mean = np.stack([seen[0], [0, 0]])  # rows: position, velocity; columns: east, north
    cov = np.diag([noise, SMALL.start_speed_mps**2])
    filtered, predicted, carried = [(mean, cov)], [], []
    for (was, _), (now, place) in pairwise(events):
        phi, q = dynamics(now - was, SMALL)
        mean, cov = phi @ mean, phi @ cov @ phi.T + q
        predicted.append((mean, cov))
        carried.append(phi)
        if place is not None:
            gain = cov[:, :1] / (cov[0, 0] + noise)
            mean, cov = mean + gain @ (place - mean[0])[None], cov - gain @ cov[:1]
        filtered.append((mean, cov))
    result = filtered[-1]
    for k in range(len(events) - 2, -1, -1):
        gain = filtered[k][1] @ carried[k].T @ np.linalg.inv(predicted[k][1])
        result = (
            filtered[k][0] + gain @ (result[0] - predicted[k][0]),
            filtered[k][1] + gain @ (result[1] - predicted[k][1]) @ gain.T,
        )
        if events[k][1] is None:
            return result[0][0], float(result[1][0, 0] + noise)
    raise AssertionError("the asked time is no event")


def drive(seed: int) -> tuple[Fixes, Fixes]:
    """A dozen fixes, a gap of some minutes, three fixes more."""
    rng = np.random.default_rng(seed)
    t = np.cumsum(np.concatenate([rng.uniform(5, 40, 12), rng.uniform(100, 400, 1), rng.uniform(5, 40, 2)]))
    heading = np.cumsum(rng.normal(0, 0.5, 15))
    step = 9.0 * np.diff(t, prepend=0)
    both = fixes(t, np.cumsum(step * np.sin(heading)), np.cumsum(step * np.cos(heading)))
    return both[:12], both[12:]


@pytest.mark.parametrize("fixes_after", [1, 2, 3])
def test_the_smoother_is_the_textbook_one(fixes_after: int) -> None:
    for seed in range(3):
        before, after = drive(seed)
        after = after[:fixes_after]
        gap_s = float(after["ts_ms"][0] - before["ts_ms"][-1]) / 1000
        asked = gap_s * np.array([0.1, 0.5, 0.9])
        found = smoothed(before, [after], asked[None])
        for column, t_s in enumerate(asked):
            mean, var = textbook(before, after, t_s)
            np.testing.assert_allclose(found.mean_en[0, column], mean, rtol=1e-3, atol=0.05)
            assert found.var_m2[0, column] == pytest.approx(var, rel=1e-3)


def test_gaps_of_unequal_numbers_of_fixes_are_answered_as_alone() -> None:
    before, after = drive(7)
    sides = [after[:1], after, after[:2]]
    asked = np.array([[20.0, 60.0]])
    together = smoothed(before, sides, np.tile(asked, (3, 1)))
    for row, side in enumerate(sides):
        alone = smoothed(before, [side], asked)
        np.testing.assert_allclose(together.mean_en[row], alone.mean_en[0], rtol=1e-9)
        np.testing.assert_allclose(together.var_m2[row], alone.var_m2[0], rtol=1e-9)


def test_the_path_meets_both_ends_within_the_receivers_noise_and_is_least_sure_in_the_middle() -> None:
    before, after = drive(3)
    gap_s = float(after["ts_ms"][0] - before["ts_ms"][-1]) / 1000
    found = smoothed(before, [after], np.array([[0.0, gap_s / 2, gap_s]]))
    _, chord = steps_between(before[-1:], after[:1])
    np.testing.assert_allclose(found.mean_en[0, [0, 2]], [[0, 0], chord[0]], atol=3 * SMALL.fix_sigma_m)
    start, middle, end = found.var_m2[0]
    assert middle > 10 * max(start, end)
    assert min(start, end) > SMALL.fix_sigma_m**2  # of a fix, not of the place: it is to be held against fixes


def test_with_little_noise_and_no_damping_the_path_is_the_cubic_between_both_speeds() -> None:
    """White acceleration between known positions and speeds is a cubic spline: there the smoother and Hermite meet."""
    config = replace(SMALL, fix_sigma_m=0.01, damping_s=1e5, accel_psd=1.0)
    both = fixes(np.array([0.0, 1.0, 61.0, 62.0]), np.array([0.0, 10, 310, 306]), np.array([0.0, 5, -35, -25]))
    asked = np.array([[15.0, 30.0, 45.0]])
    found = smoothed(both[:2], [both[2:]], asked, config)
    speeds = np.array([[10.0, 5.0]]), np.array([[-4.0, 10.0]])
    cubic = baselines.hermite(np.array([[300.0, -40.0]]), np.array([60.0]), *speeds, asked)
    straight = baselines.linear(np.array([[300.0, -40.0]]), np.array([60.0]), *speeds, asked)
    assert np.abs(found.mean_en - cubic).max() < 5
    assert np.abs(straight - cubic).max() > 50
