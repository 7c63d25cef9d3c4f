"""What the head of an atlas is asked: of a version, and of estimates however the map is turned."""

from __future__ import annotations

import numpy as np
import pytest

from model.atlas import head
from model.atlas.atlas import MAX_MS, Atlas, Span
from model.atlas.cells import LEVELS
from model.atlas.outcomes import HORIZONS_S
from model.atlas.published import UNIT, Published
from model.atlas.version import AtlasError, dumps
from model.kinematics import motion
from model.kinematics.answer_bounds import ATLAS_FEATURES
from model.kinematics.geo import F64

HOUR_MS = 3_600_000
CUT_OFF_MS = 1_211_018_400_000
DAY = Span(CUT_OFF_MS - 24 * HOUR_MS, CUT_OFF_MS)
K = 40


def test_the_age_of_a_version_is_the_time_from_its_cut_off_to_the_ping_and_no_older_than_in_training() -> None:
    hours = [-5.0, 0.0, 0.5, 1.0, 23.0, 24.0, 24_000.0]
    found = head.version_features(DAY, CUT_OFF_MS + (np.array(hours) * HOUR_MS).astype(np.int64))
    assert found[:, 0].tolist() == pytest.approx([np.log1p(h) / 4 for h in (0, 0, 0.5, 1, 23, 24, 24)])
    assert found[:, 1].tolist() == pytest.approx([np.log1p(24) / 4] * len(hours))


@pytest.mark.parametrize(("hours", "counted"), [(0, 0), (3, 3), (72, 72), (5_000, 72), (-1, 0)])
def test_what_the_fleet_was_seen_for_counts_up_to_what_training_has(hours: int, counted: int) -> None:
    span = Span(CUT_OFF_MS - hours * HOUR_MS, CUT_OFF_MS)
    assert head.version_features(span, np.array([CUT_OFF_MS]))[0, 1] == pytest.approx(np.log1p(counted) / 4)


def test_a_version_says_its_cut_off_and_one_whose_times_are_none_is_refused() -> None:
    said = {"from_ms": DAY.from_ms, "to_ms": DAY.to_ms, "pings": 7}
    assert Atlas.of(dumps(Published.none(), said)).span == DAY
    assert Atlas.of(dumps(Published.none(), {})).span == Span(0, 0)
    for wrong in ("soon", None, 1.5, [1], MAX_MS + 1, -(10**40), float("nan")):
        with pytest.raises(AtlasError, match="no times in ms"):
            Atlas.of(dumps(Published.none(), {**said, "to_ms": wrong}))


def asked(turn: F64, of_version: F64) -> head.Inputs:
    """Inputs of K pings with a horizon each, all vectors of which are multiplied by the same matrix."""
    rng = np.random.default_rng(6)
    key = np.arange(K * LEVELS)
    off = np.rint(rng.normal(0, 30_000, (K * LEVELS, len(HORIZONS_S), 2)) @ turn).astype(np.int64)
    n = UNIT * np.ones((K * LEVELS, len(HORIZONS_S)), np.int64)
    atlas = Published(key, n, off, (off * off).sum(-1) + 10**8)
    kin = np.zeros((K, motion.WIDTH))
    kin[:, motion.D_E : motion.D_N + 1] = rng.normal(0, 200, (K, 2)) @ turn
    kin[:, motion.DT] = 30.0
    question = np.full((K, 1), 300.0), rng.normal(0, 500, (K, 1, 2)) @ turn, rng.uniform(10_000, 90_000, (K, 1))
    return head.inputs(atlas, key.reshape(K, LEVELS), of_version, kin, *question)


@pytest.mark.parametrize("turn", [((0.0, 1.0), (-1.0, 0.0)), ((-1.0, 0.0), (0.0, 1.0)), ((0.6, 0.8), (-0.8, 0.6))])
def test_turned_or_in_a_mirror_the_head_is_asked_the_same_and_what_it_moves_turns_too(
    turn: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    matrix, of_version = np.array(turn), head.version_features(DAY, CUT_OFF_MS + np.arange(K) * HOUR_MS)
    plain, turned = asked(np.eye(2), of_version), asked(matrix, of_version)
    assert plain.features.std(axis=(0, 1))[head.OF_QUESTION + 2] > 0.1, "parts along the way that differ"
    assert np.allclose(plain.features, turned.features, rtol=0, atol=1e-4)
    assert np.allclose(plain.apart_m @ matrix, turned.apart_m, rtol=0, atol=0.05)
    raw = np.random.default_rng(1).normal(0, 1, (K, 1, LEVELS + 2))
    assert np.allclose(head.combine(raw, plain)[0] @ matrix, head.combine(raw, turned)[0], rtol=0, atol=0.5)


def test_the_last_features_are_of_the_version_and_no_other_depends_on_it() -> None:
    one, other = (
        asked(np.eye(2), head.version_features(span, np.full(K, CUT_OFF_MS + HOUR_MS))) for span in (DAY, Span(0, 0))
    )
    differ = (one.features != other.features).any(axis=(0, 1))
    assert differ.tolist() == [False] * head.OF_VERSION + [True] * (ATLAS_FEATURES - head.OF_VERSION)
