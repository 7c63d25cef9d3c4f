"""Notices entities whose ids murmur2 does not put where their pings lie (`stream.kafka.partitioner`).

Where senders partition differently, an entity silently becomes two, each with a part of its pings and a window of its
own. Where all of them have the same other partitioner, nothing is wrong: it is said once, and counted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.jit import compiled
from stream.config.wording import place
from stream.engine.entities.shard import Shard
from stream.kafka.partitioner import ADVICE

log: Final = logging.getLogger(__name__)

I64 = NDArray[np.int64]

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_WORD: Final = 0xFFFF_FFFF


class Placement:
    """Looks at entities when they come into memory, so that no ping waits for it."""

    def __init__(self) -> None:
        self.partitions = 0  # of the input topic; 0: unknown, and nothing is looked at
        self._said = False

    def check(self, shard: Shard, entity_ids: Sequence[str]) -> None:
        """Counts those of these entities of a shard that murmur2 puts elsewhere; the first of all is logged."""
        number = shard.partition[1]
        if not self.partitions or number < 0 or not entity_ids:  # a spare shard has no number
            return
        places = partitions_of(entity_ids, self.partitions)
        elsewhere = np.flatnonzero(places != number)
        shard.counts.misplaced += len(elsewhere)
        if len(elsewhere) and not self._said:
            self._said = True
            row = int(elsewhere[0])
            log.warning(
                "pings of %r lie in %s, and murmur2 gives partition %d of %d. If others send pings of it there, it is "
                "two entities, each with a part of them: %s. Others are counted (pathcast_entities_misplaced_total)",
                *(entity_ids[row], place(shard.partition), places[row], self.partitions, ADVICE),
            )


def partitions_of(entity_ids: Sequence[str], partitions: int) -> I64:
    """Returns the partition of each id [N] by `stream.kafka.partitioner`, in compiled code."""
    keys = [one.encode() for one in entity_ids]
    ends = np.cumsum(np.fromiter(map(len, keys), np.int64, len(keys)))
    found: I64 = _partitions(np.frombuffer(b"".join(keys) + b"\0", np.uint8), ends, partitions)
    return found


def _partitions_of(raw: NDArray[np.uint8], ends: I64, partitions: int) -> Any:
    """murmur2 of each key in `raw`, which ends at `ends` [N]. All fits int64: 32 bits times 31."""
    found = np.empty(len(ends), np.int64)
    begin = 0
    for n in range(len(ends)):
        end = ends[n]
        whole = begin + (end - begin) // 4 * 4
        h = _SEED ^ (end - begin)
        for at in range(begin, whole, 4):
            word = np.int64(raw[at]) | np.int64(raw[at + 1]) << 8 | np.int64(raw[at + 2]) << 16
            word |= np.int64(raw[at + 3]) << 24
            word = (word * _M) & _WORD
            word = ((word ^ (word >> 24)) * _M) & _WORD
            h = ((h * _M) & _WORD) ^ word
        if whole < end:
            for at in range(end - 1, whole - 1, -1):
                h ^= np.int64(raw[at]) << (8 * (at - whole))
            h = (h * _M) & _WORD
        h = ((h ^ (h >> 13)) * _M) & _WORD
        h ^= h >> 15
        found[n] = (h & 0x7FFF_FFFF) % partitions
        begin = end
    return found


_partitions = compiled(_partitions_of, maths=())
