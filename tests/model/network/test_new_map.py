"""Weights that get a map answer as before, to the bit, until the map is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.api import FIX, Gap, Predictor
from model.config import ModelConfig
from model.kinematics.map_cells import most_visited
from model.network.checkpoint import to_parameters
from model.network.network import READERS, Network, is_new, with_map

TINY = ModelConfig(name="tiny", d=16, blocks=2, heads=2, window=8)
Unsettled = Callable[..., Network]


def drive(rows: int = 3, pings: int = 24) -> np.ndarray:
    rng = np.random.default_rng(5)
    fixes = np.empty((rows, pings), FIX)
    fixes["ts_ms"] = 1_480_000_000_000 + 30_000 * np.arange(pings)
    fixes["lat_e7"] = 300_000_000 + np.cumsum(rng.integers(-3_000, 3_000, (rows, pings)), axis=1)
    fixes["lon_e7"] = -970_000_000 + np.cumsum(rng.integers(-3_000, 3_000, (rows, pings)), axis=1)
    fixes["speed_cms"] = fixes["heading_cdeg"] = 65_535
    return fixes


def answers(network: Network, precision: str) -> list[np.ndarray]:
    predictor, fixes = Predictor(to_parameters(network), name="any", precision=precision), drive()
    slots = predictor.acquire(len(fixes))
    for ping in range(fixes.shape[1]):
        predictor.advance(slots, np.array(fixes[:, ping]))
    ahead = predictor.forecast(slots, (60.0, 900.0))
    gaps = [Gap(row[-8:-5], row[-3:], np.array([row["ts_ms"][-4]])) for row in fixes]
    fills = predictor.fill(slots, gaps)
    return [
        ahead.lat,
        ahead.lon,
        ahead.cov_m2,
        ahead.next_dt_s,
        *(part for one in fills for part in (one.lat, one.lon)),
    ]


def mapped(network: Network) -> Network:
    """The network with a map that knows where the drive goes."""
    grown, fixes = with_map(network, 2_000, seed=3), drive()
    assert grown.trunk.places is not None
    grown.trunk.places.know(most_visited(fixes["lat_e7"].ravel() / 1e7, fixes["lon_e7"].ravel() / 1e7, 2_000, 1))
    return grown


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_new_map_changes_no_answer(unsettled: Unsettled, precision: str) -> None:
    network = unsettled(TINY)
    for one, other in zip(answers(network, precision), answers(mapped(network), precision), strict=True):
        assert np.array_equal(one, other)


def test_the_map_is_read_once_its_layers_are_trained(unsettled: Unsettled) -> None:
    """Or the test above would say nothing: there the cells are known, too."""
    grown = mapped(unsettled(TINY))
    with torch.no_grad():
        for name, weight in grown.named_parameters():
            if name.startswith(READERS):
                weight += 0.1
    for one, other in zip(answers(unsettled(TINY), "float32"), answers(grown, "float32"), strict=True):
        assert not np.array_equal(one, other)


def test_all_that_a_map_brings_is_new_and_nothing_else(unsettled: Unsettled) -> None:
    before = unsettled(TINY)
    old, grown = dict(before.named_parameters()), with_map(before, 30, seed=0)
    assert {name for name, _ in grown.named_parameters() if is_new(name)} == dict(grown.named_parameters()).keys() - old
    assert grown.config == replace(TINY, places=30)


def test_a_second_map_is_refused(unsettled: Unsettled) -> None:
    with pytest.raises(ValueError, match="have a map already, of 30 cells"):
        with_map(with_map(unsettled(TINY), 30, seed=0), 60, seed=0)
