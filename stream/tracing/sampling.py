"""Decides which pings are sampled: all pings of a share of the entities, by a hash of the entity's id.

By entity and not by ping, so that a trace's neighbours in time are there, too; and by a fixed hash (FNV-1a, 64 bits,
mixed as MurmurHash3 ends), so that every process chooses the same entities, and a larger share only adds some.
"""

from __future__ import annotations

import numpy as np

from model.jit import compiled
from stream.kafka.records.columns import I64, BytesColumn


def threshold(share: float) -> np.uint64:
    """Returns the bound below which hashes are sampled. Raises ValueError for what is no share."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share of entities is from 0 to 1, got {share}")
    return np.uint64(min(int(share * 2**64), 2**64 - 1))


def sampled(keys: BytesColumn, below: np.uint64) -> I64:
    """Returns the rows whose key is of a sampled entity."""
    rows = np.empty(len(keys.start), np.int64)
    return rows[: _sampled(*keys, below, rows)]


def is_sampled(entity_id: str, below: np.uint64) -> bool:
    """Returns whether an entity is sampled."""
    return bool(len(sampled(BytesColumn.of([entity_id.encode()]), below)))


@compiled
def _sampled(raw, start, end, below, rows):  # type: ignore[no-untyped-def]
    """Fills `rows` with the rows that are sampled. Returns how many there are."""
    found = 0
    for i in range(len(start)):
        mixed = np.uint64(0xCBF29CE484222325)
        for at in range(start[i], end[i]):
            mixed = (mixed ^ np.uint64(raw[at])) * np.uint64(0x100000001B3)
        # FNV's upper bits hardly depend on the last bytes, in which ids of a fleet differ.
        mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
        mixed ^= mixed >> np.uint64(33)
        if mixed < below:
            rows[found] = i
            found += 1
    return found
