"""Reads the models topic, as far as it goes, again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.kafka import log_facts
from stream.kafka.log import Partition
from stream.kafka.reading import reader, reread
from stream.versions.ledger import Ledger
from stream.versions.weights import WeightsLedger
from stream.wire import Topics

log: Final = logging.getLogger(__name__)

MAX_SHOWN_BYTES: Final = 60  # of a key in the log


class AnnouncementReader:
    """Knows what the models topic says, up to the last look.

    A look asks for the end of the log and the id of its topic, and reads what is new, if anything is: two requests of a
    millisecond nearly always, by a connection of its own, which no fetch that waits can hold up. Only what is committed
    counts. A topic that was made anew is read from its beginning: its end alone does not tell, since who announces the
    same versions once more makes it as long as the former one.
    """

    def __init__(
        self, bootstrap: Sequence[str], topics: Topics, security: KafkaSecurity, asker: AIOKafkaConsumer
    ) -> None:
        self._bootstrap = bootstrap
        self._access = security.arguments()
        self._topics = topics
        self._asker = asker
        self.next_offset = 0  # that follows what was read
        self._topic_id = ""  # of the topic that was read; empty: unknown
        self.refused = 0  # records that say nothing of a version
        self._one_at_a_time = asyncio.Lock()
        self.ledger, self.weights = Ledger(topics.pings), WeightsLedger(topics.pings)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, bootstrap: str, topics: Topics, security: KafkaSecurity = PLAIN_KAFKA
    ) -> AsyncIterator[AnnouncementReader]:
        """Yields one that has read nothing yet. Raises KafkaError."""
        servers = bootstrap.split(",")
        async with reader(servers, security.arguments(), "read_committed") as asker:
            yield cls(servers, topics, security, asker)

    async def look(self) -> None:
        """Reads the topic to the end that it has at some moment after this call.

        Raises KafkaError, TimeoutError or RuntimeError if the brokers do not answer.
        """
        async with self._one_at_a_time:
            partition = (self._topics.models, 0)
            end = await self._end_of(partition)
            topic_id = await log_facts.ask_id(self._asker, partition[0])
            is_other = bool(self._topic_id and topic_id) and topic_id != self._topic_id
            if is_other:
                end = await self._end_of(partition)  # the first may have been that of the former topic
            anew = is_other or end < self.next_offset
            if anew:
                log.warning("%s ends at %d and was read to %d: it is another one", partition[0], end, self.next_offset)
            elif end == self.next_offset:
                self._topic_id = topic_id or self._topic_id
                return
            found: list[tuple[bytes | None, bytes | None]] = []
            async for records in reread(
                self._bootstrap, partition, 0 if anew else self.next_offset, end, access=self._access
            ):
                found += zip(records.keys.each(), records.values.each(), strict=True)
            # All at once: whoever reads the ledger meanwhile must not find half of what was new, nor a part of it twice
            # after a look that was cancelled.
            if anew:
                self.ledger, self.weights = Ledger(self._topics.pings), WeightsLedger(self._topics.pings)
            odd = [key for key, value in found if self._is_odd(key, value)]
            if odd:
                text = "%d records of %s are refused, and their versions withdrawn, the last with the key %r"
                log.warning(text, len(odd), partition[0], (odd[-1] or b"")[:MAX_SHOWN_BYTES])
            self.refused += len(odd)
            for key, value in found:
                self.ledger.add(key, value)
                self.weights.add(key, value)
            self.next_offset, self._topic_id = end, topic_id or self._topic_id

    async def _end_of(self, partition: Partition) -> int:
        (end,) = (await self._asker.end_offsets([TopicPartition(*partition)])).values()
        return int(end)

    def _is_odd(self, key: bytes | None, value: bytes | None) -> bool:
        """Returns whether a record has a value, of which neither ledger can make anything."""
        return value is not None and all(one.parse_record(key, value)[1] is None for one in (self.ledger, self.weights))
