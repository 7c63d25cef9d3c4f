"""Receives forecasts and records when they came, as a separate program.

    python -m stream.bench.harness.programs.subscriber '{"feed": {...}, "topic": ..., "output": "times.npy", ...}'

It writes float64 [count]: the `time.monotonic()` at which the forecast for the workload's i-th ping was in this
process, NaN if it never came. A ping is identified by its entity and time, which are the forecast's anchor.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, Final

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.bench.harness.programs.feeder import Feed

READY: Final = "listening"
# aiokafka sends each broker one fetch at a time, and a partition that was just read waits until it is answered. A long
# wait would be our own latency, not the worker's.
FETCH_WAIT_MS: Final = 5


class Listen(msgspec.Struct, frozen=True, kw_only=True):
    """Holds what to wait for, and when to give up: so long after the last answer."""

    feed: Feed
    topic: str
    output: str
    patience_s: float


class _Anchor(msgspec.Struct):
    ts: int


class _Head(msgspec.Struct):
    """The part of a forecast that identifies its ping; the decoder skips the rest."""

    entity_id: str
    anchor: _Anchor


async def listen(how: Listen) -> int:
    """Receives forecasts, writes their times, and returns how many came."""
    index = {(ping.entity_id, ping.ts_ms): i for i, ping in enumerate(how.feed.pings())}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=how.feed.bootstrap.split(","), enable_auto_commit=False, fetch_max_wait_ms=FETCH_WAIT_MS
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(how.topic, number) for number in range(how.feed.partitions)])
        await consumer.seek_to_end()
        print(READY, flush=True)  # noqa: T201 - the parent reads it
        times = await _receive(consumer, how, index)
    finally:
        await consumer.stop()
    np.save(how.output, times)
    return int(np.isfinite(times).sum())


async def _receive(consumer: Any, how: Listen, index: dict[tuple[str, int], int]) -> np.ndarray[Any, Any]:
    times = np.full(how.feed.count, np.nan)
    decode = msgspec.json.Decoder(_Head).decode
    left, now_s = how.feed.count, time.monotonic()
    last_s = now_s
    while left and now_s - last_s < how.patience_s:
        polled = await consumer.getmany(timeout_ms=200)
        now_s = time.monotonic()
        for records in polled.values():
            for record in records:
                head = decode(record.value)
                at = index.get((head.entity_id, head.anchor.ts))
                if at is not None and np.isnan(times[at]):  # None: of an earlier ping; not NaN: a second copy
                    times[at] = now_s
                    left -= 1
                    last_s = now_s
    return times


if __name__ == "__main__":
    came = asyncio.run(listen(msgspec.json.decode(sys.argv[1], type=Listen)))
    print(f"received {came}", flush=True)  # noqa: T201 - the parent reads it
