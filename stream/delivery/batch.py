"""When a batch is full enough or old enough. Knows sizes and times; the clock is an argument."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

NEVER = math.inf
# Of one fetch and partition, some 600 pings: so a poll brings pings of several partitions, and none waits behind
# another's megabyte, which is Faust's setting. 256 KiB drained no faster that could be told from noise.
FETCH_BYTES = 64 * 1024


@dataclass(frozen=True)
class Limits:
    """A batch goes when it holds `max_records`, or when its oldest record has waited `max_wait_ms`."""

    max_records: int
    max_wait_ms: float

    def due_at_ms(self, records: int, oldest_ms: float | None) -> float:
        """When to go, given what waits: in the past if full, NEVER if nothing waits. `oldest_ms` is its arrival."""
        if oldest_ms is None:
            return NEVER
        return oldest_ms if records >= self.max_records else oldest_ms + self.max_wait_ms

    def fit(self, sizes: Iterable[int]) -> int:
        """How many of the pieces, taken in order, make one batch: as many as stay within the limit, at least one."""
        count = total = 0
        for size in sizes:
            total += size
            if count and total > self.max_records:
                break
            count += 1
        return count
