"""Samples entities: all pings of a share of the entities, by a hash of the entity's id.

By entity and not by ping, so that a trace's neighbours in time are there, too; and by a fixed hash (FNV-1a, 64 bits,
mixed as MurmurHash3 ends), so that every process chooses the same entities, and a larger share only adds some.
`sample_rows` is the fast twin of `is_sampled`, for a batch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from model.jit import compiled
from stream.kafka.records.columns import I64, BytesColumn

_BITS: Final = 2**64 - 1
_NAMES: Final = 65_536  # of entities whose hash is remembered: 2 us each in Python, and 10 MB in all


def threshold(share: float) -> int:
    """Returns the bound below which hashes are sampled. Raises ValueError for what is no share."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share of entities is from 0 to 1, got {share}")
    return min(int(share * 2**64), _BITS)


def is_sampled(entity_id: str, below: int) -> bool:
    """Returns whether an entity is sampled."""
    return _hash(entity_id) < below


@lru_cache(_NAMES)
def _hash(text: str) -> int:
    mixed = 0xCBF29CE484222325
    for byte in text.encode(errors="replace"):  # what a URL names may be no text
        mixed = (mixed ^ byte) * 0x100000001B3 & _BITS
    # FNV's upper bits hardly depend on the last bytes, in which ids of a fleet differ.
    mixed = (mixed ^ mixed >> 33) * 0xFF51AFD7ED558CCD & _BITS
    mixed = (mixed ^ mixed >> 33) * 0xC4CEB9FE1A85EC53 & _BITS
    return mixed ^ mixed >> 33


def sample_rows(keys: BytesColumn, below: int) -> I64:
    """Returns the rows whose key is of a sampled entity. `below` is of `sampling.threshold`."""
    rows = np.empty(len(keys.start), np.int64)
    return rows[: _sample(*keys, np.uint64(below), rows)]


@compiled
def _sample(raw, start, end, below, rows):  # type: ignore[no-untyped-def]
    """Fills `rows` with the rows that are sampled. Returns how many there are."""
    count = 0
    for i in range(len(start)):
        mixed = np.uint64(0xCBF29CE484222325)
        for at in range(start[i], end[i]):
            mixed = (mixed ^ np.uint64(raw[at])) * np.uint64(0x100000001B3)
        mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
        mixed ^= mixed >> np.uint64(33)
        if mixed < below:
            rows[count] = i
            count += 1
    return count
