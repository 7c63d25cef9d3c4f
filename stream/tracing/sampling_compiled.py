"""The fast twin of `sampling`: which records of a batch are of sampled entities."""

from __future__ import annotations

import numpy as np

from model.jit import compiled
from stream.kafka.records.columns import I64, BytesColumn


def sampled(keys: BytesColumn, below: int) -> I64:
    """Returns the rows whose key is of a sampled entity. `below` is of `sampling.threshold`."""
    rows = np.empty(len(keys.start), np.int64)
    return rows[: _sampled(*keys, np.uint64(below), rows)]


@compiled
def _sampled(raw, start, end, below, rows):  # type: ignore[no-untyped-def]
    """Fills `rows` with the rows that are sampled. Returns how many there are."""
    found = 0
    for i in range(len(start)):
        mixed = np.uint64(0xCBF29CE484222325)
        for at in range(start[i], end[i]):
            mixed = (mixed ^ np.uint64(raw[at])) * np.uint64(0x100000001B3)
        mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
        mixed ^= mixed >> np.uint64(33)
        if mixed < below:
            rows[found] = i
            found += 1
    return found
