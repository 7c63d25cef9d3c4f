"""Random weights without torch: of the same kinds as those that training begins with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.config import SMALL, ModelConfig
from model.network.checkpoint import to_parameters
from model.network.network import build
from model.parameters.untrained import untrained


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, places=3000, blocks=3)])
def test_each_tensor_is_spread_as_the_network_s_own(config: ModelConfig) -> None:
    """Zeros are zeros, and random numbers have the same mean size, but for chance: a fifth, of few numbers a third."""
    ours, theirs = untrained(config, 0), to_parameters(build(config, 0))
    assert ours.tensors.keys() == theirs.tensors.keys()
    for name, tensor in ours.tensors.items():
        want = theirs[name]
        assert (tensor.shape, tensor.dtype) == (want.shape, want.dtype), name
        size = np.abs(want.astype(np.float64)).mean()
        assert np.abs(tensor.astype(np.float64)).mean() == pytest.approx(
            size, rel=0.35 if tensor.size < 1000 else 0.2
        ), name


def test_the_seed_alone_decides() -> None:
    assert untrained(SMALL, 1).fingerprint() == untrained(SMALL, 1).fingerprint()
    assert untrained(SMALL, 1).fingerprint() != untrained(SMALL, 2).fingerprint()
