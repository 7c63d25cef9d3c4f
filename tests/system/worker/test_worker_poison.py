"""Records that could stop a worker for good: each becomes a dead letter, as it came, and the next ping a forecast."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import bus_feed
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from dead_members import bury
from kafka import KafkaProducer
from pathcast_process import PATIENCE_S, VERIFY, environment
from worker_process import Worker

from stream.config import failpoints
from stream.kafka.records.decompression import MOST_BYTES
from stream.kafka.records.encoded_batches import HEAD_BYTES, EncodedBatch
from stream.wire import ERROR_HEADER_PREFIX, Ping, Topics, dumps, loads_forecast

BROKER_LIMIT = 1_048_588  # Kafka's default max.message.bytes: of a whole batch, with its 61 bytes of overhead
POISON: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = [
    (b"bus", b"x" * (BROKER_LIMIT - 61 - 60), []),  # leaves no room for the context headers
    (b"", b"", []),
    (None, None, [("only", b"headers")]),
    (b"\xff\xfe", b'{"entity_id":"\xff\xfe"}', [("a", b"\xff"), ("", b""), ("a", b"again")]),
    (b"bus", b"[" * 60_000, []),
    (b"bus", b'{"entity_id":"bus","ts":1e999,"lat":1,"lon":2}', []),
    (b"bus", b'{"entity_id":"bus","ts":1490094006000,"lat":30,"lon":-97}' + b"\x00", [("null", None)]),
]
BOMBS = ("gzip", "zstd")
UNREAD = 2 * len(BOMBS) + 2  # records, of batches that cannot be unpacked
FOREIGN_NAME = b"\xff\xfe\xc3("  # of a header, which brokers take as it is and aiokafka would not unpack
GOOD = Ping(entity_id="bus", ts=1_490_094_006_000, lat=30.2, lon=-97.7)


class Foreign(str):
    """A name that its producer encodes as it likes."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return FOREIGN_NAME


def with_foreign_name(bootstrap: str, topic: str, value: bytes) -> None:
    """A record that is no ping, then one that is: in one batch, each with such a header."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=100)
    for each in (b"none", value):
        producer.send(topic, key=b"bus", value=each, partition=0, headers=[(Foreign("name"), b"1")])
    producer.flush(30)
    producer.close()


async def bomb(bootstrap: str, topic: str, codec: str) -> None:
    """One batch of two records that is small on the wire and larger than a worker unfolds."""
    most = 2 * MOST_BYTES
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type=codec, max_batch_size=most)
    await producer.start()
    batch = producer.create_batch()
    for value in (bytes(MOST_BYTES), dumps(GOOD)):
        assert batch.append(key=b"bus", value=value, timestamp=None) is not None
    await (await producer.send_batch(batch, topic, partition=0))
    await producer.stop()


async def astray(bootstrap: str, topic: str) -> None:
    """One batch of two records, of which the second claims an offset a million behind the first."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 10)
    for delta in (0, 10**6):
        builder.append(delta, GOOD.ts, b"bus", b"none", [])
    body = np.frombuffer(builder.build(), np.uint8)[HEAD_BYTES:]
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    batch = EncodedBatch(topic, (topic, 0), np.arange(2), body).batch()
    await (await producer.send_batch(batch, topic, partition=0))
    await producer.stop()


@pytest.mark.promise("no record stops a worker: each becomes a dead letter as it came")
async def test_no_record_stops_a_worker(
    kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path
) -> None:
    topics = Topics.of(topic_prefix)
    names = {"prefix": topic_prefix, "group": topic_prefix}
    with Worker(tmp_path / "log", bootstrap=kafka, redis=redis_url, weights=weights, partitions=1, **names) as worker:
        worker.wait_until_ready()
        producer = AIOKafkaProducer(bootstrap_servers=kafka, max_request_size=2 * BROKER_LIMIT)
        await producer.start()
        for key, value, headers in POISON:
            # As a batch of one: aiokafka's `send` refuses a record of neither key nor value, other producers do not.
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None, headers=headers)
            await (await producer.send_batch(batch, topics.pings, partition=0))
        await producer.stop()
        for codec in BOMBS:
            await bomb(kafka, topics.pings, codec)
        await astray(kafka, topics.pings)
        # Else one fetch could have all, and the position behind its last record be right again.
        bus_feed.wait_until_consumed(kafka, topic_prefix, topics.pings, lambda: None)
        with_foreign_name(kafka, topics.pings, dumps(GOOD))
        bus_feed.wait_for_records(kafka, topics.forecasts, 1, lambda: None)
        assert worker.running(), worker.log()
        assert worker.stop() == 0
    letters = list(bus_feed.read(kafka, topics.dead_letters))
    assert [bus_feed.source_of(letter)[1] for letter in letters] == list(range(len(POISON) + UNREAD + 1))
    foreign = letters.pop()
    assert (foreign.key, foreign.value, foreign.headers[0]) == (b"bus", b"none", (r"\xff\xfe\xc3(", b"1"))
    unread, letters = letters[len(POISON) :], letters[: len(POISON)]
    assert {(letter.key, letter.value) for letter in unread} == {(None, None)}
    assert {dict(letter.headers)[f"{ERROR_HEADER_PREFIX}code"] for letter in unread} == {b"unreadable"}
    for letter, (key, value, headers) in zip(letters, POISON, strict=True):
        assert (letter.key, letter.value) == (key, value)
        assert list(letter.headers[: len(headers)]) == headers


# A program whose model raises for certain pings, after it has folded them and all that came with them.
FAULTY = """
from model.api import Predictor
from stream.commands.main import main

def faulty(fold):
    def folded(self, slots, fixes, *more):
        said = fold(self, slots, fixes, *more)
        if (fixes["speed_cms"] == 6_660).any():
            raise RuntimeError("no step from 66.6 m/s")
        return said
    return folded

Predictor.answer, Predictor.catch_up = faulty(Predictor.answer), faulty(Predictor.catch_up)
main()
"""
BUSES, ILL, FAILS_AT = 6, 3, 4  # the fifth ping of bus 3


def rounds(start: int, stop: int) -> list[bus_feed.Raw]:
    """One ping of each bus in each round."""
    pings = []
    for n in range(start, stop):
        for bus in range(BUSES):
            speed_mps = 66.6 if (bus, n) == (ILL, FAILS_AT) else 8.0
            ts = GOOD.ts + 10_000 * n
            pings.append(
                Ping(entity_id=f"bus-{bus}", ts=ts, lat=30.2 + n * 7e-4, lon=-97.7 + bus / 9, speed_mps=speed_mps)
            )
    return [(ping.entity_id.encode(), dumps(ping), ()) for ping in pings]


@pytest.mark.usefixtures("apache_kafka")
def test_a_ping_at_which_the_model_raises_costs_its_entity_alone_whoever_meets_it(
    kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first worker dies before any checkpoint knows of the quarantine: the second meets that ping in its replay."""
    topics = Topics.of(topic_prefix)
    names = {"bootstrap": kafka, "redis": redis_url, "prefix": topic_prefix, "group": topic_prefix, "weights": weights}
    bus_feed.create_topics(kafka, topics, partitions=1)
    bus_feed.send(kafka, topics.pings, iter(rounds(0, 10)))
    worker = {"program": [sys.executable, "-c", FAULTY], "session_timeout_s": 6, **names}
    with monkeypatch.context() as patch:
        patch.setenv(failpoints.VARIABLE, "before_checkpoint")
        first = Worker(tmp_path / "first.log", **worker)
    with first:
        assert first.wait(PATIENCE_S) == -signal.SIGKILL
    bury(kafka, topic_prefix)
    with Worker(tmp_path / "second.log", **worker) as second:
        second.wait_for("once more, carefully", PATIENCE_S)
        bus_feed.send(kafka, topics.pings, iter(rounds(10, 20)))
        bus_feed.wait_until_consumed(kafka, topic_prefix, topics.pings, lambda: None)
        assert second.running(), second.log()
        assert second.stop() == 0

    letters = {
        bus_feed.source_of(letter)[1]: dict(letter.headers)[f"{ERROR_HEADER_PREFIX}code"].decode()
        for letter in bus_feed.read(kafka, topics.dead_letters)
    }
    failed, *later = (BUSES * n + ILL for n in range(FAILS_AT, 20))
    assert letters == {failed: "step_failed", **dict.fromkeys(later, "entity_quarantined")}
    answered = {loads_forecast(record.value or b"").src.offset for record in bus_feed.read(kafka, topics.forecasts)}
    assert answered == set(range(20 * BUSES)) - letters.keys()

    arguments = [f"--{name}={value}" for name, value in names.items()]
    run = subprocess.run(
        [*VERIFY, *arguments, "--json", "--numbers=close"],
        capture_output=True,
        timeout=PATIENCE_S,
        env=environment(),
        check=False,
    )
    assert run.stdout, run.stderr.decode()
    report = json.loads(run.stdout)
    assert report["ok"], report["examples"]
    total = report["total"]
    assert (total["records"], total["quarantined"], total["open"], total["unjudged"]) == (
        20 * BUSES,
        len(letters),
        0,
        0,
    )
    assert (total["states"], total["states_skipped"]) == (BUSES - 1, 1)
