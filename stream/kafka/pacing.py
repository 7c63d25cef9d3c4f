"""Paces a consumer's fetches: pings gather while many come, and a ping that comes alone does not wait.

A batch costs a worker some milliseconds whatever is in it. Kafka's own way to fill batches is a broker that holds its
answer until there is enough (`fetch_min_bytes`) or a time has passed. Then each ping waits, also one that comes alone,
and an idle consumer asks all the time. Here the broker answers as soon as it has anything, and the consumer waits
before it asks again:

    ask ... answer: the first ping          ask - answer: what came meanwhile          ask ...
    |---------- EVERY_S at least ---------->|---------- EVERY_S at least ------------->|

While there are few pings, it waits a little longer, FEW_EVERY_S. All brokers of a consumer are asked at the same
moments, so that their answers make one batch.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from aiokafka import TopicPartition

EVERY_S: Final = 0.025  # half of the 50 ms that a ping may take
# While answers are so small, some eight pings, a worker would spend itself on batches of two or three.
FEW_BYTES: Final = 2048
FEW_EVERY_S: Final = 0.035
# For consumers beside the workers, whose readers do not count milliseconds: each fetch costs the broker, too.
BESIDE_EVERY_S: Final = 0.1


class Pace:
    """Delays the fetches of one consumer."""

    def __init__(self, fetcher: Any, every_s: float = EVERY_S) -> None:
        """Paces `fetcher`, which is aiokafka's, from now on: a fetch each `every_s` seconds at most. Call it before the
        fetcher has an assignment."""
        self._fetcher = fetcher
        self._every_s = every_s
        self._ask = fetcher._proc_fetch_request
        self._next_s = 0.0  # when the next fetch may be sent, by the monotonic clock
        fetcher._proc_fetch_request = self._fetch

    async def _fetch(self, assignment: Any, node: int, request: Any) -> bool:
        """Sends a fetch when it is due. Returns whether it has brought records, as aiokafka's method does."""
        try:
            if (wait_s := self._next_s - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
        except asyncio.CancelledError:
            return False  # as aiokafka does: the assignment is over, or the consumer closes
        sent_s = time.monotonic()
        self._next_s = sent_s + self._every_s
        brought: bool = await self._ask(assignment, node, request)
        if brought:
            sizes = self._sizes(request)
            if max(sizes, default=0) >= self._fetcher._max_partition_fetch_bytes / 2:
                self._next_s = 0.0  # a backlog: the next answer is a full one, too
            elif sum(sizes) < FEW_BYTES:
                self._next_s = max(self._next_s, sent_s + FEW_EVERY_S)
        return brought

    def _sizes(self, request: Any) -> list[int]:
        """Returns how many bytes the answer to `request` brought for each partition that had any."""
        found = (
            self._fetcher._records.get(TopicPartition(topic, number))
            for topic, partitions in request.topics
            for number, *_ in partitions
        )
        fetched = (getattr(one, "_partition_records", None) for one in found)
        return [one.size for one in fetched if one is not None]
