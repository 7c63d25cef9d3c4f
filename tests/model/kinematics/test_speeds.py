"""Fixes that come milliseconds apart: two receivers, two gateways, a message sent twice. They are no speed.

A bus at 8 m/s with one more fix a millisecond later and 150 m aside, which the stream's rule of jumps forgives a
receiver, was forecast 2,812 km away in a minute, with status ok: 150 m in 1 ms went to the network as 150 km/s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.api import ABSENT, FIX, Predictor
from model.config import SMALL
from model.kinematics import baselines, features, motion
from model.kinematics.geo import E7, F64, M_PER_DEG, haversine_m
from model.serving import gaps, step_compiled
from model.serving.gaps import Gap

T0_MS = 1_700_000_000_000
PAIRS = [(1, 150.0), (1, 20.0), (1, 3.0), (10, 20.0), (100, 50.0), (500, 200.0), (1_000, 280.0)]  # ms and metres
HORIZONS_S = np.array([60.0, 300.0, 900.0])
MOST_MPS = 100.0


def fixes_at(seconds: F64 | list[float], north_m: F64 | list[float], east_m: F64 | list[float]) -> NDArray[Any]:
    made = np.zeros(len(seconds), FIX)
    made["ts_ms"] = T0_MS + np.rint(1000 * np.asarray(seconds)).astype(np.int64)
    made["lat_e7"] = np.rint((30.0 + np.asarray(north_m) / M_PER_DEG) * E7)
    made["lon_e7"] = np.rint((-97.0 + np.asarray(east_m) / M_PER_DEG / np.cos(np.radians(30.0))) * E7)
    made["speed_cms"] = made["heading_cdeg"] = ABSENT
    return made


def steady(count: int, mps: float = 8.0, every_s: float = 10.0, start_s: float = 0.0) -> NDArray[Any]:
    seconds = start_s + every_s * np.arange(count)
    return fixes_at(seconds, mps * seconds, np.zeros(count))


def with_one_more(after_ms: int, aside_m: float, later: int = 20) -> NDArray[Any]:
    """At 8 m/s every 10 s, the twentieth fix with another one beside it."""
    more = fixes_at([190 + after_ms / 1000], [8.0 * 190], [aside_m])
    return np.concatenate([steady(20), more, steady(later, start_s=200)])


def two_receivers(apart_ms: int, apart_m: float, count: int = 30) -> NDArray[Any]:
    """The second is ahead."""
    seconds = (10.0 * np.arange(count)[:, None] + [0.0, apart_ms / 1000]).ravel()
    return fixes_at(seconds, (80.0 * np.arange(count)[:, None] + [0.0, apart_m]).ravel(), np.zeros(2 * count))


def fastest_mps(predictor: Predictor, fixes: NDArray[Any], first: int) -> float:
    """Of any forecast from the fix `first` on."""
    slots, most = predictor.acquire(1), 0.0
    for place in range(len(fixes)):
        predictor.advance(slots, fixes[place : place + 1])
        if place < first:
            continue
        told, at = predictor.forecast(slots, HORIZONS_S), fixes[place]
        far_m = haversine_m(at["lat_e7"] / E7, at["lon_e7"] / E7, told.lat, told.lon)
        most = max(most, float((far_m / HORIZONS_S).max()))
    predictor.release(slots)
    return most


@pytest.fixture(params=["small", "small-research"])
def served(request: pytest.FixtureRequest) -> Predictor:
    return Predictor.load(request.param, capacity=4)


@pytest.mark.parametrize(("after_ms", "aside_m"), PAIRS)
def test_no_forecast_is_farther_than_a_vehicle_gets(served: Predictor, after_ms: int, aside_m: float) -> None:
    assert fastest_mps(served, with_one_more(after_ms, aside_m), first=8) < MOST_MPS


@pytest.mark.parametrize(("apart_ms", "apart_m"), [(1, 5.0), (20, 10.0), (200, 10.0)])
def test_two_receivers_on_one_bus_forecast_a_bus(served: Predictor, apart_ms: int, apart_m: float) -> None:
    """Of 8 m/s. It was 2,300 and 140 m/s."""
    assert fastest_mps(served, two_receivers(apart_ms, apart_m), first=16) < 40.0


@pytest.mark.parametrize(("after_ms", "aside_m"), PAIRS)
@pytest.mark.parametrize("closes", [False, True])
def test_no_fill_is_longer_than_a_vehicle_gets(served: Predictor, after_ms: int, aside_m: float, closes: bool) -> None:
    """Ten minutes, of which the chord is 8 m/s; the pair is the last before the gap, or closes it."""
    end_s = 790.0
    pair_s, rest = (end_s, steady(3, start_s=end_s + 10)) if closes else (190.0, steady(3, start_s=end_s))
    more = fixes_at([pair_s + after_ms / 1000], [8.0 * pair_s], [aside_m])
    before, after = steady(20), rest
    if closes:
        after = np.concatenate([steady(1, start_s=end_s), more, rest])
    else:
        before = np.concatenate([before, more])
    slots = served.acquire(1)
    for known in (1, 2, 3):
        times_ms = np.arange(T0_MS + 200_000, T0_MS + 781_000, 10_000)
        served.rebuild(slots, [np.concatenate([before, after[:known]])])
        (fill,) = served.fill(slots, [Gap(before[-4:], after[:known], times_ms)])
        ends = [before[-1], after[0]]
        lat, lon = (
            np.concatenate([[ends[0][name] / E7], inside, [ends[1][name] / E7]])
            for name, inside in (("lat_e7", fill.lat), ("lon_e7", fill.lon))
        )
        length_m = haversine_m(lat[:-1], lon[:-1], lat[1:], lon[1:]).sum()
        assert length_m < MOST_MPS * (end_s - 190.0)
        if after_ms < 1_000:  # and no detour either
            assert length_m < 2 * 8.0 * (end_s - 190.0) + 4 * aside_m
    served.release(slots)


@pytest.mark.parametrize(("after_ms", "aside_m"), PAIRS)
def test_what_a_pair_leaves_is_a_speed_of_vehicles_at_the_interval_that_was(after_ms: int, aside_m: float) -> None:
    kin = baselines.scan_fixes(with_one_more(after_ms, aside_m)[None], SMALL)[0]
    for speed in (*motion.last_mps(kin), *motion.window_mps(kin)):
        assert np.hypot(*speed) < motion.MAX_MPS + 1e-9
    assert kin[20, motion.DT] == after_ms / 1000
    assert np.hypot(kin[:, motion.V_E], kin[:, motion.V_N]).max() < 40  # 150 m aside are no evidence of 90 m/s
    if after_ms <= 10:
        assert np.hypot(*motion.last_mps(kin[20])) < 8 + 1 + 1


def test_what_comes_at_ten_hertz_keeps_its_speed() -> None:
    for mps in (1.0, 10.0, 30.0):
        kin = baselines.scan_fixes(steady(100, mps, 0.1)[None], SMALL)[0]
        for speed in (motion.last_mps(kin)[20:], motion.window_mps(kin)[20:]):
            np.testing.assert_allclose(speed, np.broadcast_to([0.0, mps], speed.shape), rtol=0.02, atol=0.1)  # 1e-7 deg
        np.testing.assert_allclose(motion.speed_scale_mps(kin)[40:], np.hypot(mps, 1.0), rtol=0.02)
    at = steady(8, 20.0, 0.1)
    at["ts_ms"][4:] += 600_000  # it comes back to where it was
    ends = gaps.stack([Gap(at[:4], at[4:], np.array([], np.int64))]).ends
    np.testing.assert_allclose(ends.before_mps, [[0.0, 20.0]], atol=0.1)
    np.testing.assert_allclose(ends.after_mps, [[0.0, 20.0]], atol=0.1)


def test_a_step_of_a_second_or_more_is_what_it_was() -> None:
    """To the bit, up to the fastest trains: nothing that networks have learned from moves."""
    rng = np.random.default_rng(1)
    dt_s, angle = 1.0 + rng.exponential(10, (20, 80)), rng.uniform(0, 7, (20, 80))
    d_en = (rng.uniform(0, 89.9, (20, 80)) * dt_s)[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    kin = motion.scan(dt_s, d_en, SMALL)[:, 1:]
    np.testing.assert_array_equal(kin[..., motion.D_E : motion.D_N + 1], d_en[:, 1:])
    window_s = 0.0
    for step in range(1, 80):
        window_s = 0.7 * window_s + dt_s[:, step]
    np.testing.assert_allclose(kin[:, -1, motion.W_S], window_s)


@pytest.mark.parametrize("fixes", [two_receivers(20, 10.0), *(with_one_more(*pair) for pair in PAIRS)])
def test_serving_folds_pairs_as_training_does(fixes: NDArray[Any]) -> None:
    rows = baselines.scan_fixes(fixes[None], SMALL)
    want = features.encode(rows, features.context(fixes[None]), SMALL)[0]
    stop, age = np.array([len(fixes)]), np.arange(len(fixes))
    kin, x = step_compiled.scan(motion.fresh(SMALL, (1,)), np.zeros(1, FIX), stop, fixes, age, SMALL)
    np.testing.assert_allclose(kin, rows[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(x, want, rtol=1e-6, atol=1e-6)
    assert motion.possible(rows, SMALL)


def test_the_speed_beside_a_gap_looks_past_a_pair() -> None:
    """From the same receiver to the same one, and from the chord's where all fixes are one moment's."""
    fixes = two_receivers(20, 10.0, count=4)
    fixes["ts_ms"][4:] += 600_000
    ends = gaps.stack([Gap(fixes[:4], fixes[4:], np.array([], np.int64))]).ends
    np.testing.assert_allclose(ends.before_mps, [[0.0, 8.0]], atol=0.01)
    np.testing.assert_allclose(ends.after_mps, [[0.0, 8.0]], atol=0.01)
    at_once = fixes_at([0.0, 0.001, 600.0], [0.0, 150.0, 150.0], [0.0, 0.0, 3_000.0])
    ends = gaps.stack([Gap(at_once[:2], at_once[2:], np.array([], np.int64))]).ends
    assert ends.has_before[0] == 1.0
    assert np.hypot(*ends.before_mps[0]) < 5.2
