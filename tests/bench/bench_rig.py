"""Has what several of these benchmarks share, beside `stream.bench.harness`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from kafka import KafkaConsumer, TopicPartition
from redis import Redis

from stream.bench.harness.launch import Process
from stream.bench.harness.servers import Servers
from stream.store.redis_scripts import FIELD_OFFSET
from stream.store.redis_store import KEY_META, KEY_PARTITION
from stream.wire import Topics

T = TypeVar("T")
Show = Callable[[str], None]
SAVED_S: Final = 120.0  # the longest from the last answer to the checkpoint that includes it


class Stopwatch:
    """Adds up the time of everything that runs inside `timed`."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0

    def timed(self, work: Callable[[], T]) -> T:
        # It is process time, not thread time, so that all threads of the model count, as in the worker.
        wall, cpu = time.perf_counter(), time.process_time()
        made = work()
        self.cpu_s += time.process_time() - cpu
        self.wall_s += time.perf_counter() - wall
        return made


def ends_of(bootstrap: str, topic: str, partitions: int) -> dict[TopicPartition, int]:
    """Returns the offset of each partition's next record."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), enable_auto_commit=False)
    try:
        found: dict[TopicPartition, int] = consumer.end_offsets([TopicPartition(topic, n) for n in range(partitions)])
        return found
    finally:
        consumer.close()


def wait_for_checkpoint(
    worker: Process, servers: Servers, group: str, names: Topics, partitions: int, pings: int
) -> None:
    """Waits until the group's checkpoints include so many pings, of a topic that began at offset 0."""
    keys = [KEY_PARTITION.format(group=group, topic=names.pings, number=n) + KEY_META for n in range(partitions)]
    with Redis.from_url(servers.redis_url) as client:
        worker.wait_until(
            lambda: sum(int(client.hget(key, FIELD_OFFSET) or 0) for key in keys) >= pings, "checkpoint", SAVED_S
        )


def progress(show: Show, what: str, total: int) -> Callable[[int], None]:
    """Returns a function that shows how many pings are done."""
    return lambda done: show(f"{what}: {done:,} of {total:,} pings")
