"""Notices that the number of partitions of the input topic has changed, and explains the consequences."""

from __future__ import annotations

from typing import Final

RULE: Final = (
    "keys hash to other partitions now, and an entity that moves begins there with an empty track; keep the number of "
    "partitions, or use a producer's partitioner that does not depend on it"
)


class PartitionCounts:
    """Remembers the last known number of partitions; there is none at first."""

    def __init__(self) -> None:
        self._last = 0

    def describe_change(self, count: int) -> str:
        """Returns a sentence about a change, once; an empty one if there is none. A count of 0 means "not known"."""
        before, self._last = self._last, count or self._last
        if not before or not count or before == count:
            return ""
        return f"it had {before} partitions and has {count}: {RULE}"
