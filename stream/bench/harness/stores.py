"""Reads Redis's counters, and removes what a benchmark's consumer group leaves in Redis and Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

from kafka.errors import KafkaError
from redis import Redis, RedisError

from stream.bench.harness.servers import Servers
from stream.kafka import admin
from stream.store.redis_store import KEY_PARTITION

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


@contextmanager
def group(servers: Servers, name: str) -> Iterator[str]:
    """Yields a consumer group's name. At the end, deletes the group's keys in Redis and the group in Kafka."""
    try:
        yield name
    finally:
        with suppress(RedisError, OSError), Redis.from_url(servers.redis_url) as client:
            _unlink(client, KEY_PARTITION.format(group=name, topic="*", number="*") + "*")
        with suppress(KafkaError, OSError), admin.connect(servers.bootstrap) as client:
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
