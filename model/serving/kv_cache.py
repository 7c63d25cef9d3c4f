"""The key/value cache: keys and values of all slots, in ring buffers of W places per block. A slot's age is the
caller's.

    precision   float32                              int8
    keys        float32 [blocks, slots, E, W]        int8  [blocks, slots, E, W]     lanes of a score are places
    values      float32 [blocks, slots, W, E]        uint8 [blocks, slots, 3, M, E]  six bits each, M = W/4 rounded up
    scale       none                                 uint16 [blocks, slots, 2, W]    of a key, of a value

A rounded number is stored · scale. A scale is the upper half of a float32 (a bfloat16), rounded up so that the largest
number of a vector stays within its levels: 2 bytes for 0.4 % of the range. Four values of six bits lie in three bytes:

    byte k of 0, 1, 2 at [k, m]    bits 0..5: place k·M + m, plus 32    bits 6, 7: bits 2k, 2k + 1 of place 3·M + m

Keys have eight bits; for values six are enough: mean errors of forecasts stay within 0.03 % of float32's, with five
bits within 0.09 %, with four within 0.44 %. At E=32, W=64 and two blocks that is 7,680 bytes per slot, scales included;
float32 takes 32 KiB.

Shapes: N rows, W places, E = G·D numbers of a key or value.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.kernels import attention

PRECISIONS: Final = ("float32", "int8")

Slots = NDArray[np.int64]


class Filled(NamedTuple):
    """The first n places of one slot's ring buffers, as a state's bytes contain them; or of many slots, with a leading
    axis [N].
    """

    keys: NDArray[Any]  # [blocks, n, E]
    values: NDArray[Any]  # [blocks, n, E], or of six bits [blocks, 3, n/4 rounded up, E]
    scale: NDArray[np.uint16]  # [blocks, 2, n], or [blocks, 2, 0]


class KvCache:
    """The ring buffers of every slot; a step reaches `attend` through `Rows`."""

    def __init__(self, config: ModelConfig, precision: str) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        b, w, e = config.blocks, config.window, config.head_dim
        self.config, self.rounded = config, precision == "int8"
        self.keys: NDArray[Any] = np.zeros((b, 0, e, w), np.int8 if self.rounded else np.float32)
        self.values: NDArray[Any] = np.zeros((b, 0, w, e), np.float32)
        if self.rounded:
            self.values = np.zeros((b, 0, 3, quarter(w), e), np.uint8)
        self.scale = np.zeros((b, 0, 2, w if self.rounded else 0), np.uint16)

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot, all blocks."""
        return sum(array.nbytes // array.shape[1] for array in (self.keys, self.values, self.scale))

    def grow(self, extra: int) -> None:
        self.keys, self.values, self.scale = (longer(a, extra, 1) for a in (self.keys, self.values, self.scale))

    def clear(self, slots: Slots) -> None:
        """Sets the slots to zero. A weight of 0 hides an unused place, but 0 · NaN would not be 0."""
        self.keys[:, slots], self.values[:, slots], self.scale[:, slots] = 0, 0, 0

    def rows(self, slots: Slots, age: Slots) -> Rows:
        """Returns the rows of one step at these ages. If a slot has several rows, they are in the order of its
        pings.
        """
        return Rows(self, slots, age)

    def first(self, slots: Slots, n: int) -> Filled:
        """Returns copies of the first n places of each of these slots, with a leading axis [N]."""
        keys, values = self.keys[:, slots, :, :n].transpose(1, 0, 3, 2), self.values[:, slots].swapaxes(0, 1)
        scale = self.scale[:, slots, :, :n].swapaxes(0, 1)
        if not self.rounded:
            return Filled(keys, values[:, :, :n], scale)
        m = quarter(n)
        if m < values.shape[3]:
            whole, values = values, np.zeros((*values.shape[:3], m, values.shape[4]), np.uint8)
            for one, part in zip(whole, values, strict=True):
                attention.repack(one, n, part)
        return Filled(keys, values, scale)

    def load(self, slots: Slots, filled: Filled) -> None:
        """Overwrites the ring buffers of slots [N] with the filled places [N, ...] of others; further places become
        zero.
        """
        n, (_, _, _, w) = filled.keys.shape[2], self.keys.shape
        if n < w:
            self.clear(slots)
        self.keys[:, slots, :, :n] = filled.keys.transpose(1, 0, 3, 2)
        self.scale[:, slots, :, :n] = filled.scale.swapaxes(0, 1)
        if not self.rounded:
            self.values[:, slots, :n] = filled.values.swapaxes(0, 1)
        elif quarter(n) == quarter(w):
            self.values[:, slots] = filled.values.swapaxes(0, 1)
        else:
            for slot, values in zip(slots.tolist(), filled.values, strict=True):
                attention.repack(values, n, self.values[:, slot])


class Rows:
    """The ring buffers of some slots at their ages: one row for each new ping."""

    def __init__(self, rings: KvCache, slots: Slots, age: Slots) -> None:
        self._rings, self._slots, self._age = rings, slots, age

    def attend(
        self,
        block: int,
        qkv: NDArray[np.float32],
        cos_sin: NDArray[np.float32] | None,
        asked: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """Appends each row's newest key and value, then answers its queries: qkv [N, C + 2E], E = G·D, to [N, C]. Rows
        that are not in `asked` (None: all are) return arbitrary numbers.

        It does for one ping what `model.network.transformer.Block.project` and `attend` do for a sequence; cos_sin [N,
        2, D/2], if given, rotates queries and keys.
        """
        r, c = self._rings, self._rings.config
        if cos_sin is None:  # no rotation
            cos_sin = np.zeros((len(qkv), 2, c.head_dim // 2), np.float32)
            cos_sin[:, 0] = 1.0
        out = np.zeros((len(qkv), c.d), np.float32)
        answered = np.full(len(self._slots), asked is None)
        if asked is not None:
            answered[asked] = True
        rest = self._slots, self._age, cos_sin, qkv, c.heads, answered, out
        if r.rounded:
            attention.attend_rounded(r.keys[block], r.values[block], r.scale[block], *rest)
        else:
            attention.attend(r.keys[block], r.values[block], *rest)
        return out


def longer(array: NDArray[Any], extra: int, axis: int) -> NDArray[Any]:
    """Returns the array with zeros appended along an axis. The system need not provide their memory before it is
    written to.
    """
    shape = list(array.shape)
    shape[axis] += extra
    grown = np.zeros(shape, array.dtype)
    grown[(slice(None),) * axis + (slice(0, array.shape[axis]),)] = array
    return grown


def quarter(places: int) -> int:
    """Returns the number of byte rows that hold so many places of six bits."""
    return (places + 3) // 4
