"""How wrong a receiver has told its velocity, on cases worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.api import Predictor
from model.config import SMALL, ModelConfig
from model.kinematics import features, motion, queries
from model.kinematics.features import ABSENT, FIX
from model.kinematics.geo import F64
from model.serving import step_compiled
from model.serving.gaps import Gap

EAST_MPS = 20.0
FADED = sum(0.8**k for k in range(19))  # nineteen steps, each worth 0.8 of the next


def doubts(told_mps: F64, *, dt_s: float = 10.0, speed_mps: float = EAST_MPS) -> F64:
    """After each of twenty fixes that go east, told that [2], or [20, 2]."""
    dt = np.full((1, 20), dt_s)
    d = np.stack([dt * speed_mps, 0 * dt], axis=-1)
    return np.asarray(motion.doubt(motion.scan(dt, d, SMALL, np.broadcast_to(told_mps, (1, 20, 2))))[0])


@pytest.mark.parametrize(
    ("told", "off", "both"),
    [
        ([20.0, 0.0], 0.0, 40.0),
        ([0.0, 0.0], 20.0, 20.0),
        ([10.0, 0.0], 10.0, 30.0),
        ([72.0, 0.0], 52.0, 92.0),  # km/h for m/s
        ([0.0, 20.0], 20.0 * 2**0.5, 40.0),
        ([-20.0, 0.0], 40.0, 40.0),
    ],
)
def test_a_receiver_that_errs_in_one_way_is_doubted_by_that_much(told: list[float], off: float, both: float) -> None:
    got = doubts(np.array(told))
    assert got[0] == 0.0
    assert got[1] == pytest.approx(off / (both + 1.0))
    assert got[-1] == pytest.approx(off * FADED / (both * FADED + 1.0))


def test_what_tells_nothing_is_not_doubted() -> None:
    assert not doubts(np.full(2, np.nan)).any()


def test_a_silence_says_little_and_pings_that_tell_nothing_let_doubt_fade() -> None:
    """A step of five minutes weighs a 25th, 60/300 squared."""
    rows = motion.scan(np.full((1, 2), 300.0), np.array([[[0, 0], [6_000.0, 0]]]), SMALL, np.zeros((1, 2, 2)))
    assert rows[0, 1, motion.AMISS] == rows[0, 1, motion.BOTH] == pytest.approx(20.0 / 25.0)
    told = np.zeros((20, 2))
    told[2:] = np.nan
    assert doubts(told)[-1] == pytest.approx(20 * 0.8**18 / (20 * 0.8**18 + 1.0))


def test_what_hardly_moves_proves_little() -> None:
    """A receiver that says half of 0.2 m/s, where half of 20 is a third; fixes that wander by more belie a true 0."""
    assert doubts(np.array([0.1, 0.0]), speed_mps=0.2)[-1] == pytest.approx(0.1 * FADED / (0.3 * FADED + 1.0))
    assert doubts(np.zeros(2), speed_mps=0.1)[-1] < motion.MOST_DOUBT < doubts(np.zeros(2), speed_mps=0.3)[-1]


def test_half_of_a_speed_is_believed_and_another_unit_is_not() -> None:
    half, unit = doubts(np.array([10.0, 0.0])), doubts(np.array([72.0, 0.0]))
    assert half[-1] < motion.MOST_DOUBT < unit[-1]


def test_two_receivers_at_once_are_no_speed_to_hold_anything_against() -> None:
    """Ten metres in a millisecond: `motion.least_s` of them."""
    dt, d = np.array([[0.0, 0.001]]), np.array([[[0.0, 0.0], [10.0, 0.0]]])
    row = motion.scan(dt, d, SMALL, np.zeros((1, 2, 2)))[0, 1]
    assert 0 < row[motion.AMISS] == row[motion.BOTH] <= motion.MAX_MPS


def test_a_mended_receiver_is_believed_again() -> None:
    told = np.full((20, 2), [20.0, 0.0])
    told[:10] = 0.0
    got = doubts(told)
    assert got[9] > 0.9
    assert got[-1] == pytest.approx(got[9] * 0.05, rel=0.2)


def test_a_velocity_over_a_step_is_the_mean_of_both_ends_and_without_a_course_it_goes_along() -> None:
    fixes = np.zeros(2, FIX)
    fixes["speed_cms"], fixes["heading_cdeg"] = [1_000, 2_000], [9_000, 0]  # 10 m/s east, 20 north
    along = np.array([3.0, 4.0])

    def told() -> F64:
        return features.mean_reported_mps(features.context(fixes), np.stack([along, along]))[1]

    np.testing.assert_allclose(told(), [5.0, 10.0], atol=1e-12)
    assert np.isnan(features.mean_reported_mps(features.context(fixes), np.stack([along, along]))[0]).all()
    fixes["heading_cdeg"][1] = ABSENT
    np.testing.assert_allclose(told(), [5.0 + 6.0, 8.0])
    fixes["speed_cms"][0] = ABSENT
    assert np.isnan(told()).all()


@pytest.mark.parametrize("silent", ["none", "first", "second", "speed", "course"])
def test_a_worker_doubts_as_training_does(silent: str) -> None:
    rng = np.random.default_rng(3)
    fixes = np.zeros((1, 40), FIX)
    fixes["ts_ms"] = 1_700_000_000_000 + np.cumsum(rng.integers(1_000, 200_000, 40) * (rng.random(40) < 0.8))
    fixes["lat_e7"], fixes["lon_e7"] = np.cumsum(rng.normal(0, 5_000, (2, 1, 40)), axis=2).astype(np.int64)
    fixes["speed_cms"], fixes["heading_cdeg"] = rng.integers(0, 3_000, (1, 40)), rng.integers(0, 36_000, (1, 40))
    if silent in ("first", "second"):
        fixes["speed_cms"][:, int(silent == "second") :: 2] = ABSENT
    if silent in ("speed", "course"):
        fixes["speed_cms" if silent == "speed" else "heading_cdeg"] = ABSENT
    dt, d = features.steps_between(fixes[:, :-1], fixes[:, 1:])
    kin, last = motion.fresh(SMALL, (1,)), np.zeros(1, FIX)
    want = kin
    for t in range(40):
        kin, _ = step_compiled.step(kin, last, fixes[:, t], np.array([t]), SMALL)
        if t:
            step = d[:, t - 1]
            told = features.mean_reported_mps(features.context(fixes[:, t - 1 : t + 1]), step[:, None])[:, 1]
            want = motion.fold(want, dt[:, t - 1], step, SMALL, told)
        np.testing.assert_allclose(kin, want, rtol=1e-6, atol=1e-9)
        assert motion.possible(kin, SMALL)
        last = fixes[:, t].copy()
    assert (motion.doubt(kin)[0] > 0) == (silent in ("none", "course"))


def test_the_network_sees_doubt_and_of_a_receiver_in_doubt_nothing() -> None:
    """Told half of the speed, it is seen, with a doubt of a third; told that it stands, as if nothing were told."""
    fixes = np.zeros(1, FIX)
    seen, encoded = {}, {}
    for name, told in (("half", [5.0, 0.0]), ("still", [0.0, 0.0]), ("nothing", [np.nan, np.nan])):
        d = np.broadcast_to([100.0, 0.0], (1, 20, 2))
        kin = motion.scan(np.full((1, 20), 10.0), d, SMALL, np.broadcast_to(told, (1, 20, 2)))[:, -1]
        fixes["speed_cms"], fixes["heading_cdeg"] = (ABSENT, ABSENT) if name == "nothing" else (500, 9_000)
        ctx = features.context(fixes)
        seen[name] = queries.forecast(kin, np.array([[60.0]]), SMALL, context=ctx)
        encoded[name] = features.encode(kin, ctx, SMALL)
    held = queries.REPORT_FEATURES
    assert seen["half"].features[0, 0, -2] == pytest.approx(1 / 3, abs=0.01)
    assert seen["half"].features[0, 0, -1] > 0.8
    assert not seen["still"].features[..., -held:].any()
    np.testing.assert_array_equal(seen["still"].others_en, seen["nothing"].others_en)
    np.testing.assert_array_equal(encoded["still"], encoded["nothing"])
    assert (encoded["half"] != encoded["nothing"]).any()


def test_a_fill_asks_how_the_receiver_told_before() -> None:
    """It said 0 at 10 m/s for 14 pings; those beside the gap tell right, and their steps alone would bear them out."""
    fixes = np.zeros(17, FIX)
    fixes["ts_ms"] = 10_000 * np.arange(17)
    fixes["ts_ms"][16:] += 120_000
    fixes["lon_e7"] = 9_000 * (fixes["ts_ms"] // 10_000)
    fixes["speed_cms"], fixes["heading_cdeg"] = 1_200, 8_000
    wrong, silent = fixes.copy(), fixes.copy()
    wrong["speed_cms"][:14], silent["speed_cms"] = 0, ABSENT
    predictor, filled = Predictor.untrained(ModelConfig(), seed=3, capacity=4), []
    for track in (fixes, wrong):
        slot = predictor.acquire(1)
        predictor.rebuild(slot, [track])
        asked = [Gap(near[12:16], near[16:], np.array([210_000])) for near in (fixes, silent)]
        filled.append([predictor.fill(slot, [gap])[0].lat for gap in asked])
    (right, right_muted), (doubted, doubted_muted) = filled
    assert right != right_muted
    assert doubted == doubted_muted


@pytest.mark.parametrize("target", ["delta", "absolute"])
def test_targets_that_stand_on_no_physics_lean_to_no_report(target: str) -> None:
    fixes = np.zeros(1, FIX)
    fixes["speed_cms"], fixes["heading_cdeg"] = 500, 9_000
    config = replace(SMALL, target=target)
    asked = queries.forecast(
        motion.fresh(config, (1,)), np.array([[60.0]]), config, np.zeros((1, 2)), context=features.context(fixes)
    )
    assert not asked.is_reported.any()
