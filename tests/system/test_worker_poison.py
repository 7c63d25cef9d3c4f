"""Records that could stop a worker for good: each becomes a dead letter, as it came, and the next ping a forecast."""

from __future__ import annotations

from pathlib import Path

import bus_feed
from aiokafka import AIOKafkaProducer
from worker_process import Worker

from stream.wire import Ping, Topics, dumps

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
GOOD = Ping(entity_id="bus", ts=1_490_094_006_000, lat=30.2, lon=-97.7)


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
        await producer.send_and_wait(topics.pings, key=b"bus", value=dumps(GOOD))
        await producer.stop()
        bus_feed.wait_for_records(kafka, topics.forecasts, 1, lambda: None)
        assert worker.running(), worker.log()
        assert worker.stop() == 0
    letters = list(bus_feed.read(kafka, topics.dead_letters))
    assert [bus_feed.source_of(letter)[1] for letter in letters] == list(range(len(POISON)))
    for letter, (key, value, headers) in zip(letters, POISON, strict=True):
        assert (letter.key, letter.value) == (key, value)
        assert list(letter.headers[: len(headers)]) == headers
