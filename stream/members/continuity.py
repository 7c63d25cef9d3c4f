"""Checks whether the records that come for a partition follow those that were folded.

Most records do: they begin where the last ones ended, or behind markers, and are of the same leader. Those of another
leader are not folded before a broker has said that its log has what was read. Those that begin before the last ones are
of a log that was cut, because aiokafka goes to the beginning where its position is not in the log any more. What is to
be done, the next takeover decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.config.security import in_words
from stream.kafka import log_facts
from stream.kafka.log import Seen, Start, cut_at
from stream.kafka.records.record_columns import Records

ASK_S: Final = 5.0  # for an answer, for which all numbers wait; then the number is taken over anew, and waits alone


class AnotherLog(RuntimeError):
    """The records may not be those that follow: a takeover decides on them."""


@dataclass
class Holding:
    """Holds a number that is ours. Subclasses add what they keep of it."""

    starts: Mapping[str, Start]  # where it went on when it was taken over, by topic
    folded: dict[str, int] = field(init=False)  # the next offset, by topic
    seen: dict[str, Seen] = field(init=False)  # what is known of each topic's log

    def __post_init__(self) -> None:
        self.folded = {topic: one.offset for topic, one in self.starts.items()}
        self.seen = {topic: one.seen for topic, one in self.starts.items()}

    def note(self, topic: str, records: Records) -> None:
        """Notes that these records are folded."""
        self.folded[topic] = records.next_offset
        self.seen[topic] = self.seen[topic].after(records.next_offset, records.leader_epoch)


async def check_follows(consumer: AIOKafkaConsumer, tp: TopicPartition, held: Holding, records: Records) -> None:
    """Raises AnotherLog unless the records follow those that were folded.

    A gap before them is no reason: markers of transactions are there, or retention has deleted records.
    """
    expected, seen = held.folded[tp.topic], held.seen[tp.topic]
    name, known = f"{tp.topic}/{tp.partition}", seen.history.leader_epoch
    if records.first_offset < expected:
        raise AnotherLog(f"{name} goes on at {records.first_offset} and not at {expected}")
    if records.leader_epoch in (known, -1) or known == -1:
        return
    try:
        async with asyncio.timeout(ASK_S):
            log = await log_facts.ask(consumer, tp, known)
    except (KafkaError, TimeoutError) as error:
        raise AnotherLog(f"{name}: cannot ask whether its log is the one that was read: {in_words(error)}") from error
    if cut_at(seen.read, seen.history, log) is not None:
        raise AnotherLog(f"{name} lacks records that were read up to {seen.read}")
