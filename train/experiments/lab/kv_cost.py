"""What a state's rings cost: bytes and speed as served, and what int8 would lose. Knows keys and values.

Served here with float32 rings; int8 is simulated, rounding what a ring of int8 would give back.
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
from model.network.network import Network
from model.network.transformer import Block
from train.data.corpus import Corpus

LEVELS: Final = 127  # on either side of 0
SCALE_BYTES: Final = 2  # one float16 per token, block, and key or value
ROWS: Final = 256  # entities of a timed step
ROUNDS: Final = 12  # timed steps; the fastest counts, since others share the machine


@dataclass(frozen=True)
class Cost:
    """What one choice of rings costs."""

    name: str
    state_bytes: int  # as written to the store, with full rings
    int8_bytes: int
    pings_per_s: float  # of Predictor.advance on one core


class Int8Block(Block):
    """A block whose keys and values have been through int8."""

    def project(self, x: Tensor, cos_sin: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().project(x, cos_sin)
        return q, through_int8(k), through_int8(v)


def through_int8(x: Tensor) -> Tensor:
    """x [..., E] rounded to int8 with one float16 scale per vector."""
    scale = (x.abs().amax(-1, keepdim=True) / LEVELS).clamp_min(1e-7).half().float()
    return (x / scale).round().clamp(-LEVELS, LEVELS) * scale


def with_int8_rings(network: Network) -> Network:
    """A copy of the network that attends to what int8 rings would hold."""
    out = copy.deepcopy(network)
    blocks = []
    for block in out.trunk.blocks:
        rounded = Int8Block(out.config)
        rounded.load_state_dict(block.state_dict())
        blocks.append(rounded)
    out.trunk.blocks = nn.ModuleList(blocks)
    return out


def ring_bytes(config: ModelConfig, bits: int) -> int:
    """Bytes of an entity's full rings."""
    vectors = 2 * config.blocks * config.window
    return vectors * (config.kv_dim * bits // 8 + (SCALE_BYTES if bits == 8 else 0))


def served_cost(name: str, network: Network, corpus: Corpus) -> Cost:
    """Bytes and speed of the served step, with full rings of the corpus' longest track."""
    config, longest = network.config, corpus.tracks[np.argmax(np.diff(corpus.tracks, axis=1))]
    window = np.resize(corpus.fixes(np.arange(*longest)), config.window + 1)
    window["ts_ms"] = window["ts_ms"][0] + 10_000 * np.arange(len(window))
    predictor = Predictor(network, name="timed", capacity=ROWS, precision="float32")
    slots = predictor.acquire(ROWS)
    predictor.rebuild(slots, [window] * ROWS)
    size, fixes, best_s = len(predictor.dumps(slots[:1])[0]), np.repeat(window[-1:], ROWS), np.inf
    for _ in range(ROUNDS):
        fixes["ts_ms"] += 10_000
        started = time.process_time()
        predictor.advance(slots, fixes)
        best_s = min(best_s, time.process_time() - started)
    return Cost(name, size, size - ring_bytes(config, 32) + ring_bytes(config, 8), ROWS / best_s)
