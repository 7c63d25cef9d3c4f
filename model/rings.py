"""Keys and values of all slots, in rings of W places per block. Knows numbers and their rounding; knows no ages.

    keys    [blocks, slots, E, W]  int8 or float32   a row per number: the lanes of a score are places
    values  [blocks, slots, W, E]  int8 or float32
    scale   [blocks, slots, 2, W]  uint16            of a key and of a value: number = stored · scale

A scale is the upper half of a float32 (a bfloat16), rounded up so that the largest number of a vector stays within
int8: 2 bytes for 0.4 % of the range. At E=32, W=64 and two blocks int8 rings take 8 KiB of numbers and 512 bytes of
scales per slot; float32 rings, whose scales are 1, take 32 KiB.

Shapes: N rows, W places, E = G·D numbers of a key or value.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import kernels
from model.config import ModelConfig

KINDS: Final[dict[str, Any]] = {"int8": np.int8, "float32": np.float32}
LEVELS: Final = 127  # of int8 on either side of 0
ONE: Final = 0x3F80  # the scale 1.0

Slots = NDArray[np.int64]


class Filled(NamedTuple):
    """The first n places of rings, as they are stored: what a state's bytes hold."""

    kv: NDArray[Any]  # [..., blocks, 2, n, E]
    scale: NDArray[np.uint16]  # [..., blocks, 2, n]


class Rings:
    """Of every slot; `attend` is what `model.transformer.Trunk.step` asks for, through `Rows`."""

    def __init__(self, config: ModelConfig, kind: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"rings must be one of {', '.join(KINDS)}, got {kind!r}")
        c = config
        self.config, self.kind, self.levels = c, kind, LEVELS if kind == "int8" else 0
        self.keys = np.zeros((c.blocks, 0, c.kv_dim, c.window), KINDS[kind])
        self.values = np.zeros((c.blocks, 0, c.window, c.kv_dim), KINDS[kind])
        self.scale = np.zeros((c.blocks, 0, 2, c.window), np.uint16)

    @property
    def slot_bytes(self) -> int:
        """Of one slot, all blocks."""
        return sum(array.nbytes // array.shape[1] for array in (self.keys, self.values, self.scale))

    def grow(self, extra: int) -> None:
        self.keys, self.values, self.scale = (
            np.concatenate([a, np.zeros((len(a), extra, *a.shape[2:]), a.dtype)], axis=1)
            for a in (self.keys, self.values, self.scale)
        )

    def clear(self, slots: Slots) -> None:
        """Zero: a share of 0 hides what a place held, but 0 · NaN would not."""
        self.keys[:, slots], self.values[:, slots], self.scale[:, slots] = 0, 0, 0

    def rows(self, slots: Slots, age: Slots) -> Rows:
        """Of one step, at these ages."""
        return Rows(self, slots, age)

    def dumps(self, slots: Slots) -> Filled:
        """All places of these slots [N, blocks, 2, W, ...], a copy."""
        keys, values = self.keys[:, slots].swapaxes(2, 3), self.values[:, slots]
        return Filled(np.stack([keys, values], axis=2).swapaxes(0, 1), self.scale[:, slots].swapaxes(0, 1))

    def loads(self, slot: int, filled: Filled) -> None:
        """Overwrite the first places of one slot's rings."""
        n = filled.kv.shape[2]
        self.keys[:, slot, :, :n] = filled.kv[:, 0].swapaxes(1, 2)
        self.values[:, slot, :n] = filled.kv[:, 1]
        self.scale[:, slot, :, :n] = filled.scale


class Rows:
    """`model.transformer.Rings` of some slots at their ages: appends one key and value to each, in place."""

    def __init__(self, rings: Rings, slots: Slots, age: Slots) -> None:
        self._rings, self._slots, self._age = rings, slots, age

    def attend(self, block: int, qkv: Tensor, cos_sin: Tensor | None) -> Tensor:
        r, c = self._rings, self._rings.config
        if cos_sin is None:  # turned by nothing
            cos_sin = torch.zeros(len(qkv), 2, c.head_dim // 2)
            cos_sin[:, 0] = 1.0
        out = np.zeros((len(qkv), c.d), np.float32)
        kernels.attend(
            r.keys[block], r.values[block], r.scale[block], self._slots, self._age,
            cos_sin.numpy(), qkv.numpy(), c.heads, r.levels, out,
        )  # fmt: skip
        return torch.from_numpy(out)
