"""The pool of entity states: slots of fixed size, each with ring buffers of keys and values per block and its own age.

It stores no entity ids and no weights. It grows by doubling and never shrinks, because a worker's entities stay. Its
states become bytes, and come from bytes, by model.serving.state_codec.

    rings            model.serving.kv_cache           keys and values; place of a ping in the ring = its age mod W
    hidden           float32 [slots, C]    of the last ping, input of the heads; bfloat16 (uint16) in int8
    kin              float64 [slots, K]    model.kinematics.motion
    last             FIX     [slots]       the last fix
    age              int64   [slots]       pings folded so far; 0 = empty
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.kernels import attention
from model.kernels.bfloat16 import narrow, widen
from model.kinematics import motion
from model.kinematics.features import FIX
from model.kinematics.geo import F64
from model.serving import state_codec
from model.serving.kv_cache import KvCache, Slots, longer
from model.serving.state_codec import State, StateCorrupt


class StatePool:
    """All changes are in place, by one thread at a time. The caller owns the slots that `acquire` returns."""

    def __init__(self, config: ModelConfig, capacity: int, precision: str) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1 slot, got {capacity}")
        self.config, self.precision = config, precision
        # a stack: the next slots are the last of the first `_left` ones
        self._free, self._left = np.zeros(0, np.int32), 0
        self.capacity = 0
        self.rings = KvCache(config, precision)
        self.hidden: NDArray[Any] = np.zeros((0, config.d), np.uint16 if precision == "int8" else np.float32)
        self._seen, self._checks = np.zeros(0, np.int64), 0
        self.kin = np.zeros((0, motion.WIDTH))
        self.last = np.zeros(0, dtype=FIX)
        self.age = np.zeros(0, dtype=np.int64)
        self._grow(capacity)

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot, all arrays."""
        columns = (self.hidden, self.kin, self.last, self.age, self._seen)
        return self.rings.slot_bytes + sum(column.nbytes // self.capacity for column in columns)

    def acquire(self, n: int) -> Slots:
        """Returns n empty slots, lowest first."""
        while self._left < n:
            self._grow(2 * self.capacity)
        slots = self._free[self._left - n : self._left][::-1].astype(np.int64)
        self._left -= n
        self.reset(slots)
        return slots

    def release(self, slots: Slots) -> None:
        """Frees the slots; age -1 marks a slot as free."""
        self.check(slots)
        self.age[slots] = -1
        self._free[self._left : self._left + len(slots)] = np.sort(slots)[::-1]
        self._left += len(slots)

    def occupy(self, slots: Slots) -> None:
        """Empties slots that the caller has numbered, and grows until the pool has them. A pool whose slots are
        numbered elsewhere is asked for them by this alone, never by `acquire`.
        """
        while len(slots) and int(slots.max()) >= self.capacity:
            self._grow(2 * self.capacity)
        self.reset(slots)

    def vacate(self, slots: Slots) -> None:
        """Frees slots that were occupied."""
        self.age[self.check(slots)] = -1

    def reset(self, slots: Slots) -> None:
        """Empties the slots."""
        self.rings.clear(slots)
        self.age[slots] = 0
        self.last[slots] = np.zeros((), dtype=FIX)
        self.hidden[slots] = 0

    def check(self, slots: Slots) -> Slots:
        """Returns a copy of the slots, because numba would compile the kernels again for a view. Raises ValueError
        unless they are distinct and acquired.
        """
        if slots.ndim != 1 or slots.dtype != np.int64:
            raise ValueError(f"slots must be int64 of one axis, got {slots.dtype} of {slots.shape}")
        slots, self._checks = slots.copy(), self._checks + 1
        fault = attention.fault(slots, self.age, self._seen, self._checks)
        if fault == attention.FREE:
            raise ValueError("a slot is not acquired")
        if fault == attention.TWICE:
            raise ValueError("slots must be distinct: each once per call")
        return slots

    def check_filled(self, slots: Slots) -> Slots:
        """`check`, and that each slot has folded a fix."""
        slots = self.check(slots)
        if len(slots) and self.age[slots].min() < 1:
            raise ValueError("a slot is empty: it has folded no fix yet")
        return slots

    def as_stored(self, hidden: NDArray[Any]) -> NDArray[Any]:
        """Converts hidden vectors [N, C], in float32 or bfloat16, to the dtype of this pool."""
        if hidden.dtype == self.hidden.dtype:
            return hidden
        return widen(hidden) if hidden.dtype == np.uint16 else narrow(hidden)

    def put(self, slots: Slots, hidden: NDArray[Any], kin: F64, last: NDArray[Any], age: NDArray[np.int64]) -> None:
        """Stores the results of the newest fixes `last` [N]; hidden vectors [N, C] are in float32 or bfloat16."""
        self.hidden[slots], self.kin[slots], self.last[slots], self.age[slots] = self.as_stored(hidden), kin, last, age

    def dumps(self, slots: Slots, fingerprint: bytes) -> list[bytes]:
        """Returns the states of filled slots as bytes."""
        filled = np.minimum(self.age[slots], self.config.window)
        blobs: dict[int, bytes] = {}
        for n in np.unique(filled).tolist():  # states of one size are written together
            some = slots[filled == n]
            states = State(
                self.age[some], self.last[some], self.kin[some], self.hidden[some], self.rings.first(some, n)
            )
            blobs.update(zip(some.tolist(), state_codec.dumps_all(states, fingerprint), strict=True))
        return [blobs[slot] for slot in slots.tolist()]

    def loads(self, slots: Slots, blobs: Sequence[bytes], fingerprint: bytes) -> None:
        """Puts states into slots: all of them or, when one raises StateCorrupt or StateMismatch, none."""
        rows: dict[int, list[int]] = {}  # by size: states of one size are read together
        for row, blob in enumerate(blobs):
            rows.setdefault(len(blob), []).append(row)
        parts = [(slots[some], self._sound([blobs[row] for row in some], fingerprint)) for some in rows.values()]
        for some, state in parts:
            self.rings.load(some, state.rings)
            self.put(some, state.hidden, state.kin, state.last, state.age)

    def _sound(self, blobs: Sequence[bytes], fingerprint: bytes) -> State:
        """Returns the states of blobs of one size, checked to be sound and possible. Raises StateCorrupt or
        StateMismatch.
        """
        how = self.config, fingerprint, self.precision
        states = state_codec.whole(blobs, *how)
        if states is None:
            for blob in blobs:
                state_codec.loads(blob, *how)  # raises for one of them
            raise AssertionError("states that are sound one by one, and not together")
        if not motion.possible(states.kin, self.config):
            raise StateCorrupt("a state whose filter no motion leaves like that: who wrote it?")
        return states

    def _grow(self, capacity: int) -> None:
        extra = capacity - self.capacity
        self.rings.grow(extra)
        self.hidden = _extend(self.hidden, extra)
        self._seen = _extend(self._seen, extra)
        self.kin = _extend(self.kin, extra)
        self.last = _extend(self.last, extra)
        self.age = _extend(self.age, extra)
        self.age[self.capacity :] = -1
        fresh = np.arange(capacity - 1, self.capacity - 1, -1, dtype=np.int32)
        self._free, self._left = np.concatenate([fresh, self._free]), self._left + extra
        self.capacity = capacity


def _extend(array: NDArray[Any], extra: int) -> NDArray[Any]:
    return longer(array, extra, 0)
