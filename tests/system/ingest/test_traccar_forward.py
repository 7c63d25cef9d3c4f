"""`pathcast ingest traccar` against a real Kafka: what Traccar forwarded gets into the pings topic, whatever dies, and
forecasts get back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ingest_rig
import pytest
from aiohttp import web
from bus_feed import create_topics
from dead_members import bury
from forecast_rig import forecast_of
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from mortal_kafka import MortalKafka, values_of
from pathcast_process import COMMAND, PATIENCE_S, environment, eventually
from worker_process import Worker

from stream.adapters.live.formats import traccar
from stream.ingest import kafka_forward, traccar_back
from stream.ingest.publishing.sink import Sink
from stream.ingest.source import Source
from stream.wire import Anchor, Forecast, Horizon, NextStep, Topics, dumps

SINCE_S = int(time.time()) - 86_400


@pytest.fixture
def topics(mortal: MortalKafka, topic_prefix: str) -> Topics:
    found = Topics.of(topic_prefix)
    create_topics(mortal.bootstrap, found, partitions=4)
    return found


@pytest.fixture
def forward_topic(topic_prefix: str) -> str:
    return f"{topic_prefix}-positions"


def forward(bootstrap: str, topic: str, numbers: Sequence[int]) -> None:
    """As Traccar does it: keyed by the id of its database."""
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for number in numbers:
        key, value = ingest_rig.traccar(number, SINCE_S)
        producer.send(topic, key=key, value=value)
    producer.flush()
    producer.close()


def pings_of(kafka: MortalKafka, topics: Topics) -> list[int]:
    return ingest_rig.numbers_of((value for _, value in values_of(kafka.bootstrap, topics.pings)), SINCE_S)


def committed(bootstrap: str, topic: str, group: str) -> int:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    numbers = consumer.partitions_for_topic(topic) or ()
    found = sum(consumer.committed(TopicPartition(topic, number)) or 0 for number in numbers)
    consumer.close()
    return found


@asynccontextmanager
async def ingesting(source: str, kafka: MortalKafka, topics: Topics, topic: str) -> Any:
    given = kafka_forward.ForwardSettings(source, topic, f"{topics.prefix}-ingest-traccar", traccar.read)
    async with Sink(kafka.bootstrap, topics, "traccar", ack_s=2.0) as sink:
        task = asyncio.create_task(kafka_forward.run(given, sink, Source("traccar")))
        try:
            yield sink, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(holds: Any, task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(90):
        while not holds():
            if task.done():
                task.result()
            await asyncio.sleep(0.05)


async def test_positions_get_their_devices_id_and_none_is_lost_or_committed_while_kafka_is_killed(
    kafka: str, mortal: MortalKafka, topics: Topics, forward_topic: str
) -> None:
    """Traccar's Kafka is another one here, and lives."""
    group = f"{topics.prefix}-ingest-traccar"
    forward(kafka, forward_topic, range(1_000))
    async with ingesting(kafka, mortal, topics, forward_topic) as (sink, task):
        await until(lambda: sink.taken.pings == 1_000, task)
        assert await asyncio.to_thread(eventually, lambda: committed(kafka, forward_topic, group) == 1_000)
        await asyncio.to_thread(mortal.kill)
        await asyncio.to_thread(forward, kafka, forward_topic, range(1_000, 4_000))
        await until(lambda: not sink.is_available, task)
        assert await asyncio.to_thread(committed, kafka, forward_topic, group) == 1_000
        await asyncio.to_thread(mortal.start)
        await until(lambda: sink.taken.pings == 4_000, task)
        assert await asyncio.to_thread(eventually, lambda: committed(kafka, forward_topic, group) == 4_000)
    found = values_of(mortal.bootstrap, topics.pings)
    assert {key for key, _ in found} == {ingest_rig.imei(device).encode() for device in range(ingest_rig.DEVICES)}
    assert set(pings_of(mortal, topics)) == set(range(4_000))


async def test_after_a_kill_of_the_process_the_next_one_goes_on(
    mortal: MortalKafka, topics: Topics, forward_topic: str, tmp_path: Path
) -> None:
    command = [*COMMAND, "ingest", "traccar", "--from-topic", forward_topic]
    command += ["--bootstrap", mortal.bootstrap, "--prefix", topics.prefix]

    def process(name: str) -> Worker:
        return Worker(tmp_path / f"{name}.log", program=command, command=(), environment=environment())

    with process("victim") as victim:
        victim.wait_for("there is no topic", PATIENCE_S)  # it waits for Traccar's first position
        forward(mortal.bootstrap, forward_topic, range(500))
        assert eventually(lambda: bool(pings_of(mortal, topics))), victim.log()
        victim.kill()
    bury(mortal.bootstrap, f"{topics.prefix}-ingest-traccar")
    forward(mortal.bootstrap, forward_topic, range(500, 1_000))
    with process("heir") as heir:
        assert eventually(lambda: set(pings_of(mortal, topics)) == set(range(1_000))), heir.log()
        assert heir.stop() == 0
    assert len(pings_of(mortal, topics)) < 1_600, "what was committed is not read again"


def a_forecast(entity: str, anchor_ms: int) -> Forecast:
    horizons = [Horizon(h_s, 30.0 + h_s / 1e5, -97.7, (400.0, 0.0, 900.0)) for h_s in (60.0, 300.0, 900.0)]
    step = NextStep(dt_s=15.0, d_east_m=0.0, d_north_m=1.0, d_lat=0.0, d_lon=0.0, cov_m2=(1.0, 0.0, 1.0))
    return forecast_of(entity, Anchor(anchor_ms, 30.0, -97.7), step, horizons)


class OsmAnd:
    """As Traccar's OsmAnd port answers: 200 for a device that it knows, else 400."""

    def __init__(self) -> None:
        self.got: list[dict[str, str]] = []
        self.known = True

    async def answer(self, request: web.Request) -> web.Response:
        self.got.append({name: str(value) for name, value in (await request.post()).items()})
        return web.Response(status=200 if self.known else 400)


async def test_forecasts_get_back_to_traccar_as_a_second_device_and_are_not_taken_for_positions(
    mortal: MortalKafka, topics: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    port = OsmAnd()
    app = web.Application()
    app.router.add_post("/", port.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    now_ms = time.time_ns() // 1_000_000
    producer = KafkaProducer(bootstrap_servers=mortal.bootstrap)

    def publish(entity: str, anchor_ms: int, at_ms: int) -> None:
        value = dumps(a_forecast(entity, anchor_ms))
        producer.send(topics.forecasts, key=entity.encode(), value=value, timestamp_ms=at_ms).get(20)

    publish("stale", now_ms, now_ms - 120_000)
    publish("bus-1", now_ms - 1_000, now_ms)
    publish("bus-1", now_ms, now_ms)
    given = traccar_back.BackSettings(mortal.bootstrap, topics, f"{topics.prefix}-to-traccar", url, 280.0)
    task = asyncio.create_task(traccar_back.run(given))
    try:
        await until(lambda: any(one["forecastId"] == f"bus-1-{now_ms}" for one in port.got), task)
        assert not [one for one in port.got if one["id"].startswith("stale")]
        sent = port.got[-1]
        assert sent == {
            "id": "bus-1-forecast",
            "timestamp": str(round(now_ms / 1000 + 300)),
            "lat": "30.003",
            "lon": "-97.7",
            "accuracy": "64",  # 2.146 times 30 m
            "pathcastForecast": "true",
            "horizonSeconds": "300",
            "anchorTime": str(round(now_ms / 1000)),
            "forecastId": f"bus-1-{now_ms}",
        }
        port.known = False
        publish("bus-2", now_ms, time.time_ns() // 1_000_000)
        await until(lambda: any(one["id"] == "bus-2-forecast" for one in port.got), task)
        await until(lambda: "is it known there" in caplog.text, task)
        await runner.cleanup()
        publish("bus-3", now_ms, time.time_ns() // 1_000_000)
        await until(lambda: "Traccar does not answer" in caplog.text, task)
        assert not task.done(), "it goes on"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        producer.close()
