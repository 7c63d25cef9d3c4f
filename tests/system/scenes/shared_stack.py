"""The stack that tests share which only ask it something: a worker that forecasts buses, with a Redis of its own. Tests
import this; it tests nothing itself.

Whoever shares it takes the next pings of its buses, or sends entities with ids of its own within Austin, whose times
are those of the buses: the map shows all of them. What is killed, or has other options, is no part of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import bus_feed
import redis_server
import steady_feed
from worker_process import Worker, assert_all_live

from stream.adapters.files import read
from stream.wire import Topics, dumps
from stream.wire.messages import Ping

HOSTILE: Final = ('<img src=x onerror="window.hacked=1">\u202e\u2066drow\U0001f68c&amp;\'' + "W" * 128)[:128]
FIRST: Final = 1_500  # pings before anybody looks: every bus has a track then
AGAIN: Final = 300  # pings before somebody looks again, maybe after a long while: every bus has gone on
PINGS_S: Final = 10.0  # each bus moves every four seconds


def buses() -> Iterator[bus_feed.Raw]:
    """The sample's pings, and with every fortieth one of a hostile id beside it. At their end the buses go back the way
    that they came, and so on: the feed has no end."""
    for number, row in enumerate(_there_and_back()):
        yield row["entity_id"].encode(), json.dumps(row).encode(), ()
        if number % 40 == 0:
            ping = Ping(entity_id=HOSTILE, ts=row["ts"], lat=30.27 + number % 6_000 / 100_000, lon=-97.74)
            yield HOSTILE.encode(), dumps(ping), ()


def _there_and_back() -> Iterator[dict[str, Any]]:
    rows = [json.loads(row.value) for row in read(bus_feed.SAMPLE)]
    first_ms, last_ms = rows[0]["ts"], rows[-1]["ts"]
    for way in count():
        begin_ms = first_ms + way * (last_ms - first_ms + 1_000)
        for row in reversed(rows) if way % 2 else rows:
            yield {**row, "ts": begin_ms + abs(row["ts"] - (last_ms if way % 2 else first_ms))}


class Stack(NamedTuple):
    kafka: str
    redis_url: str
    weights: Path
    prefix: str
    folder: Path
    worker: Worker
    rows: Iterator[bus_feed.Raw]

    @property
    def topics(self) -> Topics:
        return Topics.of(self.prefix)

    @property
    def states(self) -> dict[str, object]:
        """The options of a command that reads what the worker has stored."""
        servers = {"bootstrap": self.kafka, "redis": self.redis_url, "weights": self.weights}
        return {**servers, "prefix": self.prefix, "group": self.prefix}

    def send(self, number: int) -> None:
        """So many of the next pings, and waits until they are answered."""
        bus_feed.send(self.kafka, self.topics.pings, islice(self.rows, number))
        bus_feed.wait_until_consumed(self.kafka, self.prefix, self.topics.pings, partial(assert_all_live, self.worker))

    @contextmanager
    def moving(self) -> Iterator[None]:
        """The buses move while the block runs, and have moved when it begins."""
        self.send(AGAIN)
        with steady_feed.feeding(self.kafka, self.topics.pings, self.rows, per_s=PINGS_S):
            yield


@contextmanager
def running(kafka: str, weights: Path, folder: Path) -> Iterator[Stack]:
    prefix = f"stack{time.monotonic_ns()}"
    with redis_server.running(lambda line: None) as redis_url:
        how = {"bootstrap": kafka, "redis": redis_url, "weights": weights, "prefix": prefix, "group": prefix}
        with Worker(folder / "worker.log", **how, partitions=2, checkpoint_ms=200) as worker:
            worker.wait_until_ready()
            stack = Stack(kafka, redis_url, weights, prefix, folder, worker, buses())
            stack.send(FIRST)
            yield stack
