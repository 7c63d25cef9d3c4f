"""Sends pings by schedule, as a separate program: an open loop, which does not depend on the answers.

    python -m stream.bench.harness.programs.feeder '{"bootstrap": ..., ...}'    the argument is one Feed as JSON

It prints READY when the pings are made, and at the end one line of JSON: when the first was due and how late it sent.
`time.monotonic()` is one clock for all processes of a machine, so the subscriber's times can be compared with these.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer

from stream.bench.harness.stats import due
from stream.bench.harness.workload import Sent, Workload
from stream.kafka.partitioner import partition_of

READY: Final = "feeding"
LEAD_S: Final = 0.3  # between READY and the first ping
TICK_S: Final = 0.001  # the shortest sleep: pings that become due meanwhile are sent together


Keyed = tuple[bytes, bytes, int]  # key, value, partition


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """Holds what to send, where and how fast: the pings [skip, skip + count) of the workload.

    They need not be whole rounds: at a low rate, the pings of some seconds are fewer than the entities.
    """

    bootstrap: str
    topic: str
    partitions: int
    entities: int
    skip: int
    count: int
    rate_per_s: float
    data: str | None = None
    ahead: bool = True  # make all pings before the first is sent; a long feed has too many, and makes them meanwhile

    def pings(self) -> Iterator[Sent]:
        """Returns the pings to send, in the order of their due times."""
        workload = Workload(self.entities, None if self.data is None else Path(self.data))
        workload.skip(self.skip)
        return workload.pings(self.count)


class Fed(msgspec.Struct, frozen=True, kw_only=True):
    """The result. `late_ms` is the longest time from when a ping was due until the producer got it."""

    start_s: float
    sent: int
    late_ms: float


async def feed(how: Feed) -> Fed:
    pings: Iterable[Keyed] = _assign_keys(how)
    if how.ahead:
        pings = list(pings)
    producer = AIOKafkaProducer(bootstrap_servers=how.bootstrap.split(","), linger_ms=0, acks=1)
    await producer.start()
    try:
        print(READY, flush=True)  # noqa: T201 - the parent reads it
        return await _send_paced(producer, how, iter(pings))
    finally:
        await producer.stop()


def _assign_keys(how: Feed) -> Iterator[Keyed]:
    homes: dict[str, tuple[bytes, int]] = {}
    for ping in how.pings():
        home = homes.get(ping.entity_id)
        if home is None:
            key = ping.entity_id.encode()
            home = homes[ping.entity_id] = key, partition_of(key, how.partitions)
        yield home[0], ping.value, home[1]


async def _send_paced(producer: Any, how: Feed, pings: Iterator[Keyed]) -> Fed:
    start_s = time.monotonic() + LEAD_S
    sent, late_s = 0, 0.0
    while sent < how.count:
        elapsed_s = time.monotonic() - start_s
        ready = due(how.rate_per_s, elapsed_s, how.count)
        if ready > sent:
            late_s = max(late_s, elapsed_s - sent / how.rate_per_s)
        for key, value, partition in islice(pings, ready - sent):
            await producer.send(how.topic, value, key=key, partition=partition)
        sent = ready
        await asyncio.sleep(max(TICK_S, start_s + sent / how.rate_per_s - time.monotonic()))
    await producer.flush()
    return Fed(start_s=start_s, sent=sent, late_ms=late_s * 1000)


if __name__ == "__main__":
    fed = asyncio.run(feed(msgspec.json.decode(sys.argv[1], type=Feed)))
    print(msgspec.json.encode(fed).decode(), flush=True)  # noqa: T201 - the parent reads it
