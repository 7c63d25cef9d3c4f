"""What serving computes row by row is what training computes in numpy and torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.config import SMALL
from model.kinematics import baselines, features, motion
from model.kinematics.features import ABSENT
from model.kinematics.geo import E7
from model.kinematics.map_cells import most_visited
from model.network.places import Places
from model.serving import step_compiled

Tracks = Callable[..., NDArray[Any]]
CONFIGS = [SMALL, replace(SMALL, damping_s=60.0, accel_psd=2.0, fix_sigma_m=12.0, start_speed_mps=3.0, absolute=True)]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_step_is_the_scan_and_the_encoding(tracks: Tracks, config: Any) -> None:
    fixes = tracks(20, 80, seed=1)
    fixes["lon_e7"][3, 40:] -= 1_800_000_000  # round the antimeridian
    fixes["heading_cdeg"][4:7], fixes["speed_cms"][7:9], fixes["speed_cms"][9, ::2] = ABSENT, ABSENT, 9_001
    fixes["lat_e7"][6, 30:], fixes["lon_e7"][6, 30:] = fixes[6, 29]["lat_e7"], fixes[6, 29]["lon_e7"]
    rows = baselines.scan_fixes(fixes, config)
    want = features.encode(rows, features.context(fixes), config)
    kin, last = motion.fresh(config, (20,)), np.zeros(20, features.FIX)
    for t in range(80):
        kin, x = step_compiled.step(kin, last, fixes[:, t], np.full(20, t), config)
        np.testing.assert_allclose(kin, rows[:, t], rtol=1e-6, atol=1e-9)  # 1 − gain cancels
        np.testing.assert_allclose(x, want[:, t], rtol=1e-6, atol=1e-6)
        last = fixes[:, t].copy()


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
        want, (row, share) = made.find(lat, lon), step_compiled.find(made.keys.numpy(), fixes.ravel())
        np.testing.assert_allclose(share, want.share, rtol=0, atol=1e-5)
        known = want.share > 1e-5
        assert known.any()
        np.testing.assert_array_equal(row[known], want.row[known])
