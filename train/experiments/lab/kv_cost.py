"""The cost of a state's key/value cache: bytes and speed as served, and the loss of accuracy with int8.

The step that is timed has a float32 cache; int8 is simulated by rounding keys and values as an int8 cache does.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
from torch import Tensor, nn

from model.api import Predictor
from model.config import ModelConfig
from model.network.checkpoint import served
from model.network.network import Network
from model.network.transformer import Block
from train.data.corpus import Corpus

LEVELS: Final = 127  # on either side of 0
SCALE_BYTES: Final = 2  # one float16 per token, block, and key or value
ROWS: Final = 256  # entities of a timed step
ROUNDS: Final = 12  # timed steps; the fastest counts, because other processes share the machine


@dataclass(frozen=True)
class Cost:
    """The cost of one choice of the key/value cache."""

    name: str
    state_bytes: int  # as written to the store, with a full cache
    int8_bytes: int
    pings_per_s: float  # of Predictor.advance on one core


class Int8Block(Block):
    """A block whose keys and values are rounded to int8."""

    def project(self, x: Tensor, cos_sin: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().project(x, cos_sin)
        return q, through_int8(k), through_int8(v)


def through_int8(x: Tensor) -> Tensor:
    """Returns x [..., E] rounded to int8 with one float16 scale per vector."""
    scale = (x.abs().amax(-1, keepdim=True) / LEVELS).clamp_min(1e-7).half().float()
    return (x / scale).round().clamp(-LEVELS, LEVELS) * scale


def with_int8_rings(network: Network) -> Network:
    """Returns a copy of the network that attends to keys and values rounded to int8."""
    out = copy.deepcopy(network)
    blocks = []
    for block in out.trunk.blocks:
        rounded = Int8Block(out.config)
        rounded.load_state_dict(block.state_dict())
        blocks.append(rounded)
    out.trunk.blocks = nn.ModuleList(blocks)
    return out


def ring_bytes(config: ModelConfig, bits: int) -> int:
    """Returns the bytes of an entity's full key/value cache."""
    vectors = 2 * config.blocks * config.window
    return vectors * (config.kv_dim * bits // 8 + (SCALE_BYTES if bits == 8 else 0))


def served_cost(name: str, network: Network, corpus: Corpus) -> Cost:
    """Returns bytes and speed of the served step, with full caches from the corpus' longest track."""
    config, longest = network.config, corpus.tracks[np.argmax(np.diff(corpus.tracks, axis=1))]
    window = np.resize(corpus.fixes(np.arange(*longest)), config.window + 1)
    window["ts_ms"] = window["ts_ms"][0] + 10_000 * np.arange(len(window))
    predictor = Predictor(served(network), name="timed", capacity=ROWS, precision="float32")
    slots = predictor.acquire(ROWS)
    predictor.rebuild(slots, [window] * ROWS)
    size, fixes, best_s = len(predictor.dumps(slots[:1])[0]), np.repeat(window[-1:], ROWS), np.inf
    for _ in range(ROUNDS):
        fixes["ts_ms"] += 10_000
        started = time.process_time()
        predictor.advance(slots, fixes)
        best_s = min(best_s, time.process_time() - started)
    return Cost(name, size, size - ring_bytes(config, 32) + ring_bytes(config, 8), ROWS / best_s)
