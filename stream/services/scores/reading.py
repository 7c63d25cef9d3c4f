"""Reads the scores topic up to its present end, for people: joins no group, and commits nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from stream.config.security import KafkaSecurity, kafka_refusal
from stream.kafka import admin
from stream.wire import Drift, Score, Topics, loads_scored

log: Final = logging.getLogger(__name__)
POLL_MS: Final = 500


def read(bootstrap: str, prefix: str, security: KafkaSecurity, since_ms: int | None) -> list[Score | Drift]:
    """Returns what was published since then, or all: partition by partition.

    Raises ConnectionError if no broker answers, Refused if one denies access, ValueError if there are no scores topic.
    """
    topic = Topics.of(prefix).scores
    with admin.connected(bootstrap, security) as client:
        (info,) = admin.describe(client, [topic])
    if info.partitions is None:
        raise ValueError(f"there is no topic {topic} at {bootstrap}: start `pathcast scores run`")
    access = {**security.arguments(), "bootstrap_timeout_ms": int(admin.CONNECT_S * 1000)}
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap.split(","), enable_auto_commit=False, isolation_level="read_committed", **access
    )
    try:
        return list(_records(consumer, [TopicPartition(topic, n) for n in range(info.partitions)], since_ms))
    except KafkaError as error:
        refusal = kafka_refusal(bootstrap, security, error)
        raise refusal or ConnectionError(f"reading {topic} at {bootstrap} failed: {error}") from error
    finally:
        consumer.close()


def _records(consumer: KafkaConsumer, tps: list[TopicPartition], since_ms: int | None) -> Iterator[Score | Drift]:
    consumer.assign(tps)
    ends = consumer.end_offsets(tps)
    consumer.seek_to_beginning(*tps)
    if since_ms is not None:
        for tp, found in consumer.offsets_for_times(dict.fromkeys(tps, since_ms)).items():
            consumer.seek(tp, ends[tp] if found is None else found.offset)
    unreadable = 0
    while any(consumer.position(tp) < ends[tp] for tp in tps):
        for tp, records in consumer.poll(POLL_MS).items():
            for record in records:
                if record.offset < ends[tp]:
                    try:
                        yield loads_scored(record.value or b"")
                    except msgspec.DecodeError:
                        unreadable += 1
    if unreadable:
        log.warning("%d records of %s are no scores", unreadable, tps[0].topic)
