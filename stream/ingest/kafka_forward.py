"""Takes the records of another program's topic to the sink, and commits their offsets once Kafka has the pings.

Several processes of a group share the partitions. A record that was published and not committed, as a process died, is
published again by the next one, and a worker drops the second ping as a duplicate.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from stream.adapters.live.parsed import Parsed, Reader, reject
from stream.config.security import PLAIN_KAFKA, KafkaSecurity, in_words, kafka_refusal
from stream.config.wording import place
from stream.ingest.publishing.delivering import Message, deliver
from stream.ingest.publishing.sink import Sink
from stream.ingest.source import Source
from stream.kafka import admin
from stream.kafka.reading import group_consumer
from stream.kafka.records.record_columns import Records
from stream.wire import Record, explain_unread

log: Final = logging.getLogger(__name__)

POLL_MS: Final = 500
MOST: Final = 2_000  # records that are read at a time: some 20 ms of work
# How long the group waits for a member that does not read on, as Kafka for the pings may be away while this one is not.
PATIENCE_MS: Final = 24 * 3600 * 1000


class ForwardSettings(NamedTuple):
    """From where records are taken, and how they are read."""

    bootstrap: str
    topic: str
    group: str
    read: Reader
    security: KafkaSecurity = PLAIN_KAFKA


async def run(settings: ForwardSettings, sink: Sink, source: Source) -> None:
    """Runs until it is cancelled. Raises ConnectionError if no broker answers at the start, Refused if one denies
    access."""
    if not await asyncio.to_thread(_has_topic, settings):
        source.away(f"there is no topic {settings.topic} at {settings.bootstrap} yet")

    async def take(records: Sequence[Record]) -> None:
        source.back()
        await deliver(sink, [Message(_parse(settings.read, one), one.value or b"", _origin(one)) for one in records])

    await follow_as_group(settings.bootstrap, settings.topic, settings.group, settings.security, take)


async def follow_as_group(
    bootstrap: str,
    topic: str,
    group: str,
    security: KafkaSecurity,
    take: Callable[[Sequence[Record]], Awaitable[None]],
) -> None:
    """Gives the records of a topic to `take`, and commits their offsets when it returns, until it is cancelled. Raises
    as `run`."""
    consumer = group_consumer(bootstrap, security, group, max_poll_interval_ms=PATIENCE_MS)
    try:
        await consumer.start()
        consumer.subscribe([topic])
        while True:
            polled = await consumer.getmany(timeout_ms=POLL_MS, max_records=MOST)
            if polled:
                await take([one for part in polled.values() for one in part])
                await _commit(consumer, polled)
    except KafkaError as error:
        raise kafka_refusal(bootstrap, security, error) or admin.unreachable(bootstrap, error) from error
    finally:
        with suppress(KafkaError):
            await consumer.stop()


def _parse(read: Reader, record: Record) -> list[Parsed]:
    if (reason := explain_unread(record)) is not None:
        return [reject("unreadable", f"the batch that it came in was not unpacked: {reason}")]
    return read(record.value or b"", record.timestamp_ms)


def _origin(record: Record) -> str:
    return f"kafka:{record.topic}/{record.partition}/{record.offset}"


async def _commit(consumer: AIOKafkaConsumer, polled: Mapping[TopicPartition, Records]) -> None:
    """Commits what was polled. If that fails, the records are read again after a restart or by the next owner."""
    ours = consumer.assignment()
    offsets = {tp: records.next_offset for tp, records in polled.items() if tp in ours}
    if not offsets:
        return
    try:
        await consumer.commit(offsets)
    except (KafkaError, IllegalStateError) as error:
        at = ", ".join(f"{offset} in {place(tp)}" for tp, offset in offsets.items())
        log.warning("offset %s is not committed, and may be read again: %s", at, in_words(error))


def _has_topic(settings: ForwardSettings) -> bool:
    with admin.connected(settings.bootstrap, settings.security) as client:
        return not admin.absent(client, [settings.topic])
