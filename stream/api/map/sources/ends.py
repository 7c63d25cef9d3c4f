"""Asks once a second where the logs end: that gives rates, and how many pings have no answer yet. No record is read for
it, so that dead letters are counted without being looked at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.api.live.topics import now_ms
from stream.api.map.fleet.figures import Ends
from stream.api.map.fleet.fleet import Fleet
from stream.wire import Topics

log = logging.getLogger(__name__)
EVERY_S: Final = 1.0
RETRY_S: Final = 5.0


class EndsOfLogs:
    """Looks again and again."""

    def __init__(
        self, asker: AIOKafkaConsumer, topics: Topics, fleet: Fleet, partitions: Callable[[], Mapping[str, set[int]]]
    ) -> None:
        """Takes a started consumer of its own, which no fetch that waits can hold up; and `partitions`, which returns
        those of each topic that we may see."""
        self._asker = asker
        self._topics = topics
        self._fleet = fleet
        self._partitions = partitions
        self._tps: dict[str, list[TopicPartition]] = {}

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            try:
                await self._look()
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("where the logs end is not known: %r; again in %g s", error, RETRY_S)
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(EVERY_S)

    async def _look(self) -> None:
        partitions = self._partitions()
        self._tps = {
            topic: [TopicPartition(topic, number) for number in sorted(partitions.get(topic, ()))]
            for topic in self._topics
        }
        every = [tp for tps in self._tps.values() for tp in tps]
        if not every:
            return
        ends: Mapping[TopicPartition, int] = await self._asker.end_offsets(every)
        counts = [sum(ends[tp] for tp in tps) if (tps := self._tps[topic]) else None for topic in self._topics]
        self._fleet.figures.note_ends(Ends(now_ms(), *counts))
        self._fleet.figures.behind = self._behind(ends)

    def _behind(self, ends: Mapping[TopicPartition, int]) -> int | None:
        """Returns how many pings come after the last that was answered, of each partition; None if none was."""
        answered = self._fleet.answered
        if not answered:
            return None
        return sum(
            max(0, ends[tp] - answered[tp.partition] - 1)
            for tp in self._tps[self._topics.pings]
            if tp.partition in answered
        )
