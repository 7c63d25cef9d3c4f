"""Reads logs up to their present ends, or follows them. Whoever reads so joins no group, and commits nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.config.security import PLAIN_KAFKA, KafkaSecurity, in_words, kafka_refusal
from stream.config.wording import place
from stream.kafka import admin, fetcher
from stream.kafka.log import Bounds, Partition
from stream.kafka.patches import patch_aiokafka
from stream.kafka.records.record_columns import Records
from stream.wire import Record

Isolation = Literal["read_uncommitted", "read_committed"]
# Feeders may write in transactions (`pathcast dlq replay` does): records of an aborted one never were pings.
INPUT_ISOLATION: Final = "read_committed"

NO_ACCESS: Mapping[str, Any] = {}  # for brokers that ask for no credentials
STALL_S = 60.0  # if the position does not move for so long before the end, the broker is not well
FOLLOW_MS: Final = 250  # the longest time until the end is noticed
REPLAY_CHUNK = 2_000  # records at a time: some 2 MB, and short enough that other partitions get their turn


class Chunk(NamedTuple):
    """Some records of one partition of a topic, in order."""

    number: int  # of the partition
    records: Records
    done: float  # how much of what is to be read has been read with these, 0 to 1


async def to_end(
    bootstrap: str,
    topic: str,
    security: KafkaSecurity = PLAIN_KAFKA,
    *,
    since_ms: int | None = None,
    isolation: Isolation = INPUT_ISOLATION,
) -> AsyncGenerator[Chunk]:
    """Yields the records that a topic has now, or those published since a time, partition by partition.

    Raises ConnectionError if no broker answers or one stops answering, Refused if one denies access, ValueError if
    there is no such topic.
    """
    with admin.connect(bootstrap, security) as client:
        numbers = range(admin.partitions_of(client, topic))
    servers, access = bootstrap.split(","), security.arguments()
    try:
        spans = await _spans(servers, [(topic, number) for number in numbers], access, since_ms)
        total, done = sum(end - begin for begin, end in spans.values()), 0
        for partition, (begin, end) in spans.items():
            async for records in reread(servers, partition, begin, end, access=access, isolation=isolation):
                yield Chunk(partition[1], records, (done + records.next_offset - begin) / total)
            done += end - begin
    except (KafkaError, RuntimeError) as error:
        refusal = kafka_refusal(bootstrap, security, error) if isinstance(error, KafkaError) else None
        raise refusal or ConnectionError(f"reading {topic} at {bootstrap} failed: {in_words(error)}") from error


async def _spans(
    servers: Sequence[str], partitions: Iterable[Partition], access: Mapping[str, Any], since_ms: int | None
) -> dict[Partition, Bounds]:
    """Returns what is to be read of each partition: all that was published since then."""
    tps = [TopicPartition(*partition) for partition in partitions]
    async with reader(servers, access, INPUT_ISOLATION) as consumer:
        whole = await bounds_by(consumer, tps)
        if since_ms is None:
            return whole
        found = await consumer.offsets_for_times(dict.fromkeys(tps, since_ms))
    begins = {(tp.topic, tp.partition): at and at.offset for tp, at in found.items()}
    return {one: Bounds(end if begins[one] is None else begins[one], end) for one, (_, end) in whole.items()}


@asynccontextmanager
async def reader(
    bootstrap: Sequence[str], access: Mapping[str, Any], isolation: Isolation, group: str | None = None
) -> AsyncIterator[AIOKafkaConsumer]:
    """Yields a started consumer, whose records are `Records`. It joins no group; of `group` it may ask what that has
    committed. Raises KafkaError."""
    patch_aiokafka()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(bootstrap),
        **access,
        group_id=group,
        enable_auto_commit=False,
        isolation_level=isolation,
        key_deserializer=fetcher.COLUMNS,
        auto_offset_reset="earliest",  # records that retention has deleted meanwhile cannot be replayed
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def reread(
    bootstrap: Sequence[str],
    partition: Partition,
    start: int,
    end: int,
    *,
    access: Mapping[str, Any] = NO_ACCESS,
    isolation: Isolation = INPUT_ISOLATION,
) -> AsyncGenerator[Records]:
    """Yields the records of [start, end) that still exist, in order, in chunks. Joins no group and commits nothing.

    `access` has the credentials that aiokafka needs (`stream.config.security`).

    Raises:
        RuntimeError: the position did not move for STALL_S before `end`.
    """
    if start >= end:
        return  # aiokafka's `stop` raises CancelledError in a consumer that never began to fetch
    tp = TopicPartition(*partition)
    async with reader(bootstrap, access, isolation) as consumer:
        consumer.assign([tp])
        consumer.seek(tp, start)
        moved_at = time.monotonic()
        # The position counts, not the last record's offset: a log can end with offsets without a record (markers,
        # compaction).
        while (position := await consumer.position(tp)) < end:
            polled = await consumer.getmany(tp, timeout_ms=500, max_records=REPLAY_CHUNK)
            if tp in polled and (records := polled[tp].before(end)):
                yield records
            if await consumer.position(tp) > position:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > STALL_S:
                raise RuntimeError(
                    f"cannot read {place(partition)} back from {position} to {end}: no record for {STALL_S} s"
                )


async def follow(
    bootstrap: str,
    topic: str,
    security: KafkaSecurity = PLAIN_KAFKA,
    *,
    earliest: bool,
    stop_at_end: bool,
    isolation: Isolation = INPUT_ISOLATION,
) -> AsyncGenerator[Record]:
    """Yields a topic's records as they come, from its beginning (`earliest`) or from now on, without an end; with
    `stop_at_end`, up to where the topic ended at the start. Close it. Raises as `to_end`."""
    with admin.connect(bootstrap, security) as client:
        tps = [TopicPartition(topic, number) for number in range(admin.partitions_of(client, topic))]
    try:
        async with reader(bootstrap.split(","), security.arguments(), isolation) as consumer:
            consumer.assign(tps)
            begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
            for tp in tps:
                consumer.seek(tp, begins[tp] if earliest else ends[tp])
            while True:
                for records in (await consumer.getmany(timeout_ms=FOLLOW_MS)).values():
                    for record in records:
                        yield record
                if stop_at_end and all([await consumer.position(tp) >= ends[tp] for tp in tps]):
                    return
    except KafkaError as error:
        refusal = kafka_refusal(bootstrap, security, error)
        raise refusal or ConnectionError(f"reading {topic} at {bootstrap} failed: {in_words(error)}") from error


async def bounds(
    bootstrap: Sequence[str],
    partitions: Sequence[Partition],
    *,
    access: Mapping[str, Any] = NO_ACCESS,
) -> dict[Partition, Bounds]:
    """Returns the bounds of these partitions' logs, in the order of the partitions. Raises KafkaError."""
    async with reader(bootstrap, access, INPUT_ISOLATION) as consumer:
        return await bounds_by(consumer, [TopicPartition(*partition) for partition in partitions])


async def bounds_by(consumer: AIOKafkaConsumer, tps: Sequence[TopicPartition]) -> dict[Partition, Bounds]:
    """Returns the same, asked by a consumer that is started."""
    begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    return {(tp.topic, tp.partition): Bounds(begins[tp], ends[tp]) for tp in tps}


SESSION_S: Final = 10.0  # how soon the group notices that a member is dead


def group_consumer(bootstrap: str, security: KafkaSecurity, group: str, **more: Any) -> AIOKafkaConsumer:
    """Returns a consumer that is not started; it reads record columns. `more` are further options of aiokafka."""
    patch_aiokafka()
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap.split(","),
        **security.arguments(),
        group_id=group,
        enable_auto_commit=False,
        isolation_level=INPUT_ISOLATION,
        key_deserializer=fetcher.COLUMNS,
        auto_offset_reset="earliest",
        session_timeout_ms=int(SESSION_S * 1000),
        metadata_max_age_ms=10_000,  # how soon new partitions are found
        **more,
    )
