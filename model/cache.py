"""The pool of entity states: slots of fixed size, each with a ring of keys and values per block and its own age.

Knows arrays and slots; knows no entity ids and no weights. Grows by doubling, never shrinks: a worker's entities stay.

    rings            model.rings           keys and values; place of a ping in the ring = its age mod W
    hidden           float32 [slots, C]    of the last ping, what the heads read
    kin              float64 [slots, K]    model.motion
    last             FIX     [slots]       the last fix
    age              int64   [slots]       pings folded so far; 0 = empty
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
from model.rings import Rings, Rows, Slots


class StatePool:
    """In place and thread-confined: the caller owns the slots that `acquire` hands out."""

    def __init__(self, config: ModelConfig, capacity: int, kind: str) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1 slot, got {capacity}")
        self.config = config
        self._free: list[int] = []
        self.capacity = 0
        self.rings = Rings(config, kind)
        self.hidden = torch.zeros(0, config.d)
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
        """Empty the slots."""
        self.rings.clear(slots)
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

    def rows(self, slots: Slots) -> Rows:
        """Rings of these rows for one step, at their present ages."""
        return self.rings.rows(slots, self.age[slots])

    def put_sequence(self, slots: Slots, block: int, k_NTE: Tensor, v_NTE: Tensor, lengths: Slots) -> None:
        """Write the newest W keys and values of sequences that begin at age 0, ragged by lengths [N]."""
        w = self.config.window
        place = np.arange(w)
        # The newest index i < length with i mod W = place; before the ring is full some places have none.
        index = lengths[:, None] - 1 - (lengths[:, None] - 1 - place) % w  # N, W
        row, where = np.nonzero(index >= 0)
        k, v = (y.numpy()[row, index[row, where]] for y in (k_NTE, v_NTE))
        self.rings.put(block, slots[row], where, k, v)

    def _grow(self, capacity: int) -> None:
        extra = capacity - self.capacity
        self.rings.grow(extra)
        self.hidden = torch.cat([self.hidden, torch.zeros(extra, self.config.d)])
        self.kin = _extended(self.kin, extra)
        self.last = _extended(self.last, extra)
        self.age = _extended(self.age, extra)
        self.age[self.capacity :] = -1
        self._free = [*range(capacity - 1, self.capacity - 1, -1), *self._free]
        self.capacity = capacity


def _extended(array: NDArray[Any], extra: int) -> NDArray[Any]:
    return np.concatenate([array, np.zeros((extra, *array.shape[1:]), dtype=array.dtype)])
