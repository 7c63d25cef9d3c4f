"""Regions in, regions out: what a model of cells sees, and what it must not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from train_worlds import MakeCorpus, together, wander

from model.config import ModelConfig
from model.kinematics import baselines, features, queries
from model.network.network import build
from train.experiments.lab import cell_model
from train.experiments.lab.cell_model import TIMES, CellNetwork
from train.fit.optimizer import Optimizer

TINY = ModelConfig(name="cells", d=16, blocks=1, heads=2, window=8)
CELLS = 5


@pytest.fixture
def net() -> CellNetwork:
    return cell_model.build(TINY, CELLS, 0)


def test_only_the_experiment_has_a_model_of_cells() -> None:
    with pytest.raises(ValueError, match="cells must be 0, got 5: only `pathcast experiment regions`"):
        ModelConfig(cells=5)


def test_a_model_of_cells_sees_when_and_no_metres(make_corpus: MakeCorpus, net: CellNetwork) -> None:
    """Two things that ping at the same times, one of them ten times as fast: alike but for their cells."""
    corpus = make_corpus(together(wander("a", 20, 1), wander("b", 20, 2)))
    fixes = corpus.fixes(corpus.tracks[:, :1] + np.arange(20))
    fixes["ts_ms"][1] = fixes["ts_ms"][0]
    fixes["lon_e7"][1] = fixes["lon_e7"][0]
    fixes["lat_e7"][1] = fixes["lat_e7"][0, 0] + 10 * (fixes["lat_e7"][0] - fixes["lat_e7"][0, 0])
    fixes["speed_cms"], fixes["heading_cdeg"] = [[700], [70]], 9_000
    kin = baselines.scan_fixes(fixes, TINY)
    ctx = features.context(fixes)
    x = features.encode(kin, ctx, TINY)
    assert not np.array_equal(x[0], x[1])
    last = features.Context(*(part[:, -1] for part in ctx))
    asked = queries.forecast(kin[:, -1], np.array([[60.0, 900.0]] * 2), TINY, context=last).features
    assert not np.array_equal(asked[0], asked[1])
    with torch.inference_mode():
        hidden = net.read(x, np.ones((2, 20), np.int64))
        logits = net.answer(hidden[:, -1], asked)
    assert torch.equal(hidden[0], hidden[1])
    torch.testing.assert_close(logits[0], logits[1])
    assert not torch.equal(logits[0, 0], logits[0, 1])  # the time asked for is seen


def test_the_features_it_sees_are_the_interval_and_the_clock(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(wander("a", 20, 1))
    fixes = corpus.fixes(np.arange(20)[None])
    x = features.encode(baselines.scan_fixes(fixes, TINY), features.context(fixes), TINY)[0][:, TIMES]
    dt_s = np.diff(fixes["ts_ms"][0], prepend=fixes["ts_ms"][0, 0] - 1000) / 1000.0
    np.testing.assert_allclose(x[:, 0], np.log(dt_s) / 3.0, rtol=1e-6)
    np.testing.assert_array_equal(x[:, 1], np.arange(20) == 0)
    np.testing.assert_allclose(x[:, 2] ** 2 + x[:, 3] ** 2, 1.0, rtol=1e-6)
    assert x.shape[1] == 2 + 9


def test_each_cell_and_the_unknown_one_have_a_vector_of_their_own(net: CellNetwork) -> None:
    with torch.inference_mode():
        hidden = net.read(zeros(6), np.arange(6)[:, None])[:, 0]
        logits = net.answer(hidden, np.zeros((6, 1, queries.FORECAST_FEATURES)))
    assert len(np.unique(hidden.numpy().round(6), axis=0)) == 6
    assert logits.shape == (6, 1, 5)  # nobody can answer "unknown"


def test_a_number_that_is_no_cell_is_refused(net: CellNetwork) -> None:
    for wrong in (-1, 6):
        with pytest.raises(ValueError, match="cells are 0 to 5"):
            net.read(zeros(1), np.array([[wrong]]))


def test_muon_leaves_the_vectors_of_cells_alone(net: CellNetwork) -> None:
    """A row of the table is a cell, not a direction of a product."""
    optimizer = Optimizer(net, kind="muon", lr=1e-3, muon_lr=1e-2, weight_decay=0.0, bfloat16=False)
    adamw, muon = ({id(p) for group in part.param_groups for p in group["params"]} for part in optimizer.parts)
    assert id(net.cell_embed.weight) in adamw
    assert id(net.cell.middle.weight) in muon


def test_a_model_of_metres_has_no_cells() -> None:
    assert not any("cell" in name for name in build(TINY, 0).state_dict())


def zeros(rows: int) -> NDArray[np.float32]:
    return np.zeros((rows, 1, features.width(TINY)), np.float32)
