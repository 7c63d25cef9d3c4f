"""Dead letters: read, counted, put back. Knows the dead letter topic and Kafka's transactions; knows nothing of why.

A letter is put back once, whoever does it and whenever they crash:

    group   <dead letter topic>.replay.<code>   its committed offset of a partition: letters of that code below are done
    id      <dead letter topic>.replay          the transactional id: starting a replay ends any other that still runs

Records and offsets go in one transaction, so that either both are there or neither. One group per code, because an
offset is a mark below which all is done, and people replay one code at a time. The offsets are read after the id is
taken, from an offset store that has settled every earlier transaction. At least once, a letter may lie there twice;
so a source record is put back for its first letter only.

A committed offset of a group without members lives as long as the broker's `offsets.retention.minutes` (7 days); the
dead letter topic must not keep letters for longer than that, or they could be put back again.

A letter that came compressed may be larger, as it is put back, than its topic takes (max.message.bytes). It is left
out, and the mark passes it as it does letters without their record: else it would block all others of its code. We
ask for the topic's limit and do not try, as aiokafka's sequence numbers do not survive a batch that was refused.

What is put back gets a new timestamp: with the old one retention might delete it at once, and `clean`, which judges
event times by it, would refuse again what was ahead of its time then.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerFenced
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from kafka import KafkaConsumer
from kafka import TopicPartition as PlainTopicPartition
from kafka.errors import KafkaError as PlainKafkaError

from stream import admin
from stream.connect import PLAIN_KAFKA, KafkaSecurity, kafka_refusal
from stream.source import Bounds, Partition, reread
from stream.wire import ERROR_HEADER_PREFIX, MAX_DEAD_LETTER_BYTES, Headers, Record

CHUNK: Final = 500  # letters per transaction: some 5 MB at most of ordinary records, and well within its time-out
NUMBER: Final = re.compile(r"[0-9]{1,19}")  # as many digits as int64 has
SLUG: Final = re.compile(r"[a-z0-9_]{1,64}")  # a code, as every release of ours writes it

Place = tuple[int, int]  # partition and offset in the dead letter topic


class Source(NamedTuple):
    """The record that was rejected."""

    topic: str
    partition: int
    offset: int


class Letter(NamedTuple):
    """One dead letter: the record as it came, where it came from, what was wrong, and when that was found."""

    place: Place
    source: Source
    code: str
    message: str
    found_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    whole: bool = True  # False: it did not fit, or could not be read, and lies at its source alone
    batch_bytes: int = 0  # if it was asked for: of a batch that holds this record alone, uncompressed

    @property
    def own_headers(self) -> Headers:
        """The headers that the record came with."""
        return tuple((name, value) for name, value in self.headers if not name.startswith(ERROR_HEADER_PREFIX))

    def slim(self) -> Letter:
        """Its size in the place of what it holds."""
        batch = DefaultRecordBatchBuilder(2, 0, 1, -1, -1, 0, 0)
        size = batch.size() + batch.size_in_bytes(0, 0, self.key, self.value, list(self.own_headers))
        return self._replace(key=None, value=None, headers=(), batch_bytes=size)


def letter_of(record: Record) -> Letter | None:
    """The record as a letter; None if its headers do not say where it came from and why."""
    context = dict(record.headers)  # of a name that comes twice the last one is ours
    texts = {
        name: (context.get(ERROR_HEADER_PREFIX + name) or b"").decode(errors="replace")
        for name in ("topic", "partition", "offset", "code", "message")
    }
    numbers = texts["partition"], texts["offset"]
    if not texts["topic"] or not all(map(NUMBER.fullmatch, numbers)) or not SLUG.fullmatch(texts["code"]):
        return None
    return Letter(
        (record.partition, record.offset),
        Source(texts["topic"], *map(int, numbers)),
        texts["code"],
        texts["message"],
        record.timestamp_ms,
        record.key,
        record.value,
        record.headers,
        record.key is not None or record.value is not None or ERROR_HEADER_PREFIX + "omitted" not in context,
    )


@dataclass(frozen=True)
class Box:
    """A dead letter topic as it is now: its partitions' bounds are taken once, so that a look at it ends."""

    bootstrap: str
    topic: str
    bounds: Mapping[int, Bounds]
    security: KafkaSecurity = PLAIN_KAFKA

    @classmethod
    async def open(cls, bootstrap: str, topic: str, security: KafkaSecurity = PLAIN_KAFKA) -> Box:
        """Raises ConnectionError if no broker answers, Refused if one will not have us, ValueError if there is no such
        topic."""
        with admin.connected(bootstrap, security) as client:
            count = admin.partitions_of(client, topic)
        shut = cls(bootstrap, topic, {}, security)
        return replace(shut, bounds=await asyncio.to_thread(_bounds, shut, count))

    async def letters(self) -> AsyncIterator[Letter]:
        """All letters, partition by partition, oldest first. Foreign records in the topic are left out."""
        for number in sorted(self.bounds):
            async for record in self._records((self.topic, number), *self.bounds[number]):
                letter = letter_of(record)
                if letter is not None:
                    yield letter

    async def record(self, place: Place) -> Record:
        """The record at one place, whatever it is. Raises ValueError if there is none."""
        number, offset = place
        bounds = self.bounds.get(number)
        if bounds is not None and bounds.begin <= offset < bounds.end:
            async for record in self._records((self.topic, number), offset, offset + 1):
                return record
        held = ", ".join(f"{n}:{b.begin} to {n}:{b.end - 1}" for n, b in self.bounds.items() if b.end > b.begin)
        raise ValueError(f"there is no dead letter at {number}:{offset}; {self.topic} holds {held or 'none'}")

    async def done(self, codes: Collection[str]) -> dict[str, dict[int, int]]:
        """For each code, by partition, the offset below which its letters have been put back."""
        return await asyncio.to_thread(_committed, self, sorted(self.bounds), sorted(codes))

    async def _records(self, partition: Partition, start: int, end: int) -> AsyncIterator[Record]:
        try:
            # Letters of a transaction that was aborted never were.
            servers, access = self.bootstrap.split(","), self.security.arguments()
            chunks = reread(servers, partition, start, end, access=access, isolation="read_committed")
            async for records in chunks:
                for record in records:
                    yield record
        except KafkaError as error:
            raise self.failed(f"reading {self.topic} at {self.bootstrap}", error) from error

    def failed(self, what: str, error: Exception) -> Exception:
        return kafka_refusal(self.bootstrap, self.security, error) or ConnectionError(f"{what} failed: {error!r}")


def group_of(topic: str, code: str) -> str:
    return f"{topic}.replay.{code}"


def is_done(letter: Letter, done: Mapping[str, Mapping[int, int]]) -> bool:
    number, offset = letter.place
    return offset < done.get(letter.code, {}).get(number, 0)


@dataclass(eq=False)
class Plan:
    """Which letters to put back, and why others not."""

    todo: dict[Place, Letter] = field(default_factory=dict)  # without key, value and headers
    done: int = 0  # put back before
    copies: int = 0  # of a record that another letter stands for
    omitted: int = 0  # letters without their record, too large or unreadable: there is nothing to put back
    too_large: list[Letter] = field(default_factory=list)  # for the topic that they came from
    ends: dict[tuple[str, int], int] = field(default_factory=dict)  # by code and partition: after its last letter

    @property
    def by_code(self) -> dict[str, int]:
        return dict(Counter(letter.code for letter in self.todo.values()).most_common())


async def plan(box: Box, codes: Collection[str]) -> Plan:
    """What a replay of these codes (none: all) would do. Changes nothing."""
    slim = [letter.slim() async for letter in box.letters()]
    done = await box.done({letter.code for letter in slim})
    put_back = {letter.source for letter in slim if is_done(letter, done)}
    limits = _limits(box, {letter.source.topic for letter in slim})
    made = Plan()
    for letter in slim:
        if codes and letter.code not in codes:
            continue
        number, offset = letter.place
        made.ends[letter.code, number] = offset + 1
        if not letter.whole:
            made.omitted += 1
        elif letter.batch_bytes > limits.get(letter.source.topic, inf):  # first: it may be below the mark
            made.too_large.append(letter)
        elif is_done(letter, done):
            made.done += 1
        elif letter.source in put_back:
            made.copies += 1
        else:
            put_back.add(letter.source)
            made.todo[letter.place] = letter
    _check_sources(box, made)
    return made


async def put_back(box: Box, codes: Collection[str]) -> Plan:
    """Put every letter of these codes (none: all) back where it came from, unless that was done before; what was done.

    Raises:
        RuntimeError: another replay has started meanwhile. It does the rest; nothing is doubled.
    """
    async with _transactional(box) as producer:
        made = await plan(box, codes)  # after the id was taken: nobody else can put anything back from now on
        waiting: dict[str, list[Letter]] = {code: [] for code, _ in made.ends}
        async for letter in box.letters():
            if letter.place not in made.todo:
                continue
            waiting[letter.code].append(letter)
            if len(waiting[letter.code]) == CHUNK:
                await _send(producer, box.topic, letter.code, waiting[letter.code], {})
                waiting[letter.code] = []
        for code, letters in waiting.items():  # the last marks pass the copies, too
            ends = {number: end for (name, number), end in made.ends.items() if name == code}
            await _send(producer, box.topic, code, letters, ends)
        return made


@asynccontextmanager
async def _transactional(box: Box) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that holds the transactional id: every earlier holder is fenced, its transaction is over."""
    producer = AIOKafkaProducer(
        bootstrap_servers=box.bootstrap.split(","),
        **box.security.arguments(),
        transactional_id=f"{box.topic}.replay",
        acks="all",
        max_request_size=MAX_DEAD_LETTER_BYTES,
    )
    try:
        await producer.start()
        try:
            async with producer.transaction():
                pass  # an empty one: it returns when the broker has given us the id
            yield producer
        finally:
            await producer.stop()
    except ProducerFenced as error:
        raise RuntimeError("another replay of this topic has started: it goes on from here") from error
    except KafkaError as error:
        raise box.failed(f"putting letters of {box.topic} back", error) from error


async def _send(
    producer: AIOKafkaProducer, topic: str, code: str, letters: Sequence[Letter], ends: Mapping[int, int]
) -> None:
    """One transaction: records of one code, and its marks behind them, by partition, or at `ends`. (aiokafka's
    transactions hold the offsets of one group only.)"""
    marks = {letter.place[0]: letter.place[1] + 1 for letter in letters} | dict(ends)
    async with producer.transaction():
        pending = [await _sent(producer, letter) for letter in letters]
        for letter, outcome in zip(letters, await asyncio.gather(*pending, return_exceptions=True), strict=True):
            if isinstance(outcome, MessageSizeTooLargeError):
                raise _unforeseen(letter) from outcome
            if isinstance(outcome, BaseException):
                raise outcome
        offsets = {TopicPartition(topic, number): mark for number, mark in marks.items()}
        await producer.send_offsets_to_transaction(offsets, group_of(topic, code))


async def _sent(producer: AIOKafkaProducer, letter: Letter) -> asyncio.Future[Any]:
    """Hand one record to the producer, for the partition that it came from: its key belongs there."""
    topic, partition, _ = letter.source
    headers = list(letter.own_headers)
    if letter.key is None and letter.value is None:  # aiokafka's `send` refuses that, and Kafka does not
        batch = producer.create_batch()
        batch.append(key=None, value=None, timestamp=None, headers=headers)
        sent: asyncio.Future[Any] = await producer.send_batch(batch, topic, partition=partition)
        return sent
    sent = await producer.send(topic, letter.value, key=letter.key, partition=partition, headers=headers)
    return sent


def _unforeseen(letter: Letter) -> ValueError:
    return ValueError(
        f"{letter.source.topic} does not take the letter at {letter.place[0]}:{letter.place[1]}, which is too large: "
        f"raise its {admin.MAX_BATCH}, or give this user the right DescribeConfigs, so that such letters are left out"
    )


def _limits(box: Box, topics: Collection[str]) -> dict[str, int]:
    if not topics:
        return {}
    with admin.connected(box.bootstrap, box.security) as client:
        return admin.largest_batches(client, topics)


def _check_sources(box: Box, made: Plan) -> None:
    """Raises ValueError, before anything is sent, if a source partition does not exist any more."""
    highest: Counter[str] = Counter()
    for letter in made.todo.values():
        highest[letter.source.topic] = max(highest[letter.source.topic], letter.source.partition)
    if not highest:
        return
    with admin.connected(box.bootstrap, box.security) as client:
        for info in admin.describe(client, highest):
            if info.partitions is None or info.partitions <= highest[info.name]:
                has = "does not exist" if info.partitions is None else f"has {info.partitions} partitions"
                raise ValueError(f"letters came from {info.name}/{highest[info.name]}, but that topic {has} now")


def _bounds(box: Box, count: int) -> dict[int, Bounds]:
    with _plain(box, None) as consumer:
        tps = [PlainTopicPartition(box.topic, number) for number in range(count)]
        begins, ends = consumer.beginning_offsets(tps), consumer.end_offsets(tps)
        return {tp.partition: Bounds(begins[tp], ends[tp]) for tp in tps}


def _committed(box: Box, numbers: Sequence[int], codes: Sequence[str]) -> dict[str, dict[int, int]]:
    done: dict[str, dict[int, int]] = {}
    for code in codes:
        # read_committed: the broker answers when no transaction on these offsets is open any more.
        with _plain(box, group_of(box.topic, code)) as consumer:
            marks = {number: consumer.committed(PlainTopicPartition(box.topic, number)) for number in numbers}
            done[code] = {number: mark for number, mark in marks.items() if mark is not None}
    return done


@contextmanager
def _plain(box: Box, group: str | None) -> Iterator[KafkaConsumer]:
    """A consumer that asks and never joins."""
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
        raise box.failed(f"asking Kafka at {box.bootstrap}", error) from error
