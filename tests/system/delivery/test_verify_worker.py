"""`pathcast verify` of real workers on a real broker: nothing is wrong after a crash, and each sabotage is found."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import bus_feed
import pytest
import redis
import typer
from aiokafka import AIOKafkaProducer
from dead_members import bury
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata
from msgspec.structs import replace
from typer.testing import CliRunner
from worker_process import Worker, assert_all_live

from stream.verify.cli import verify
from stream.verify.report import VERDICTS
from stream.wire import Ping, Record, Topics, dumps, loads_forecast

PINGS = 6_000
KILL_AFTER = 1_500  # forecasts
SEED = 4

# In this process, as it is asked a dozen times. That it is a command, too, test_exactly_once and tests/chaos show.
APP = typer.Typer(pretty_exceptions_enable=False)
APP.command()(verify)


class Scene(NamedTuple):
    kafka: str
    redis_url: str
    prefix: str
    weights: str | Path

    @property
    def topics(self) -> Topics:
        return Topics.of(self.prefix)

    def verify(self, *more: object) -> dict[str, Any]:
        """The report as JSON; its exit code must agree with it."""
        arguments = {"bootstrap": self.kafka, "prefix": self.prefix, "group": self.prefix, "weights": self.weights}
        options = [f"--{name}={value}" for name, value in arguments.items()]
        run = CliRunner().invoke(APP, [*options, "--json", *map(str, more)])
        assert run.stdout, repr(run.exception)
        report: dict[str, Any] = json.loads(run.stdout)
        assert run.exit_code == (0 if report["ok"] else 1)
        return report

    def wrong(self, *more: object) -> dict[str, int]:
        total = self.verify(*more)["total"]
        return {name: total[name] for name in VERDICTS if total[name]}

    def first_forecast(self) -> Record:
        return next(islice(bus_feed.read(self.kafka, self.topics.forecasts), 1))

    def publish(self, topic: str, key: bytes, value: bytes) -> None:
        producer = KafkaProducer(bootstrap_servers=self.kafka)
        producer.send(topic, key=key, value=value).get(30)
        producer.close()


@pytest.fixture
def scene(apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path) -> Scene:
    """A feed with late, repeated and broken records, through a worker that is killed and one that goes on. With trained
    weights: an untrained head is zero, and would hide that numbers depend on more than the input."""
    weights = "small"
    made = Scene(apache_kafka, redis_url, topic_prefix, weights)
    bus_feed.create_topics(apache_kafka, made.topics, partitions=4)
    options = {"bootstrap": apache_kafka, "redis": redis_url, "weights": weights, "prefix": topic_prefix}
    options |= {"group": topic_prefix, "session_timeout_s": 6, "max_batch": 64}
    bus_feed.send(apache_kafka, made.topics.pings, bus_feed.fleet(PINGS, seed=SEED))
    with Worker(tmp_path / "victim.log", **options) as victim:
        bus_feed.wait_for_records(apache_kafka, made.topics.forecasts, KILL_AFTER, partial(assert_all_live, victim))
        victim.kill()
    bury(apache_kafka, topic_prefix)
    with Worker(tmp_path / "next.log", **options) as worker:
        worker.wait_until_ready()  # where the victim had answered everything, it would be stopped as it starts
        bus_feed.wait_until_consumed(apache_kafka, topic_prefix, made.topics.pings, partial(assert_all_live, worker))
        assert worker.stop() == 0
    return made


@pytest.mark.promise("`verify` finds every sabotage of the outputs")
def test_after_a_crash_nothing_is_wrong_and_every_sabotage_is_found(scene: Scene) -> None:
    report = scene.verify(f"--redis={scene.redis_url}")
    assert report["ok"], report["examples"]
    total = report["total"]
    assert total["records"] == PINGS == total["forecasts"] + total["dead_letters"] + total["input_duplicates"]
    assert total["dead_letters"] > 0
    assert total["gap_fills"] > 0
    assert total["input_duplicates"] > 0
    assert total["states"] > 30
    assert (total["open"], total["unjudged"], total["states_skipped"]) == (0, 0, 0)

    first = scene.first_forecast()
    forecast = loads_forecast(first.value or b"")
    north = replace(forecast, horizons=(replace(forecast.horizons[0], lat=forecast.horizons[0].lat + 0.001),))
    altered = replace(forecast, horizons=(*north.horizons, *forecast.horizons[1:]))
    scene.publish(scene.topics.forecasts, first.key or b"", dumps(altered))
    assert scene.wrong() == {"different": 1}

    elsewhere = replace(forecast, src=replace(forecast.src, offset=10**6))
    scene.publish(scene.topics.forecasts, first.key or b"", dumps(elsewhere))
    assert scene.wrong() == {"different": 1, "orphaned": 1}

    ping = Ping(entity_id="nobody's", ts=1_490_094_006_000, lat=30.0, lon=-97.0)
    scene.publish(scene.topics.pings, b"nobody's", dumps(ping))
    assert scene.verify()["total"]["open"] == 1, "not committed: it may still be answered"
    commit_the_end(scene)
    assert scene.wrong() == {"different": 1, "orphaned": 1, "lost": 1}
    ahead = ",".join(f"{n}:{tp_end}" for n, tp_end in enumerate(ends(scene)))
    assert scene.wrong("--from", ahead) == {"orphaned": 1}, "from the end on there is nothing to lose"

    with redis.Redis.from_url(scene.redis_url) as client:
        key = next(key for key in client.scan_iter(count=1000) if b":e:" in key)
        client.delete(key)
        assert scene.wrong(f"--redis={scene.redis_url}")["states_different"] == 1


def commit_the_end(scene: Scene) -> None:
    """As if the group had answered all of its input."""
    consumer = KafkaConsumer(bootstrap_servers=scene.kafka, group_id=scene.prefix, enable_auto_commit=False)
    tps = [TopicPartition(scene.topics.pings, number) for number in range(4)]
    consumer.assign(tps)
    consumer.commit({tp: OffsetAndMetadata(end, "", -1) for tp, end in consumer.end_offsets(tps).items()})
    consumer.close()


def ends(scene: Scene) -> list[int]:
    consumer = KafkaConsumer(bootstrap_servers=scene.kafka)
    tps = [TopicPartition(scene.topics.pings, number) for number in range(4)]
    found = consumer.end_offsets(tps)  # in no order
    consumer.close()
    return [found[tp] for tp in tps]


def test_exactly_once_is_judged_as_a_read_committed_reader_sees_it(
    kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path
) -> None:
    scene = Scene(kafka, redis_url, topic_prefix, weights)
    options = {"bootstrap": kafka, "redis": redis_url, "weights": weights, "prefix": topic_prefix}
    with Worker(tmp_path / "worker.log", **options, group=topic_prefix, partitions=2) as worker:
        worker.wait_until_ready()
        bus_feed.send(kafka, scene.topics.pings, bus_feed.fleet(300, seed=SEED))
        bus_feed.wait_until_consumed(kafka, topic_prefix, scene.topics.pings, partial(assert_all_live, worker))
        assert worker.stop() == 0
    first = scene.first_forecast()
    exactly_once = "--delivery=exactly_once"
    assert scene.wrong(exactly_once) == {}
    asyncio.run(assert_a_copy_is_not_waited_for(scene, first, commit=False))
    assert scene.wrong(exactly_once) == {}
    assert scene.verify()["total"]["again"] == 1, "a read_uncommitted reader sees the copy that was aborted"
    asyncio.run(assert_a_copy_is_not_waited_for(scene, first, commit=True))
    assert scene.wrong(exactly_once) == {"duplicated": 1}
    assert scene.wrong() == {}


async def assert_a_copy_is_not_waited_for(scene: Scene, record: Record, *, commit: bool) -> None:
    """Publish a forecast again, in a transaction that ends either way. A verifier must not wait for that: it would give
    up after `stream.kafka.reading.STALL_S`, and have no report."""
    producer = AIOKafkaProducer(bootstrap_servers=scene.kafka, transactional_id=scene.prefix)
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(scene.topics.forecasts, record.value, key=record.key)
    assert await asyncio.to_thread(scene.wrong, "--delivery=exactly_once") == {}
    await (producer.commit_transaction() if commit else producer.abort_transaction())
    await producer.stop()
