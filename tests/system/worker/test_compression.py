"""Records that come compressed, by every codec that Kafka has: the producers of a fleet may use any of them, and so may
a topic, which then has its broker compress what it is given. And what a worker compresses itself."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from functools import partial
from pathlib import Path

import bus_feed
import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords
from pathcast_process import pathcast
from worker_process import Worker, assert_all_live

from stream.config.settings import Compression, DeliveryGuarantee
from stream.wire import Ping, Topics, dumps, loads_forecast
from train.data.topic import snapshot

CODECS = ("gzip", "snappy", "lz4", "zstd")
PINGS = 60  # of each entity
START_MS = 1_700_000_000_000
KAFKA_CODES = {Compression.NONE: 0, Compression.SNAPPY: 2, Compression.ZSTD: 4}
ATTRIBUTES_AT, CODEC_BITS = 21, 7  # of a record batch: int16, big-endian


def publish(bootstrap: str, topic: str) -> None:
    """By each codec the pings of one entity, which is called as the codec is, in batches of many."""
    for codec in CODECS:
        asyncio.run(_publish(bootstrap, topic, codec))


async def _publish(bootstrap: str, topic: str, codec: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type=codec, linger_ms=50)
    await producer.start()
    try:
        for n in range(PINGS):
            ping = Ping(entity_id=codec, ts=START_MS + 10_000 * n, lat=48.0 + 0.001 * n, lon=11.0)
            await producer.send(topic, dumps(ping), key=codec.encode())
    finally:
        await producer.stop()


@pytest.fixture
def topics(kafka: str, topic_prefix: str) -> Topics:
    made = Topics.of(topic_prefix)
    bus_feed.create_topics(kafka, made, partitions=2)
    publish(kafka, made.pings)
    return made


@pytest.mark.parametrize(
    ("compression", "delivery"),
    [
        (Compression.NONE, DeliveryGuarantee.AT_LEAST_ONCE),
        (Compression.SNAPPY, DeliveryGuarantee.AT_LEAST_ONCE),
        (Compression.ZSTD, DeliveryGuarantee.EXACTLY_ONCE),
    ],
)
def test_a_worker_forecasts_them_and_compresses_as_it_is_told(
    kafka: str,
    redis_url: str,
    topics: Topics,
    topic_prefix: str,
    weights: Path,
    tmp_path: Path,
    compression: Compression,
    delivery: DeliveryGuarantee,
) -> None:
    where = {"bootstrap": kafka, "redis": redis_url, "prefix": topic_prefix, "group": topic_prefix}
    how = {"weights": weights, "compression": compression, "delivery": delivery}
    with Worker(tmp_path / "log", **where, **how) as worker:
        bus_feed.wait_until_consumed(kafka, topic_prefix, topics.pings, partial(assert_all_live, worker))
        assert worker.stop() == 0, worker.log()
    said = [loads_forecast(record.value or b"") for record in bus_feed.read(kafka, topics.forecasts)]
    assert Counter(forecast.entity_id for forecast in said) == dict.fromkeys(CODECS, PINGS)
    assert asyncio.run(codec_of(kafka, topics.forecasts)) == KAFKA_CODES[compression]


async def codec_of(bootstrap: str, topic: str) -> int:
    """Of the first batch that a consumer gets, as Kafka numbers them."""
    fetched: list[bytes] = []

    def seen(raw: bytes) -> MemoryRecords:
        fetched.append(raw)
        return MemoryRecords(raw)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fetcher, "MemoryRecords", seen)
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            await consumer.getone()
        finally:
            await consumer.stop()
    return fetched[0][ATTRIBUTES_AT + 1] & CODEC_BITS


def test_a_trainer_reads_them(kafka: str, topics: Topics, tmp_path: Path) -> None:
    table = pq.read_table(snapshot(topics.pings, kafka, tmp_path, lambda share: None))
    assert Counter(table["entity_id"].to_pylist()) == dict.fromkeys(CODECS, PINGS)


def test_tail_shows_them(kafka: str, topics: Topics, topic_prefix: str) -> None:
    publish(kafka, topics.forecasts)
    how = ("--from=earliest", "--no-follow", "--json", f"--bootstrap={kafka}", f"--prefix={topic_prefix}")
    shown = pathcast("tail", "forecasts", *how)
    assert shown.returncode == 0, shown.stderr
    assert Counter(json.loads(line)["entity_id"] for line in shown.stdout.splitlines()) == dict.fromkeys(CODECS, PINGS)
