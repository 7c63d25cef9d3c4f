"""What stream relies on: slots, forecasts, fills, fallbacks, refusals."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.api import ABSENT, FIX, Forecasts, Gap, Predictor
from model.config import ModelConfig
from model.kinematics import baselines
from model.kinematics.geo import haversine_m, move_deg
from model.network.checkpoint import to_parameters
from model.network.network import Network

HORIZONS = (60.0, 300.0, 900.0)
Tracks = Callable[..., NDArray[Any]]


def gap_of(fixes: NDArray[Any], start: int, after: int = 1) -> Gap:
    """Between fixes start and start + 1 of one track, five times asked."""
    times = np.linspace(fixes["ts_ms"][start], fixes["ts_ms"][start + 1], 7)[1:-1].astype(np.int64)
    return Gap(fixes[max(0, start - 3) : start + 1], fixes[start + 1 : start + 1 + after], times)


def all_are_finite(got: Forecasts) -> bool:
    """All but the places of branches: here are none."""
    assert (got.branch_share == 0).all()
    return all(np.isfinite(x).all() for x in got._replace(branch_lat=np.zeros(0), branch_lon=np.zeros(0)))


def test_a_fix_is_twenty_packed_bytes() -> None:
    fix = np.array([(-5, 302_700_000, -977_400_000, 1234, ABSENT)], dtype=FIX)
    assert fix.tobytes() == struct.pack("<qiiHH", -5, 302_700_000, -977_400_000, 1234, ABSENT)


def test_untrained_forecasts_are_the_kalman_filter(tracks: Tracks) -> None:
    fixes = tracks(5, 40)
    predictor = Predictor.untrained(capacity=8)
    slots = predictor.acquire(5)
    for t in range(40):
        predictor.advance(slots, fixes[:, t])
    got = predictor.forecast(slots, HORIZONS)
    kin = baselines.kinematics(list(fixes), predictor.config)
    law = baselines.kalman(kin, np.broadcast_to(np.array(HORIZONS), (5, 3)), predictor.config)
    lat, lon = move_deg(fixes["lat_e7"][:, -1:] / 1e7, fixes["lon_e7"][:, -1:] / 1e7, law.mean_en)
    np.testing.assert_allclose(got.lat, lat, rtol=0, atol=1e-12)
    np.testing.assert_allclose(got.lon, lon, rtol=0, atol=1e-12)
    np.testing.assert_allclose(got.cov_m2[..., 0], law.var_m2)
    np.testing.assert_allclose(got.cov_m2[..., 1], 0, atol=1e-6)
    assert not got.fallback.any()


def test_untrained_fills_are_the_hermite_curve(tracks: Tracks) -> None:
    fixes = tracks(1, 12)[0]
    predictor = Predictor.untrained(capacity=2)
    slot = predictor.acquire(1)
    predictor.rebuild(slot, [fixes])
    (fill,) = predictor.fill(slot, [gap_of(fixes, 9, after=2)])
    steps = [baselines.steps_between(fixes[i : i + 1], fixes[i + 1 : i + 2]) for i in (8, 9, 10)]
    (dt0, d0), (gap_s, chord), (dt2, d2) = steps
    t_s = (gap_of(fixes, 9).times_ms - fixes["ts_ms"][9])[None] / 1000
    want = baselines.hermite(chord, gap_s, d0 / dt0[:, None], d2 / dt2[:, None], t_s)
    lat, lon = move_deg(fixes["lat_e7"][9] / 1e7, fixes["lon_e7"][9] / 1e7, want)
    np.testing.assert_allclose(fill.lat, lat[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(fill.lon, lon[0], rtol=0, atol=1e-12)
    assert fill.method == "model"


def test_a_forecast_changes_nothing(tiny: Predictor, tracks: Tracks) -> None:
    slots = tiny.acquire(3)
    tiny.rebuild(slots, list(tracks(3, 20)))
    before = tiny.dumps(slots)
    first, second = tiny.forecast(slots, HORIZONS), tiny.forecast(slots, HORIZONS)
    for x, y in zip(first, second, strict=True):
        np.testing.assert_array_equal(x, y)
    assert tiny.dumps(slots) == before


def test_horizons_are_independent_of_each_other(tiny: Predictor, tracks: Tracks) -> None:
    slots = tiny.acquire(3)
    tiny.rebuild(slots, list(tracks(3, 20)))
    np.testing.assert_allclose(tiny.forecast(slots, [300.0]).lat[:, 0], tiny.forecast(slots, HORIZONS).lat[:, 1])
    assert tiny.forecast(slots, []).lat.shape == (3, 0)


def test_every_covariance_is_positive_definite(predictor: Predictor, tracks: Tracks) -> None:
    slots = predictor.acquire(20)
    predictor.rebuild(slots, list(tracks(20, 70)))
    got = predictor.forecast(slots, (1.0, *HORIZONS, 86_400.0))
    for cov in (got.cov_m2, got.next_cov_m2):
        assert (cov[..., 0] > 0).all()
        assert (cov[..., 0] * cov[..., 2] > cov[..., 1] ** 2).all()


def test_the_next_step_is_the_same_in_metres_and_degrees(predictor: Predictor, tracks: Tracks) -> None:
    fixes = tracks(10, 50)
    slots = predictor.acquire(10)
    predictor.rebuild(slots, list(fixes))
    got = predictor.forecast(slots, HORIZONS)
    away = haversine_m(fixes["lat_e7"][:, -1] / 1e7, fixes["lon_e7"][:, -1] / 1e7, got.next_lat, got.next_lon)
    np.testing.assert_allclose(np.hypot(*got.next_en_m.T), away, rtol=2e-3, atol=0.02)
    assert (got.next_dt_s > 0).all()


def test_a_gap_is_closed_at_both_ends(predictor: Predictor, tracks: Tracks) -> None:
    """Whatever the weights, the residual fades at the ends: 2 % of the gap's scale at 1/1000 of its time."""
    fixes = tracks(8, 40)
    slots = predictor.acquire(8)
    predictor.rebuild(slots, list(fixes))
    for row, slot in zip(fixes, slots, strict=True):
        start, end = row["ts_ms"][-2], row["ts_ms"][-1]
        times = np.array([start + (end - start) // 1000, end - (end - start) // 1000])
        (fill,) = predictor.fill(np.array([slot]), [Gap(row[-5:-1], row[-1:], times)])
        ends = row[[-2, -1]]
        off = haversine_m(ends["lat_e7"] / 1e7, ends["lon_e7"] / 1e7, fill.lat, fill.lon)
        assert (off < 5 + 0.02 * 40 * (end - start) / 1000).all()


def test_ragged_fills_do_not_disturb_each_other(tiny: Predictor, tracks: Tracks) -> None:
    fixes = tracks(3, 30)
    slots = tiny.acquire(3)
    tiny.rebuild(slots, list(fixes))
    gaps = [gap_of(row, 28 - i, after=1 + i) for i, row in enumerate(fixes)]
    gaps[1] = gaps[1]._replace(times_ms=gaps[1].times_ms[:2])
    gaps[2] = gaps[2]._replace(times_ms=gaps[2].times_ms[:0])
    together = tiny.fill(slots, gaps)
    assert [len(fill.lat) for fill in together] == [5, 2, 0]
    for i in range(3):
        (alone,) = tiny.fill(slots[i : i + 1], gaps[i : i + 1])
        np.testing.assert_allclose(alone.lat, together[i].lat, rtol=0, atol=1e-8)


def test_weights_that_overflow_fall_back_to_damped_velocity(unsettled: Callable[..., Network], tracks: Tracks) -> None:
    config = ModelConfig(name="tiny", d=16, blocks=2, heads=2, window=8)
    net = unsettled(config)
    with torch.no_grad():
        net.forecast.middle.weight.fill_(1e38)
        net.gap.middle.weight.fill_(1e38)
    predictor = Predictor(to_parameters(net), name="broken", capacity=4)
    fixes = tracks(3, 20)
    slots = predictor.acquire(3)
    predictor.rebuild(slots, list(fixes))
    got = predictor.forecast(slots, HORIZONS)
    assert got.fallback.all()
    kin = baselines.kinematics(list(fixes), config)
    law = baselines.damped_velocity(kin, np.broadcast_to(np.array(HORIZONS), (3, 3)), config)
    lat, _ = move_deg(fixes["lat_e7"][:, -1:] / 1e7, fixes["lon_e7"][:, -1:] / 1e7, law.mean_en)
    np.testing.assert_allclose(got.lat, lat, rtol=0, atol=1e-12)
    assert all_are_finite(got)
    (fill,) = predictor.fill(slots[:1], [gap_of(fixes[0], 18)])
    assert fill.method == "hermite"
    assert np.isfinite(fill.lat).all()


def test_the_pool_grows_and_keeps_what_it_held(tiny: Predictor, tracks: Tracks) -> None:
    slots = tiny.acquire(3)
    tiny.rebuild(slots, list(tracks(3, 20)))
    before = tiny.dumps(slots)
    more = tiny.acquire(1000)
    assert len(np.unique(np.concatenate([slots, more]))) == 1003
    assert tiny.dumps(slots) == before


def test_a_released_slot_comes_back_empty(tiny: Predictor, tracks: Tracks) -> None:
    slots = tiny.acquire(4)
    tiny.rebuild(slots, list(tracks(4, 20)))
    tiny.release(slots)
    again = tiny.acquire(4)
    assert sorted(again) == sorted(slots)
    with pytest.raises(ValueError, match="empty"):
        tiny.forecast(again, HORIZONS)


def test_a_released_slot_is_refused_until_it_is_acquired_again(tiny: Predictor, tracks: Tracks) -> None:
    """Released slots stayed usable once: whoever kept one wrote into the state of the entity that came after."""
    fixes = tracks(3, 20)
    slots = tiny.acquire(3)
    tiny.rebuild(slots, list(fixes))
    tiny.release(slots[1:2])
    for use in (
        lambda: tiny.advance(slots, fixes[:, 0]),
        lambda: tiny.rebuild(slots[1:2], [fixes[1]]),
        lambda: tiny.forecast(slots, HORIZONS),
        lambda: tiny.dumps(slots),
        lambda: tiny.release(slots),
    ):
        with pytest.raises(ValueError, match="not acquired"):
            use()
    assert tiny.acquire(1) == slots[1:2], "it was handed back once, not twice"
    assert tiny.acquire(1) != slots[1:2]


def test_misuse_is_refused(tiny: Predictor, tracks: Tracks) -> None:
    fixes = tracks(2, 3)
    slots = tiny.acquire(2)
    with pytest.raises(ValueError, match="distinct"):
        tiny.advance(slots[[0, 0]], fixes[:, 0])
    with pytest.raises(ValueError, match="not acquired"):
        tiny.advance(np.array([3]), fixes[:1, 0])
    with pytest.raises(ValueError, match="one per slot"):
        tiny.advance(slots, fixes[:1, 0])
    with pytest.raises(ValueError, match="at least one fix"):
        tiny.rebuild(slots, [fixes[0], fixes[1, :0]])
    tiny.rebuild(slots, list(fixes))
    with pytest.raises(ValueError, match="positive"):
        tiny.forecast(slots, [0.0])
    with pytest.raises(ValueError, match="inside the gap"):
        tiny.fill(slots[:1], [gap_of(fixes[0], 1)._replace(times_ms=np.array([0]))])


def test_a_batch_of_1024_rows_passes(tiny: Predictor, tracks: Tracks) -> None:
    slots = tiny.acquire(1024)
    fixes = tracks(1024, 3)
    for t in range(3):
        tiny.advance(slots, fixes[:, t])
    assert np.isfinite(tiny.forecast(slots, HORIZONS).lat).all()


def test_no_pings_at_all_are_no_error(tiny: Predictor) -> None:
    none = tiny.acquire(0)
    tiny.advance(none, np.zeros(0, dtype=FIX))
    tiny.rebuild(none, [])
    assert tiny.forecast(none, HORIZONS).lat.shape == (0, 3)
    assert tiny.fill(none, []) == []
    assert tiny.dumps(none) == []


def test_extreme_but_valid_pings_give_finite_forecasts(predictor: Predictor) -> None:
    """Poles, the antimeridian, a millisecond and a century between two pings."""
    fixes = np.zeros(6, dtype=FIX)
    fixes["ts_ms"] = np.cumsum([0, 1, 1, 3_155_760_000_000, 1, 86_400_000]) - 62_000_000_000_000
    fixes["lat_e7"] = [900_000_000, -900_000_000, 899_999_999, 0, 0, 1]
    fixes["lon_e7"] = [1_799_999_999, -1_800_000_000, 0, 0, 1_799_999_999, -1_799_999_999]
    fixes["speed_cms"], fixes["heading_cdeg"] = 65_534, 35_999
    slot = predictor.acquire(1)
    for t in range(6):
        predictor.advance(slot, fixes[t : t + 1])
        got = predictor.forecast(slot, (1e-3, *HORIZONS, 1e6))
        assert all_are_finite(got)
        assert (np.abs(got.lat) <= 90).all()
        assert (got.lon >= -180).all()
        assert (got.lon < 180).all()
        assert not got.fallback.any()
