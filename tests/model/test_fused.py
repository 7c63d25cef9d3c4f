"""What serving computes row by row is what training computes in numpy and torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model import baselines, features, fused, motion, network, queries
from model.config import SMALL
from model.geo import E7
from model.heads import OUT, combine
from model.places import Places, most_visited

Tracks = Callable[..., NDArray[Any]]
CONFIGS = [SMALL, replace(SMALL, damping_s=60.0, accel_psd=2.0, fix_sigma_m=12.0, start_speed_mps=3.0, absolute=True)]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_step_is_the_scan_and_the_encoding(tracks: Tracks, config: Any) -> None:
    fixes = tracks(20, 80, seed=1)
    fixes["lon_e7"][3, 40:] -= 1_800_000_000  # round the antimeridian
    rows = baselines.scan_fixes(fixes, config)
    want = features.encode(rows, features.context(fixes), config)
    kin, last = motion.fresh(config, (20,)), np.zeros(20, features.FIX)
    for t in range(80):
        kin, x = fused.step(kin, last, fixes[:, t], np.full(20, t), config)
        np.testing.assert_allclose(kin, rows[:, t], rtol=1e-6, atol=1e-9)  # 1 − gain cancels
        np.testing.assert_allclose(x, want[:, t], rtol=1e-6, atol=1e-6)
        last = fixes[:, t].copy()


@pytest.mark.parametrize("way", [{}, {"target": "delta"}, {"target": "absolute"}, {"query_time": False}])
def test_a_question_is_the_one_that_training_asks(tracks: Tracks, way: dict[str, Any]) -> None:
    config, fixes = replace(SMALL, **way), tracks(20, 80, seed=2)
    dt = np.exp(np.random.default_rng(3).uniform(np.log(1e-4), np.log(1e6), (20, 5)))
    for age in (0, 1, 2, 79):
        kin, last = baselines.scan_fixes(fixes, config)[:, age], fixes[:, age]
        want = queries.forecast(kin, dt, config, queries.from_origin(last, config))
        got = fused.question(kin, dt, last, config)
        for name, x, y in zip(want._fields, got, want, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6, err_msg=name)


def test_a_fix_is_found_on_the_map_as_training_finds_it(tracks: Tracks) -> None:
    fixes = tracks(30, 60, seed=7)
    fixes["lat_e7"][0, :3], fixes["lon_e7"][0, :4] = (
        [900_000_000, -900_000_000, 0],
        [1_799_999_999, -1_800_000_000, 0, 1],
    )
    lat, lon = fixes["lat_e7"].ravel() / E7, fixes["lon_e7"].ravel() / E7
    for most in (500, 100_000):  # cells left out, and a table that is not full
        made = Places(replace(SMALL, places=most))
        made.know(most_visited(lat[:900], lon[:900], most, 1))
        want, got = made.find(lat, lon), fused.find(made, fixes.ravel())
        torch.testing.assert_close(got.share, want.share, rtol=0, atol=1e-5)
        known = want.share > 1e-5
        assert known.any()
        assert torch.equal(got.row[known], want.row[known])


@pytest.mark.parametrize("size", [0.0, 0.3, 5.0, 100.0])
def test_an_answer_is_combined_as_training_combines_it(tracks: Tracks, size: float) -> None:
    kin = baselines.scan_fixes(tracks(50, 30, seed=4), SMALL)[:, -1]
    question = queries.forecast(kin, np.broadcast_to([10.0, 300.0, 9e5], (50, 3)), SMALL)
    rng = np.random.default_rng(5)
    raw = (size * rng.normal(size=(50, 3, OUT + queries.FORECAST_OTHERS))).astype(np.float32)
    want = combine(torch.from_numpy(raw), network.asked(question, torch.float64))
    mean, cov = fused.combined(raw, question)
    np.testing.assert_allclose(mean, want.mean_en, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(cov, want.cov_m2, rtol=1e-7, atol=1e-6)


def test_what_is_not_finite_stays_so(tracks: Tracks) -> None:
    """Or the fall-back to physics would not be taken."""
    kin = baselines.scan_fixes(tracks(1, 30, seed=6), SMALL)[:, -1]
    question = queries.forecast(kin, np.array([[60.0]]), SMALL)
    for number in range(OUT + queries.FORECAST_OTHERS):
        raw = np.zeros((1, 1, OUT + queries.FORECAST_OTHERS), np.float32)
        raw[..., number] = np.nan
        mean, cov = fused.combined(raw, question)
        assert not (np.isfinite(mean).all() and np.isfinite(cov).all()), number
