"""Notices that the number of partitions of the input topic has changed, and says what that does. Knows numbers only."""

from __future__ import annotations

from typing import Final

RULE: Final = (
    "keys hash to other partitions now, and an entity that moves begins there with an empty track; keep the number of "
    "partitions, or use a producer's partitioner that does not depend on it"
)


class PartitionCounts:
    """The number that was seen last; none at first."""

    def __init__(self) -> None:
        self._last = 0

    def changed(self, count: int) -> str:
        """A sentence about the change, once; empty if there is none. Takes 0 for "not known"."""
        before, self._last = self._last, count or self._last
        if not before or not count or before == count:
            return ""
        return f"it had {before} partitions and has {count}: {RULE}"
