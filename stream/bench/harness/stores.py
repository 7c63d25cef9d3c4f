"""Measures what a benchmark's consumer group stores in Redis, and removes it from Redis and Kafka at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

from kafka.errors import KafkaError
from redis import Redis, RedisError

from stream.bench.harness.servers import Servers
from stream.kafka import admin
from stream.store.redis_scripts import FIELD_OFFSET
from stream.store.redis_store import KEY_ENTITY, KEY_META, KEY_PARTITION

SCAN: Final = 2_000  # keys per call


class Used(NamedTuple):
    """Redis's own counters: bytes of memory for data, bytes that came over the network since it started, and keys."""

    memory_bytes: int
    received_bytes: int
    keys: int


def used(redis_url: str) -> Used:
    with Redis.from_url(redis_url) as client:
        memory, stats = client.info("memory"), client.info("stats")
        return Used(memory["used_memory"], stats["total_net_input_bytes"], client.dbsize())


def entities(redis_url: str, group: str) -> int:
    """Returns the number of entities that the group has checkpointed."""
    with Redis.from_url(redis_url) as client:
        return sum(1 for _ in client.scan_iter(match=_pattern(group) + KEY_ENTITY + "*", count=SCAN))


@contextmanager
def group(servers: Servers, name: str) -> Iterator[str]:
    """Yields a consumer group's name. At the end, deletes the group's keys in Redis and the group in Kafka."""
    try:
        yield name
    finally:
        with suppress(RedisError, OSError), Redis.from_url(servers.redis_url) as client:
            _unlink(client, _pattern(name) + "*")
        with suppress(KafkaError, OSError), admin.connected(servers.bootstrap) as client:
            client.delete_groups([name])


def _unlink(client: Any, pattern: str) -> None:
    keys: list[Any] = []
    for key in client.scan_iter(match=pattern, count=SCAN):
        keys.append(key)
        if len(keys) == SCAN:
            client.unlink(*keys)
            keys.clear()
    if keys:
        client.unlink(*keys)


def _pattern(group_name: str) -> str:
    return KEY_PARTITION.format(group=group_name, topic="*", number="*")


def saved(redis_url: str, group_name: str, topic: str, partitions: int) -> int:
    """Returns how many input records the group's checkpoints include, for a topic that began at offset 0."""
    with Redis.from_url(redis_url) as client, client.pipeline(transaction=False) as pipe:
        for number in range(partitions):
            key = KEY_PARTITION.format(group=group_name, topic=topic, number=number) + KEY_META
            pipe.hget(key, FIELD_OFFSET)
        return sum(int(offset) for offset in pipe.execute() if offset is not None)
