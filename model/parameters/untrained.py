"""Random weights of a config, under heads whose last layers are zero: before training a model answers as the physics
does. `model.network.network.build` makes the same kinds of weights for training, with torch's random numbers.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from model.config import ModelConfig
from model.parameters.reading import Parameters
from model.parameters.shapes import KEYS, Shape, shapes

UNUSED: Final = np.iinfo(np.int64).max  # fills the keys of a map that is not full
# Tensors that are zero before training: what they multiply changes no answer of the physics.
_ZERO: Final = ("trunk.report.", "forecast.from_report.", "gap.from_report.", "calibration.")
_TABLE: Final = "trunk.places.table"


def untrained(config: ModelConfig, seed: int) -> Parameters:
    """Returns weights that depend on the seed alone."""
    rng = np.random.default_rng([0x77676874, seed])
    named = shapes(config)
    return Parameters(config, {name: _tensor(rng, name, shape, named, config) for name, shape in named.items()})


def _tensor(rng: Generator, name: str, shape: Shape, named: dict[str, Shape], config: ModelConfig) -> NDArray[Any]:
    layer, _, part = name.rpartition(".")
    if name == KEYS:
        return np.full(shape, UNUSED)
    if name.startswith(_ZERO) or layer.endswith(".last"):
        return np.zeros(shape, np.float32)
    if name == _TABLE:
        return np.asarray(0.1 * rng.standard_normal(shape), np.float32)
    if "norm" in layer.rpartition(".")[2]:
        return np.full(shape, 1.0 if part == "weight" else 0.0, np.float32)
    if layer.endswith((".out", ".down")) and part == "weight" and ".blocks." in layer:
        # As in GPT-2, layers that add to the residual stream start with smaller weights the more blocks there are.
        return np.asarray((2 * config.blocks * config.d) ** -0.5 * rng.standard_normal(shape), np.float32)
    bound = 1 / math.sqrt(named[f"{layer}.weight"][1])
    return np.asarray(rng.uniform(-bound, bound, shape), np.float32)
