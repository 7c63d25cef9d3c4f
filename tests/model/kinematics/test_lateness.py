"""The 90 % interval of the next ping's time: where it lies, and what makes it wider."""

from __future__ import annotations

import numpy as np
import pytest

from model.api import FIX
from model.config import SMALL
from model.kinematics import baselines, lateness, motion
from model.kinematics.geo import F64


def row_after(intervals_s: list[float]) -> F64:
    """The kinematic row [1, K] of a parked thing that reported at these intervals."""
    fixes = np.zeros((1, len(intervals_s) + 1), dtype=FIX)
    fixes["ts_ms"] = 1_480_000_000_000 + np.round(1000 * np.cumsum([0.0, *intervals_s])).astype(np.int64)
    return np.asarray(baselines.scan_fixes(fixes, SMALL)[:, -1])


def ends(intervals_s: list[float], expected_s: float = 60.0) -> tuple[float, float]:
    early, late = lateness.between(row_after(intervals_s), np.array([expected_s]))
    return float(early[0]), float(late[0])


def test_an_interval_is_around_the_expected_time_and_both_lines_are_taken() -> None:
    apart = [np.log(2), np.log(1.5)]
    kin = row_after([60.0] * 20 + [90.0, 30.0])
    running = abs(kin[0, motion.LOG_DT] - np.log(60.0))
    early, late = ends([60.0] * 20 + [90.0, 30.0])
    assert early == pytest.approx(60 * np.exp(lateness.EARLY @ [1, *apart, running]))
    assert late == pytest.approx(60 * np.exp(lateness.LATE @ [1, *apart, running]))
    assert 0 < early < 60 < late


def test_after_uneven_intervals_the_next_ping_is_less_sure() -> None:
    steady, uneven = ends([60.0] * 20), ends([60.0] * 15 + [20.0, 180.0, 90.0, 20.0, 180.0])
    assert uneven[0] < 0.8 * steady[0]
    assert uneven[1] - uneven[0] > steady[1] - steady[0]


def test_a_silence_makes_no_interval_endless_and_none_before_the_second_ping() -> None:
    far = ends([60.0] * 20 + [1e6, 1e6])
    assert far[0] > 60 * np.exp(-lateness.MOST_APART * 3)
    assert far[1] < 60 * np.exp(lateness.MOST_APART * 3)
    assert ends([], 1.0) == pytest.approx((np.exp(lateness.EARLY[0]), np.exp(lateness.LATE[0])))
    assert ends([60.0])[0] < 60 < ends([60.0])[1]
