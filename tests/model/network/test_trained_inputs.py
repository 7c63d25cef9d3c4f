"""What weights were trained to see, and what is made of what they say: the same number by number, or they are no good.

Weights name no version of these definitions, and training and serving share them: a change of one agrees with itself,
loads, serves, and makes every forecast of all weights worse.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray

from model.config import SMALL, ModelConfig
from model.kinematics import calibration_terms, features, map_cells, motion, queries
from model.kinematics.answer_bounds import OUT
from model.kinematics.baselines import scan_fixes
from model.kinematics.features import ABSENT, FIX
from model.kinematics.queries import GapEnds
from model.network import network
from model.network.heads import combine, next_log

FIXES = np.array(
    [
        (1_480_334_400_000, 302_700_000, -977_400_000, 830, 4_500),
        (1_480_334_410_000, 302_705_000, -977_394_000, 910, 4_700),
        (1_480_334_421_500, 302_711_000, -977_390_000, ABSENT, ABSENT),
        (1_480_334_435_000, 302_711_000, -977_390_000, 0, ABSENT),
        (1_480_334_495_000, 302_751_000, -977_371_000, 1_200, 2_500),
        (1_480_334_510_000, 302_753_000, -977_384_000, ABSENT, 28_000),
        (1_480_334_525_000, 302_752_000, -977_399_000, 950, 27_000),
    ],
    FIX,
)
ENDS = GapEnds(
    np.array([[400.0, -150.0]]), np.array([90.0]), np.array([[6.0, 1.0]]), np.array([[2.0, -5.0]]), *np.ones((4, 1))
)


def weighed(*parts: ArrayLike) -> float:
    """Each number by a weight of its own, so that none may move nor change places with another; large ones by their
    logs, so that they hide no small one."""
    flat = np.concatenate([np.asarray(part, np.float64).ravel() for part in parts])
    return float(np.arcsinh(flat) @ np.cos(np.arange(len(flat))))


def about(expected: float) -> Any:
    return pytest.approx(expected, rel=1e-6, abs=1e-5)


def kinematics() -> NDArray[Any]:
    return scan_fixes(FIXES[None], SMALL)[0]


@pytest.mark.parametrize(("config", "expected"), [(SMALL, -10.72188987), (ModelConfig(absolute=True), 8.44715979)])
def test_a_ping_s_features_never_change(config: ModelConfig, expected: float) -> None:
    assert weighed(features.encode(kinematics(), features.context(FIXES), config)) == about(expected)


def test_a_ping_s_cells_never_change() -> None:
    keys, share = map_cells.corners(FIXES["lat_e7"] / 1e7, FIXES["lon_e7"] / 1e7)
    assert int(keys.ravel() % 1_000_003 @ np.arange(keys.size)) == 5009777519
    assert weighed(share) == about(-3.51752514)


def asked_ahead() -> queries.Question:
    dt_s = np.tile([20.0, 300.0, 900.0], (7, 1))
    return queries.forecast(kinematics(), dt_s, SMALL, context=features.context(FIXES))


def test_a_forecast_s_question_never_changes() -> None:
    question = asked_ahead()
    assert weighed(*question) == about(9.83378034)


def test_a_gap_s_question_never_changes() -> None:
    question = queries.gap(ENDS, np.array([[20.0, 45.0, 80.0]]), np.array([2.0]), np.array([7.0]), SMALL)
    assert weighed(*question) == about(-17.53610095)


def test_a_next_ping_s_question_never_changes() -> None:
    asked = queries.interval(kinematics())
    numbers = torch.from_numpy(np.sin(np.arange(7.0 * 3)).reshape(7, 3) * 3.0)
    assert weighed(*asked) == about(1.01313711)
    assert weighed(next_log(numbers, torch.from_numpy(asked.others_log))) == about(-1.85882370)


def test_what_is_made_of_a_head_s_numbers_never_changes() -> None:
    question = asked_ahead()
    raw = np.sin(np.arange(7 * 3 * (OUT + queries.FORECAST_OTHERS))).reshape(7, 3, -1)
    spread = combine(torch.from_numpy(3.0 * raw), network.to_tensors(question, torch.float64))
    assert weighed(spread.mean_en) == about(-33.15963788)
    assert weighed(spread.cov_m2) == about(-37.47683672)


def test_what_a_calibration_depends_on_never_changes() -> None:
    kin = kinematics()
    kin[:, motion.LOG_DT] = np.log([5.0, 20.0, 50.0, 70.0, 120.0, 300.0, 900.0])  # on both sides of every knot
    kin[:, motion.MS_SPEED] = np.array([0.0, 2.0, 4.0, 7.0, 10.0, 20.0, 30.0]) ** 2
    kin[:, motion.AMISS], kin[:, motion.BOTH] = np.linspace(0.0, 3.0, 7), 10.0
    course = np.arange(7) % 3 > 0
    ahead = calibration_terms.forecast_terms(kin, np.tile([20.0, 300.0, 900.0], (7, 1)), course)
    inside = calibration_terms.gap_terms(ENDS.gap_s, np.array([[20.0, 45.0, 80.0]]))
    assert weighed(ahead, inside, motion.speed_scale_mps(kin)) == about(-18.16108294)
