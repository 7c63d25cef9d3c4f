"""The pool of entity states: slots of fixed size, each with a ring of keys and values per block and its own age.

Knows arrays and slots; knows no entity ids and no weights. Grows by doubling, never shrinks: a worker's entities stay.

    keys and values  float32 [blocks, slots, 2, W, D]   index of a ping in the ring = its age mod W
    hidden           float32 [slots, C]                 of the last ping, what the heads read
    kin              float64 [slots, K]                 model.motion
    last             FIX     [slots]                    the last fix
    age              int64   [slots]                    pings folded so far; 0 = empty

Another precision of the rings (int8) is a change of `_Rings.append`, `put_sequence`, `export_rings` and
`import_rings` alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import motion
from model.config import ModelConfig
from model.features import FIX

Slots = NDArray[np.int64]


class StatePool:
    """In place and thread-confined: the caller owns the slots that `acquire` hands out."""

    def __init__(self, config: ModelConfig, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1 slot, got {capacity}")
        self.config = config
        self._free: list[int] = []
        self.capacity = 0
        c = config
        self.rings = torch.zeros(c.blocks, 0, 2, c.window, c.kv_dim)
        self.hidden = torch.zeros(0, c.d)
        self.kin = np.zeros((0, motion.WIDTH))
        self.last = np.zeros(0, dtype=FIX)
        self.age = np.zeros(0, dtype=np.int64)
        self._grow(capacity)

    def acquire(self, n: int) -> Slots:
        """n empty slots, lowest first."""
        while len(self._free) < n:
            self._grow(2 * self.capacity)
        slots = np.array([self._free.pop() for _ in range(n)], dtype=np.int64)
        self.reset(slots)
        return slots

    def release(self, slots: Slots) -> None:
        """Hand slots back; age -1 marks them as nobody's."""
        self.check(slots)
        self.age[slots] = -1
        self._free.extend(sorted((int(s) for s in slots), reverse=True))

    def reset(self, slots: Slots) -> None:
        """Empty the slots. The rings keep their bytes: an age of 0 hides them."""
        self.age[slots] = 0
        self.kin[slots] = motion.fresh(self.config)
        self.last[slots] = np.zeros((), dtype=FIX)
        self.hidden[torch.from_numpy(slots)] = 0.0

    def check(self, slots: Slots) -> None:
        """ValueError unless the slots are distinct and acquired."""
        if slots.ndim != 1 or slots.dtype != np.int64:
            raise ValueError(f"slots must be int64 of one axis, got {slots.dtype} of {slots.shape}")
        if len(slots) and (slots.min() < 0 or slots.max() >= self.capacity or (self.age[slots] < 0).any()):
            raise ValueError("a slot is not acquired")
        if len(np.unique(slots)) != len(slots):
            raise ValueError("slots must be distinct: a row can fold one ping per call")

    def writer(self, slots: Slots) -> _Rings:
        """Rings of these rows for one step, at their present ages."""
        return _Rings(self.rings, torch.from_numpy(slots), torch.from_numpy(self.age[slots] % self.config.window))

    def put_sequence(self, slots: Slots, block: int, k_NTD: Tensor, v_NTD: Tensor, lengths: Slots) -> None:
        """Write the newest W keys and values of sequences that begin at age 0, ragged by lengths [N]."""
        w = self.config.window
        place = np.arange(w)
        # The newest index i < length with i mod W = place; before the ring is full some places have none.
        index = lengths[:, None] - 1 - (lengths[:, None] - 1 - place) % w  # N, W
        row, where = np.nonzero(index >= 0)
        source = torch.from_numpy(index[row, where])
        rows, at, to = torch.from_numpy(row), torch.from_numpy(where), torch.from_numpy(slots[row])
        self.rings[block, to, 0, at] = k_NTD[rows, source]
        self.rings[block, to, 1, at] = v_NTD[rows, source]

    def export_rings(self, slots: Slots) -> NDArray[np.float32]:
        """[N, blocks, 2, W, D], a copy."""
        return np.asarray(self.rings[:, torch.from_numpy(slots)].transpose(0, 1).numpy())

    def import_rings(self, slot: int, filled: NDArray[np.float32]) -> None:
        """Overwrite the first places of one slot's rings with [blocks, 2, n, D]."""
        self.rings[:, slot, :, : filled.shape[2]] = torch.from_numpy(filled.copy())  # blobs are read-only

    def _grow(self, capacity: int) -> None:
        extra = capacity - self.capacity
        c = self.config
        self.rings = torch.cat([self.rings, torch.zeros(c.blocks, extra, 2, c.window, c.kv_dim)], dim=1)
        self.hidden = torch.cat([self.hidden, torch.zeros(extra, c.d)])
        self.kin = _extended(self.kin, extra)
        self.last = _extended(self.last, extra)
        self.age = _extended(self.age, extra)
        self.age[self.capacity :] = -1
        self._free = [*range(capacity - 1, self.capacity - 1, -1), *self._free]
        self.capacity = capacity


class _Rings:
    """`model.transformer.Rings` over the pool. Rows in one run of slots are read in place, others gathered."""

    def __init__(self, rings: Tensor, slots: Tensor, place: Tensor) -> None:
        self._rings, self._slots, self._place = rings, slots, place
        n = len(slots)
        run = n > 0 and int(slots[-1]) - int(slots[0]) == n - 1 and bool((slots[1:] > slots[:-1]).all())
        self._run = slice(int(slots[0]), int(slots[0]) + n) if run else None

    def append(self, block: int, k_ND: Tensor, v_ND: Tensor) -> tuple[Tensor, Tensor]:
        rings = self._rings[block]  # slots, 2, W, D
        rings[self._slots, 0, self._place] = k_ND
        rings[self._slots, 1, self._place] = v_ND
        both = rings[self._run] if self._run is not None else rings.index_select(0, self._slots)
        return both[:, 0], both[:, 1]


def _extended(array: NDArray[Any], extra: int) -> NDArray[Any]:
    return np.concatenate([array, np.zeros((extra, *array.shape[1:]), dtype=array.dtype)])
