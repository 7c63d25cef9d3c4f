"""Reads dead letters. `requeue` puts them back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from kafka import KafkaConsumer
from kafka import TopicPartition as PlainTopicPartition
from kafka.errors import KafkaError as PlainKafkaError

from stream.config.security import PLAIN_KAFKA, KafkaSecurity, kafka_refusal
from stream.kafka import admin
from stream.kafka.log import Bounds, Partition
from stream.kafka.reading import bounds, reread
from stream.wire import CODES, ERROR_HEADER_PREFIX, JSON_PINGS, Headers, Record, context_of

NUMBER: Final = re.compile(r"[0-9]{1,19}")  # as many digits as int64 has
NO_RECORD: Final = re.compile(r"-1|[0-9]{1,19}")  # an adapter's message has no offset
SLUG: Final = re.compile(r"[a-z0-9_]{1,64}")  # the form of a code in every release of ours

Place = tuple[int, int]  # partition and offset in the dead letter topic


class Source(NamedTuple):
    """The record that was rejected."""

    topic: str
    partition: int
    offset: int


class Letter(NamedTuple):
    """One dead letter: the rejected record as it came, its source, what was wrong, and when that was found."""

    place: Place
    source: Source
    code: str
    message: str
    found_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    whole: bool = True  # False: the record did not fit, or could not be read, and is only at its source
    batch_bytes: int = 0  # set by `slim`: the size of an uncompressed batch of this record alone
    adapter: str = JSON_PINGS  # the format of the value; any other was made of a message that never was in a topic

    @property
    def is_record(self) -> bool:
        """Whether it was a record of a topic, and not a message that an adapter had read (`stream.ingest`)."""
        return self.adapter == JSON_PINGS

    @property
    def mark(self) -> str:
        """What says that it was put back: an offset of the group of this name (`group_of`), as of its code.

        Messages of an adapter have their own for each adapter, as they are put back at other times.
        """
        return self.code if self.is_record else f"{self.code}.{self.adapter}"

    @property
    def own_headers(self) -> Headers:
        """The headers that the record had before it was rejected."""
        return tuple((name, value) for name, value in self.headers if not name.startswith(ERROR_HEADER_PREFIX))

    def slim(self) -> Letter:
        """Returns the letter with its size in place of its key, value and headers."""
        batch = DefaultRecordBatchBuilder(2, 0, 1, -1, -1, 0, 0)
        size = batch.size() + batch.size_in_bytes(0, 0, self.key, self.value, list(self.own_headers))
        return self._replace(key=None, value=None, headers=(), batch_bytes=size)


def letter_of(record: Record) -> Letter | None:
    """Returns the record as a letter; None if its headers do not state its source and the code."""
    context = context_of(record.headers)
    topic, code = context.get("topic"), context.get("code", "")
    adapter = context.get("adapter") or JSON_PINGS
    numbers = context.get("partition", ""), context.get("offset", "")
    form = NUMBER if adapter == JSON_PINGS else NO_RECORD
    if not topic or not all(map(form.fullmatch, numbers)) or not SLUG.fullmatch(code):
        return None
    return Letter(
        (record.partition, record.offset),
        Source(topic, *map(int, numbers)),
        code,
        context.get("message", ""),
        record.timestamp_ms,
        record.key,
        record.value,
        record.headers,
        record.key is not None or record.value is not None or "omitted" not in context,
        adapter=adapter,
    )


@dataclass(frozen=True)
class Box:
    """A dead letter topic as it is now. The bounds of its partitions are read once, so that reading it ends."""

    bootstrap: str
    topic: str
    bounds: Mapping[int, Bounds]
    security: KafkaSecurity = PLAIN_KAFKA

    @classmethod
    async def open(cls, bootstrap: str, topic: str, security: KafkaSecurity = PLAIN_KAFKA) -> Box:
        """Reads the bounds and returns the box. Raises ConnectionError if no broker answers, Refused if one denies
        access, ValueError if there is no such topic."""
        with admin.connect(bootstrap, security) as client:
            partitions = [(topic, number) for number in range(admin.partitions_of(client, topic))]
        shut = cls(bootstrap, topic, {}, security)
        try:
            found = await bounds(bootstrap.split(","), partitions, access=security.arguments())
        except KafkaError as error:
            raise shut.failure(f"asking Kafka at {bootstrap}", error) from error
        return replace(shut, bounds={number: one for (_, number), one in found.items()})

    async def letters(self) -> AsyncGenerator[Letter]:
        """Yields all letters, partition by partition, oldest first. Foreign records in the topic are left out.

        Close it (`aclosing`), like all generators here: one that is not read to its end has an open consumer. The end
        of the event loop would close it and the generators inside it in any order, and asyncio complains about that on
        stderr.
        """
        for number in sorted(self.bounds):
            async with aclosing(self._records((self.topic, number), *self.bounds[number])) as records:
                async for record in records:
                    letter = letter_of(record)
                    if letter is not None:
                        yield letter

    async def record(self, place: Place) -> Record:
        """Returns the record at one place, whatever it is. Raises ValueError if there is none."""
        number, offset = place
        held = self.bounds.get(number)
        if held is not None and held.begin <= offset < held.end:
            async with aclosing(self._records((self.topic, number), offset, offset + 1)) as records:
                async for record in records:
                    return record
        all_held = ", ".join(f"{n}:{b.begin} to {n}:{b.end - 1}" for n, b in self.bounds.items() if b.end > b.begin)
        raise ValueError(f"there is no dead letter at {number}:{offset}; {self.topic} holds {all_held or 'none'}")

    async def read_progress(self, marks: Collection[str]) -> dict[str, dict[int, int]]:
        """Returns, for each mark and partition, the offset below which its letters have been put back."""
        return await asyncio.to_thread(_read_committed, self, sorted(self.bounds), sorted(marks))

    async def _records(self, partition: Partition, start: int, end: int) -> AsyncGenerator[Record]:
        try:
            # Letters of an aborted transaction do not count.
            servers, access = self.bootstrap.split(","), self.security.arguments()
            log = reread(servers, partition, start, end, access=access, isolation="read_committed")
            async with aclosing(log) as chunks:
                async for records in chunks:
                    for record in records:
                        yield record
        except KafkaError as error:
            raise self.failure(f"reading {self.topic} at {self.bootstrap}", error) from error

    def failure(self, what: str, error: Exception) -> Exception:
        return kafka_refusal(self.bootstrap, self.security, error) or ConnectionError(f"{what} failed: {error!r}")


class UnknownCode(ValueError):
    """Somebody asked for a code that no letter has and that is not one of ours."""


def check_codes(asked: Collection[str], present: Collection[str], topic: str) -> None:
    """Raises UnknownCode for a code that is neither one of ours nor on a letter in the topic, as of another release."""
    if unknown := sorted(set(asked) - CODES.keys() - set(present)):
        there = ", ".join(sorted(present)) or "no letters"
        others = ", ".join(sorted(CODES.keys() - set(present)))
        raise UnknownCode(f"there is no code {', '.join(unknown)}; {topic} has {there}; also known are {others}")


def group_of(topic: str, mark: str) -> str:
    return f"{topic}.replay.{mark}"


def is_done(letter: Letter, done: Mapping[str, Mapping[int, int]]) -> bool:
    number, offset = letter.place
    return offset < done.get(letter.mark, {}).get(number, 0)


def _read_committed(box: Box, numbers: Sequence[int], marks: Sequence[str]) -> dict[str, dict[int, int]]:
    done: dict[str, dict[int, int]] = {}
    for mark in marks:
        # With read_committed, the broker answers when no transaction on these offsets is open any more.
        with _plain(box, group_of(box.topic, mark)) as consumer:
            offsets = {number: consumer.committed(PlainTopicPartition(box.topic, number)) for number in numbers}
            done[mark] = {number: offset for number, offset in offsets.items() if offset is not None}
    return done


@contextmanager
def _plain(box: Box, group: str) -> Iterator[KafkaConsumer]:
    """Yields a consumer that only asks and never joins the group."""
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=box.bootstrap.split(","),
            **box.security.arguments(),
            group_id=group,
            enable_auto_commit=False,
            isolation_level="read_committed",
            bootstrap_timeout_ms=int(admin.CONNECT_S * 1000),
        )
        try:
            yield consumer
        finally:
            consumer.close()
    except PlainKafkaError as error:
        raise box.failure(f"asking Kafka at {box.bootstrap}", error) from error
