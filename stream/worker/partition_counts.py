"""Notices that the number of partitions of the input topic has changed, and explains the consequences."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

LOOK_S: Final = 10.0  # as often as a consumer asks for the metadata of its topic

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


class Counting(Protocol):
    """States what is asked of the consumer. `stream.worker.faust_driver.Consumer` is one."""

    def partitions_of(self, topic: str) -> int: ...

    def rejoin(self) -> None: ...


async def rejoin_when_changed(
    consumer: Counting, topic: str, assigned: Callable[[], int], idles: Callable[[], bool] = lambda: False
) -> None:
    """Asks the group for a new assignment when the topic has another number of partitions than at the present one,
    which `assigned` returns; and once for each number, while a static member `idles` with none of them. It ends when it
    is cancelled.

    aiokafka looks for that where it leads the group. But whoever takes the place of a static member that led the group
    is not told that it leads now (KIP-814), so that nobody would look: new partitions, or all those of a topic that was
    made anew, would stay without a worker.
    """
    idle_with = 0
    while True:
        await asyncio.sleep(LOOK_S)
        count = consumer.partitions_of(topic)
        if not count:
            continue
        if count != assigned():
            consumer.rejoin()
        elif idles() and idle_with != count:
            idle_with = count
            consumer.rejoin()
