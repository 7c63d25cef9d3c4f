"""Puts dead letters back into the topics that they came from, in Kafka transactions.

A letter is put back once, whoever does it and whenever they crash:

    group   <dead letter topic>.replay.<code>   its committed offset of a partition: letters of that code below are done
    id      <dead letter topic>.replay          the transactional id: starting a replay fences any other that still runs

Records and offsets are in one transaction, so that both are written or neither. There is one group per code, because
all letters below an offset are done, and people replay one code at a time. The offsets are read after this producer has
fenced the earlier ones, when every earlier transaction has ended. With at_least_once, a record may have two letters, so
a source record is put back for its first letter only.

A committed offset of a group without members exists for the broker's `offsets.retention.minutes` (7 days). The dead
letter topic must not keep letters for longer than that, or they could be put back again.

A letter that came compressed may be larger, when it is put back, than its topic accepts (max.message.bytes). It is left
out, and the offset passes it, like letters without their record; otherwise it would block all others of its code. We
ask for the topic's limit and do not try, as aiokafka's sequence numbers are wrong after a batch was refused.

Letters of an adapter (`stream.ingest`) are left out: they are messages of another system, such as a webhook's, and the
pings topic takes pings. They came from no topic; `reread` makes pings of them.

A record that is put back gets a new timestamp. With the old one, retention might delete it at once, and `clean`, which
compares event times with it, would again refuse a ping that was too far in the future then.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerFenced

from stream.commands.dlq.dead_letters import Box, Letter, Place, check_codes, group_of, is_done
from stream.kafka import admin
from stream.wire import MAX_DEAD_LETTER_BYTES
from stream.wire.record import FORGOTTEN

CHUNK: Final = 500  # letters per transaction: some 5 MB at most of ordinary records, and well within its time-out


@dataclass(eq=False)
class Plan:
    """Holds which letters to put back, and why others are left out."""

    todo: dict[Place, Letter] = field(default_factory=dict)  # without key, value and headers
    done: int = 0  # letters that were put back before
    copies: int = 0  # letters of a record for which another letter is put back
    omitted: int = 0  # letters without their record, too large or unreadable: there is nothing to put back
    too_large: list[Letter] = field(default_factory=list)  # for the topic that they came from
    of_adapters: Counter[str] = field(default_factory=Counter)  # messages in the format of an adapter, by its name
    ends: dict[tuple[str, int], int] = field(default_factory=dict)  # by code and partition: after its last letter

    @property
    def by_code(self) -> dict[str, int]:
        return dict(Counter(letter.code for letter in self.todo.values()).most_common())


async def plan(box: Box, codes: Collection[str]) -> Plan:
    """Returns what a replay of these codes (none: all) would do. Changes nothing. Raises UnknownCode."""
    async with aclosing(box.letters()) as letters:
        slim = [letter.slim() async for letter in letters]
    check_codes(codes, {letter.code for letter in slim}, box.topic)
    done = await box.done({letter.code for letter in slim})
    put_back = {letter.source for letter in slim if letter.is_record and is_done(letter, done)}
    limits = _limits(box, {letter.source.topic for letter in slim if letter.is_record})
    made = Plan()
    for letter in slim:
        # To put back that an entity is to be forgotten would forget what it has sent since.
        if letter.code == FORGOTTEN or (codes and letter.code not in codes):
            continue
        number, offset = letter.place
        made.ends[letter.code, number] = offset + 1
        if not letter.is_record:
            made.of_adapters[letter.adapter] += 1
        elif not letter.whole:
            made.omitted += 1
        elif letter.batch_bytes > limits.get(letter.source.topic, inf):  # first, as the offset may have passed it
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
    """Puts every letter of these codes (none: all) back where it came from, unless that was done before. Returns what
    it did.

    Raises:
        UnknownCode: no letter has one of the codes.
        RuntimeError: another replay has started meanwhile. It does the rest; nothing is put back twice.
    """
    async with transactional(box) as producer:
        made = await plan(box, codes)  # all other replays are fenced now: nobody else can put anything back
        waiting: dict[str, list[Letter]] = {code: [] for code, _ in made.ends}
        async with aclosing(box.letters()) as letters:
            async for letter in letters:
                if letter.place not in made.todo:
                    continue
                waiting[letter.code].append(letter)
                if len(waiting[letter.code]) == CHUNK:
                    await _send(producer, box.topic, letter.code, waiting[letter.code], {})
                    waiting[letter.code] = []
        for code, last in waiting.items():  # the last offsets pass the copies, too
            ends = {number: end for (name, number), end in made.ends.items() if name == code}
            await _send(producer, box.topic, code, last, ends)
        return made


@asynccontextmanager
async def transactional(box: Box) -> AsyncIterator[AIOKafkaProducer]:
    """Yields a producer with the transactional id: every earlier producer is fenced, and its transaction has ended."""
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
                pass  # an empty transaction: it returns when the broker has given us the id
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
    """Sends one transaction: records of one code, and its offsets by partition, after these records or at `ends`.
    (aiokafka's transactions can have the offsets of one group only.)"""
    after = {letter.place[0]: letter.place[1] + 1 for letter in letters} | dict(ends)
    async with producer.transaction():
        pending = [await _sent(producer, letter) for letter in letters]
        for letter, outcome in zip(letters, await asyncio.gather(*pending, return_exceptions=True), strict=True):
            if isinstance(outcome, MessageSizeTooLargeError):
                raise _unforeseen(letter) from outcome
            if isinstance(outcome, BaseException):
                raise outcome
        offsets = {TopicPartition(topic, number): offset for number, offset in after.items()}
        await producer.send_offsets_to_transaction(offsets, group_of(topic, code))


async def _sent(producer: AIOKafkaProducer, letter: Letter) -> asyncio.Future[Any]:
    """Sends one record to the partition that it came from, where its key belongs."""
    topic, partition, _ = letter.source
    headers = list(letter.own_headers)
    if letter.key is None and letter.value is None:  # aiokafka's `send` refuses such a record, but Kafka accepts it
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
