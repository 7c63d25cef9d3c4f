"""The heads that serving computes without torch, against the network's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.config import SMALL, ModelConfig
from model.kernels import exact
from model.kinematics import rotation
from model.kinematics.geo import E7
from model.kinematics.map_cells import most_visited
from model.kinematics.queries import GAP_FEATURES, GAP_OTHERS, Question
from model.network.checkpoint import to_parameters
from model.network.network import Network, to_tensors
from model.network.transformer import Positions
from model.serving.layers import Exact

Tracks = Callable[..., NDArray[Any]]
Unsettled = Callable[..., Network]
WAYS: list[dict[str, Any]] = [{}, {"places": 3000}]
N, Q = 7, 5


def network_of(unsettled: Unsettled, tracks: Tracks, way: dict[str, Any]) -> tuple[Network, NDArray[Any]]:
    """A network with random weights, and fixes; where it has a map, the map knows where most of them are."""
    config = replace(SMALL, d=32, **way)
    net, fixes = unsettled(config), tracks(N, 60, seed=5)
    if net.trunk.places is not None:
        net.trunk.places.know(most_visited(fixes["lat_e7"].ravel() / E7, fixes["lon_e7"].ravel() / E7, 3000, 1))
    return net.eval(), fixes[:, -1]


def hidden_of(config: ModelConfig, rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.normal(size=(N, config.d)).astype(np.float32)


@pytest.mark.parametrize("way", WAYS)
def test_gap_fills_are_those_of_the_network(unsettled: Unsettled, tracks: Tracks, way: dict[str, Any]) -> None:
    """To 1e-5 of numbers of unit size: 1 mm of a reach of 100 m."""
    net, last = network_of(unsettled, tracks, way)
    rng = np.random.default_rng(1)
    hidden, chord = hidden_of(net.config, rng), rng.normal(0, 500, (N, 2))
    question = Question(
        rng.normal(size=(N, Q, GAP_FEATURES)).astype(np.float32),
        rng.normal(0, 300, (N, Q, 2)),
        rng.normal(0, 300, (N, Q, GAP_OTHERS, 2)),
        rng.uniform(10, 1e4, (N, Q)),
        rng.uniform(5, 200, (N, Q)),
        rng.normal(0, 0.6, (N, Q, 2)),
        (rng.random((N, Q)) < 0.5).astype(np.float64),
    )
    lat, lon = last["lat_e7"] / E7, last["lon_e7"] / E7
    with torch.inference_mode():
        want = net.fill_numbers(torch.from_numpy(hidden), to_tensors(question, torch.float64), chord, lat, lon).numpy()
    got = Exact(to_parameters(net)).fill(hidden, question, chord, lat, lon)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    assert want.std() > 0.05


def test_no_number_of_a_gap_depends_on_the_gaps_beside_it(unsettled: Unsettled, tracks: Tracks) -> None:
    net, last = network_of(unsettled, tracks, {"places": 3000})
    rng = np.random.default_rng(3)
    hidden, chord = hidden_of(net.config, rng), rng.normal(0, 500, (N, 2))
    shapes = ((N, Q, 2), (N, Q, GAP_OTHERS, 2), (N, Q), (N, Q), (N, Q, 2), (N, Q))
    features = rng.normal(size=(N, Q, GAP_FEATURES)).astype(np.float32)
    question = Question(features, *(np.abs(rng.normal(size=shape)) for shape in shapes))
    layers, lat, lon = Exact(to_parameters(net)), last["lat_e7"] / E7, last["lon_e7"] / E7
    whole = layers.fill(hidden, question, chord, lat, lon)
    for row in range(N):
        some = slice(row, row + 1)
        alone = layers.fill(hidden[some], Question(*(one[some] for one in question)), chord[some], lat[some], lon[some])
        np.testing.assert_array_equal(alone, whole[some])


@pytest.mark.parametrize("kind", ["rope", "time-rope"])
def test_angles_are_those_by_which_training_rotates(kind: str) -> None:
    made, rng = Positions(kind, 128, 32), np.random.default_rng(4)
    index, time_ms = rng.integers(0, 10**9, 500), rng.integers(0, 2**41, 500)
    want = made.angles(torch.from_numpy(index), torch.from_numpy(time_ms))
    if kind == "rope":
        got = rotation.of_index(index, rotation.table(32))
    else:
        got = rotation.of_time(time_ms, rotation.time_turns(32))
    assert want is not None
    np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-6)


def test_exact_layers_are_torch_s() -> None:
    """gelu with the error function, and norms: to the last digits of float32."""
    x = np.random.default_rng(5).normal(0, 3, (40, 96)).astype(np.float32)
    out = np.empty_like(x)
    exact.gelu_into(x, out)
    np.testing.assert_allclose(out, torch.nn.functional.gelu(torch.from_numpy(x)).numpy(), rtol=1e-6, atol=1e-6)
    gain, shift = np.random.default_rng(6).normal(size=(2, 96)).astype(np.float32)
    exact.norm_into(x, gain, shift, out)
    want = torch.nn.functional.layer_norm(torch.from_numpy(x), (96,), torch.from_numpy(gain), torch.from_numpy(shift))
    np.testing.assert_allclose(out, want.numpy(), rtol=1e-5, atol=1e-5)
