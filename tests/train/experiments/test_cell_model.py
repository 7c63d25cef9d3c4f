"""Regions in, regions out: what a model of cells sees, and what it must not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from train_worlds import MakeCorpus, together, wander

from model.config import ModelConfig
from model.kinematics import baselines, features, queries
from train.experiments.lab import cell_model
from train.experiments.lab.cell_model import CellNetwork

TINY = ModelConfig(name="cells", d=16, blocks=1, heads=2, window=8)
CELLS = 5


@pytest.fixture
def net() -> CellNetwork:
    return cell_model.build(TINY, CELLS, 0)


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
