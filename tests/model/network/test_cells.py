"""Regions in, regions out: what a model of cells sees, and what it must not see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.api import Predictor, WeightsError
from model.config import ModelConfig
from model.kinematics import baselines, features, queries
from model.network import network
from model.network.checkpoint import served

CELLS = ModelConfig(name="cells", d=16, blocks=1, heads=2, window=8, cells=5)

Tracks = Callable[..., NDArray[Any]]


def test_cells_cannot_be_served_nor_patched() -> None:
    with pytest.raises(WeightsError, match="which of 5 cells"):
        Predictor(served(network.build(CELLS, 0)), name="cells")
    with pytest.raises(ValueError, match="cells must be"):
        ModelConfig(cells=-1)
    with pytest.raises(ValueError, match="no one cell"):
        ModelConfig(cells=5, patch=2)


def test_a_model_of_cells_sees_when_and_no_metres(tracks: Tracks) -> None:
    """Two things that ping at the same times, one of them ten times as fast: alike but for their cells."""
    fixes = tracks(2, 20)
    fixes["ts_ms"][1] = fixes["ts_ms"][0]
    fixes["lon_e7"][1] = fixes["lon_e7"][0]
    fixes["lat_e7"][1] = fixes["lat_e7"][0, 0] + 10 * (fixes["lat_e7"][0] - fixes["lat_e7"][0, 0])
    kin = baselines.scan_fixes(fixes, CELLS)
    x = features.encode(kin, features.context(fixes), CELLS)
    assert x.shape == (2, 20, features.width(CELLS))
    np.testing.assert_array_equal(x[0], x[1])
    fixes["speed_cms"], fixes["heading_cdeg"] = 700, 9_000
    said = features.context(fixes[:, -1])
    slow, fast = (
        queries.forecast(
            kin[i, -1], np.array([60.0, 900.0]), CELLS, context=features.Context(*(v[i] for v in said))
        ).features
        for i in (0, 1)
    )
    np.testing.assert_allclose(slow, fast)
    assert (slow[0] != slow[1]).any()  # the time asked for is seen


def test_each_cell_and_the_unknown_one_have_a_vector_of_their_own() -> None:
    net = network.build(CELLS, 0)
    x = torch.zeros(6, 1, features.width(CELLS))
    assert net.region is not None
    with torch.inference_mode():
        hidden = net.trunk(x, cell=torch.arange(6)[:, None])[0][:, 0]
        logits = net.region(hidden, torch.zeros(6, 1, queries.FORECAST_FEATURES), net.trunk.cells)
    assert len(np.unique(hidden.numpy().round(6), axis=0)) == 6
    assert logits.shape == (6, 1, 5)  # nobody can answer "unknown"


def test_a_number_that_is_no_cell_is_refused() -> None:
    net = network.build(CELLS, 0)
    for wrong in (-1, 6):
        with pytest.raises(ValueError, match="cells are 0 to 5"):
            net.trunk(torch.zeros(1, 1, features.width(CELLS)), cell=torch.tensor([[wrong]]))


def test_a_model_of_metres_has_no_cells() -> None:
    net = network.build(ModelConfig(d=16, blocks=1, heads=2, window=8), 0)
    assert net.region is None
    assert not any("cells" in name or "region" in name for name in net.state_dict())
