"""Reads partitions of the pings topic beside the group: each from where it is asked on, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.kafka.reading import INPUT_ISOLATION, STALL_S, reader
from stream.kafka.records.record_columns import Records
from stream.services.scores.settings import ScoreSettings

POLL_MS: Final = 500
POLL_RECORDS: Final = 2_000  # as many as forecasts are read at a time


class Pings:
    """One connection, which joins no group and commits nothing."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic
        self._next: dict[int, int] = {}  # by partition: the offset that is read next

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: ScoreSettings) -> AsyncIterator[Pings]:
        """Yields one that reads nothing yet. Raises KafkaError."""
        async with reader(settings.bootstrap.split(","), settings.kafka.arguments(), INPUT_ISOLATION) as consumer:
            yield cls(consumer, settings.topics.pings)

    async def read(self, number: int, at: int) -> tuple[Records | None, int]:
        """Returns the next pings of a partition from this offset on, and the offset after them. If the log does not
        have them any more, these are the first that it has.

        Raises KafkaError; TimeoutError if there were none for STALL_S, so ask only for what is in the log.
        """
        tp = TopicPartition(self._topic, number)
        if number not in self._next:
            self._assign({**self._next, number: at})
        elif self._next[number] != at:
            self._consumer.seek(tp, at)
        async with asyncio.timeout(STALL_S):
            while True:
                polled = await self._consumer.getmany(tp, timeout_ms=POLL_MS, max_records=POLL_RECORDS)
                self._next[number] = int(await self._consumer.position(tp))
                if self._next[number] > at:
                    return polled.get(tp), self._next[number]

    def keep(self, numbers: Collection[int]) -> None:
        """Reads no other partitions than these any more."""
        if any(number not in numbers for number in self._next):
            self._assign({number: at for number, at in self._next.items() if number in numbers})

    def _assign(self, offsets: dict[int, int]) -> None:
        self._next = offsets
        self._consumer.assign([TopicPartition(self._topic, number) for number in offsets])
        for number, at in offsets.items():
            self._consumer.seek(TopicPartition(self._topic, number), at)
