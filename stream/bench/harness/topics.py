"""Creates, fills, counts and deletes the topics of one benchmark."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from stream.bench.harness.workload import Sent
from stream.config.security import in_words
from stream.kafka import admin
from stream.kafka.partitioner import partition_of
from stream.wire import Topics

# The size of a batch of pings in the log. It is a Java producer's default, and must not be larger: a broker returns
# whole batches, and a worker that asks for 64 KiB of each partition would get 512 KiB of one.
BATCH_BYTES: Final = 16 * 1024
IN_FLIGHT: Final = 8  # requests that wait for the broker; more would only need memory


@contextmanager
def fresh(bootstrap: str, partitions: int, *, keep_bytes: int | None = None) -> Iterator[Topics]:
    """Yields new topics under an unused prefix, and deletes them at the end. The broker may delete records above
    `keep_bytes` per partition; by default it keeps all."""
    topics = Topics.of(f"bench{uuid.uuid4().hex[:10]}")
    with admin.connect(bootstrap) as client:
        if keep_bytes is not None:
            configs = {"retention.bytes": str(keep_bytes), "segment.bytes": str(keep_bytes // 4)}
            options = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
            client.create_topics(dict.fromkeys(topics, options), wait_for_metadata=True)
        admin.create(client, topics, partitions=partitions)
    try:
        yield topics
    finally:
        with suppress(KafkaError, OSError), admin.connect(bootstrap) as client:
            client.delete_topics(list(topics))
            client.delete_topics([topics.models])  # last, as most benchmarks have none, which is an error


def prefix_of(topics: Topics) -> str:
    return topics.pings.removesuffix(".pings.v1")


def prefill(bootstrap: str, topic: str, partitions: int, pings: Iterable[Sent]) -> int:
    """Publishes the pings, in order per partition, as fast as possible. Returns their number."""
    return asyncio.run(_prefill(bootstrap, topic, partitions, pings))


async def _prefill(bootstrap: str, topic: str, partitions: int, pings: Iterable[Sent]) -> int:
    """Builds batches here and sends them whole, which is five times as fast as sending record by record."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap.split(","), acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES
    )
    await producer.start()
    try:
        return await _send_batches(producer, topic, partitions, pings)
    finally:
        await producer.stop()


async def _send_batches(producer: Any, topic: str, partitions: int, pings: Iterable[Sent]) -> int:
    homes: dict[str, tuple[int, bytes]] = {}
    open_ = [producer.create_batch() for _ in range(partitions)]
    flying: list[Any] = []
    count = 0
    for ping in pings:
        home = homes.get(ping.entity_id)
        if home is None:
            key = ping.entity_id.encode()
            home = homes[ping.entity_id] = partition_of(key, partitions), key
        number, key = home
        if open_[number].append(key=key, value=ping.value, timestamp=None) is None:  # full
            flying.append(await producer.send_batch(open_[number], topic, partition=number))
            open_[number] = producer.create_batch()
            open_[number].append(key=key, value=ping.value, timestamp=None)
            if len(flying) >= IN_FLIGHT:
                await asyncio.gather(*flying)
                flying.clear()
        count += 1
    for number, batch in enumerate(open_):
        if batch.record_count():
            flying.append(await producer.send_batch(batch, topic, partition=number))
    await asyncio.gather(*flying)
    return count


class Counter:
    """Counts the records of topics repeatedly, with one request each time. Raises ConnectionError."""

    def __init__(self, bootstrap: str, names: Iterable[str]) -> None:
        with admin.connect(bootstrap) as client:
            counts = {name: admin.partitions_of(client, name) for name in names}
        self._tps = [TopicPartition(name, number) for name, count in counts.items() for number in range(count)]
        self._consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), enable_auto_commit=False)
        self._base = 0
        self._base = self.count()

    def count(self) -> int:
        """Returns the number of records since this counter was created."""
        try:
            return int(sum(self._consumer.end_offsets(self._tps).values())) - self._base
        except KafkaError as error:
            raise ConnectionError(f"the broker stopped answering: {in_words(error)}") from error

    def close(self) -> None:
        self._consumer.close()


def answers_of(topics: Topics) -> tuple[str, str]:
    """Returns the topics that together get exactly one record per ping of a workload without duplicates."""
    return topics.forecasts, topics.dead_letters
