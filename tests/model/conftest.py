"""Tracks and predictors for the model's tests. Every random track is a function of its seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

from model.api import ABSENT, FIX, Predictor
from model.config import SMALL, ModelConfig
from model.kinematics.geo import E7
from model.kinematics.map_cells import most_visited
from model.network import network
from model.network.checkpoint import from_pretrained, to_parameters
from model.parameters.reading import BUNDLED

# No test fails because the machine is busy.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

# Every way of ModelConfig that can be served, on top of the default.
VARIANTS: dict[str, dict[str, Any]] = {
    "time-rope": {"positions": "time-rope"},
    "no positions": {"positions": "none"},
    "fourier": {"absolute": True},
    "places": {"places": 3000},
    "delta": {"target": "delta"},
    "absolute": {"target": "absolute", "absolute": True, "origin_lat_deg": 30.2, "origin_lon_deg": -97.7},
    "three blocks": {"blocks": 3, "window": 16},
}
WEIGHTS = ["random", *sorted(path.parent.name for path in BUNDLED.glob("*/config.json"))]

Tracks = Callable[..., NDArray[Any]]


def wandering(rows: int, pings: int, *, seed: int = 0, median_s: float = 20.0) -> NDArray[Any]:
    """FIX records [rows, pings] of things that drive, turn, stop, fall silent for hours, and now and then say more."""
    rng = np.random.default_rng(seed)
    dt_ms = (1000 * median_s * np.exp(rng.normal(0, 0.7, (rows, pings)))).astype(np.int64) + 1
    dt_ms[rng.random((rows, pings)) < 0.03] *= 300
    heading = np.cumsum(rng.normal(0, 0.4, (rows, pings)), axis=1) + rng.uniform(0, 7, (rows, 1))
    speed = np.abs(rng.normal(9, 6, (rows, pings))) * (rng.random((rows, pings)) > 0.2)
    step_m = speed * np.minimum(dt_ms / 1000, 600)
    fixes = np.zeros((rows, pings), dtype=FIX)
    fixes["ts_ms"] = 1_480_000_000_000 + np.cumsum(dt_ms, axis=1)
    fixes["lat_e7"] = 302_700_000 + np.cumsum(step_m * np.cos(heading), axis=1) * 90
    fixes["lon_e7"] = -977_400_000 + np.cumsum(step_m * np.sin(heading), axis=1) * 104
    told = rng.random((rows, pings)) < 0.5
    fixes["speed_cms"] = np.where(told, (speed * 100).astype(int), ABSENT)
    fixes["heading_cdeg"] = np.where(told, (np.degrees(heading) % 360 * 100).astype(int), ABSENT)
    return fixes


def random_network(config: ModelConfig = SMALL, *, seed: int = 3) -> network.Network:
    """Random weights everywhere, the zero layers of the heads and all biases included."""
    net = network.build(config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return net


def following(net: network.Network, *, name: str) -> Predictor:
    """A predictor of the network, with float32 rings, and the network beside it as `net`."""
    predictor = Predictor(to_parameters(net), name=name, capacity=16, precision="float32")
    predictor.net = net
    return predictor


@pytest.fixture(scope="session")
def tracks() -> Tracks:
    return wandering


@pytest.fixture(params=WEIGHTS)
def predictor(request: pytest.FixtureRequest) -> Predictor:
    """With random weights, and with every bundled model."""
    return _by_name(request.param)


@pytest.fixture(params=[*WEIGHTS, *VARIANTS])
def any_predictor(request: pytest.FixtureRequest) -> Predictor:
    """The same, and a random one of every variant that can be served."""
    return _by_name(request.param)


@pytest.fixture
def tiny() -> Predictor:
    """Small enough for many calls, random weights."""
    config = ModelConfig(name="tiny", d=16, blocks=2, heads=2, window=8)
    return Predictor(to_parameters(random_network(config)), name="tiny", capacity=4)


@pytest.fixture
def unsettled() -> Callable[..., network.Network]:
    return random_network


def _by_name(name: str) -> Predictor:
    """A predictor of bundled weights, or of random ones."""
    return following(_network(name), name=name)


@cache
def _network(name: str) -> network.Network:
    """The network of that name: read or drawn once, and only asked."""
    if name in VARIANTS:
        net = random_network(replace(SMALL, d=64, **VARIANTS[name]))
        if net.trunk.places is not None:
            fixes = wandering(8, 120)
            net.trunk.places.know(most_visited(fixes["lat_e7"].ravel() / E7, fixes["lon_e7"].ravel() / E7, 3000, 1))
        return net
    return random_network() if name == "random" else from_pretrained(name)
