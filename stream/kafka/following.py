"""Follows one topic with kafka-python, and shows its records, for commands such as `pathcast tail`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import closing
from itertools import islice
from typing import Any, Final

import typer
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from stream.config.options import quiet
from stream.config.security import PLAIN_KAFKA, KafkaSecurity, kafka_refusal
from stream.kafka import admin
from stream.wire.escape import escaped

POLL_MS: Final = 250  # the longest time until Ctrl-C has an effect


def follow(
    bootstrap: str,
    topic: str,
    security: KafkaSecurity = PLAIN_KAFKA,
    *,
    earliest: bool,
    stop_at_end: bool,
    committed: bool = False,
) -> Generator[Any]:
    """Yields the topic's records as they come, without an end; with `stop_at_end`, up to where the topic ended at the
    start; with `committed`, without those of transactions that were not committed. Says on a terminal that it waits.

    Raises ConnectionError if no broker answers, Refused if one denies access, ValueError if there is no such topic.

    Close it: a KafkaConsumer that is left open keeps the process from ending.
    """
    with admin.connected(bootstrap, security) as client:
        partitions = admin.partitions_of(client, topic)
    assigned = [TopicPartition(topic, number) for number in range(partitions)]
    access = {**security.arguments(), "bootstrap_timeout_ms": int(admin.CONNECT_S * 1000)}
    # It joins no group: reading must not take partitions from anybody, and must not commit offsets.
    isolation = "read_committed" if committed else "read_uncommitted"
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap.split(","), enable_auto_commit=False, isolation_level=isolation, **access
    )
    try:
        consumer.assign(assigned)
        if earliest:
            consumer.seek_to_beginning(*assigned)
        else:
            consumer.seek_to_end(*assigned)
        ends = consumer.end_offsets(assigned) if stop_at_end else {}
        if not (earliest or stop_at_end) and sys.stderr.isatty():  # where nothing comes, it is silent for long
            typer.echo(f"waiting for new records of {topic}; --from earliest shows older ones, too", err=True)
        while True:
            for records in consumer.poll(POLL_MS).values():
                yield from records
            if stop_at_end and all(consumer.position(tp) >= end for tp, end in ends.items()):
                return
    except KafkaError as error:
        refusal = kafka_refusal(bootstrap, security, error)
        raise refusal or ConnectionError(f"reading {topic} at {bootstrap} failed: {error}") from error
    finally:
        consumer.close()


def show(
    records: Generator[Any], line: Callable[[Any], bytes], *, entity: str | None, limit: int | None, nothing: str
) -> None:
    """Prints a line for each record of this entity (None: of all), `limit` of them at most, and closes `records`.

    If the records end and there was none to print, says `nothing` on stderr: silence could be a mistake of ours, too.
    """
    key = None if entity is None else entity.encode()
    printed = 0
    with quiet(), closing(records):
        matching = (record for record in records if key is None or record.key == key)
        for record in islice(matching, limit):
            sys.stdout.buffer.write(line(record) + b"\n")
            sys.stdout.buffer.flush()
            printed += 1
        if not printed:
            typer.echo(nothing, err=True)


def nothing_in(topic: str, bootstrap: str, *, entity: str | None, earliest: bool) -> str:
    """Returns what to say where a topic has nothing to show: what was looked for, and where."""
    of = "" if entity is None else f" of entity {escaped(entity)}"
    if earliest:
        return f"{topic} at {bootstrap} has no records{of}"
    return f"no records{of} came to {topic} at {bootstrap} just now: --from earliest shows those that are there"
