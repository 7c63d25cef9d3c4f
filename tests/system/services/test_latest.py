"""`pathcast latest` against a real Kafka: whatever dies, the topic's newest values are those of an undisturbed run."""

from __future__ import annotations

import json
import signal
import sys
import threading
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import bus_feed
import pytest
import services_rig
from dead_members import bury, members_of
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from pathcast_process import PATIENCE_S, environment, eventually, pathcast
from services_rig import forecast, undisturbed
from worker_process import Worker, assert_all_live

from stream.demo.embedded import free_port
from stream.kafka import admin
from stream.services.latest.unit import Rules
from stream.wire import Record, Topics
from stream.wire.latest import loads_latest

# The root command with this group alone, whatever is installed.
ROOT = "from stream.commands import main; from stream.services.latest.cli import app; main.build = lambda: app"
LATEST = [sys.executable, "-c", f"{ROOT}; main.main()"]
PARTITIONS = 3
SLICES, PAUSE_S = 1500, 0.25  # so that transactions lie everywhere in the logs, until nobody is to be killed any more
EXPIRE_M = 45
T0 = 1_700_000_000_000


class Feed:
    """Made-up forecasts and gap fills in topics of their own."""

    def __init__(self, kafka: str, prefix: str, folder: Path) -> None:
        self.kafka, self.topics, self.folder, self.prefix = kafka, Topics.of(prefix), folder, prefix
        self.logs: dict[int, list[Record]] = {}
        with admin.connected(kafka) as client:
            admin.create(client, self.topics, partitions=PARTITIONS)

    def send(self, slices: int, hurry: threading.Event | None = None) -> None:
        """Sends all, slice by slice, and rests after each until it is told to hurry. Records are published now: so no
        ping is ahead, and no partition is quiet for long."""
        names = {
            services_rig.TOPICS.forecasts: self.topics.forecasts,
            services_rig.TOPICS.gapfills: self.topics.gapfills,
        }
        producer = KafkaProducer(bootstrap_servers=self.kafka)
        for part in range(slices):
            for number, log in self.logs.items():
                for one in log[part * len(log) // slices : (part + 1) * len(log) // slices]:
                    producer.send(names[one.topic], partition=number, key=b"e", value=one.value)
            producer.flush()
            if hurry is not None:
                hurry.wait(PAUSE_S)
        producer.close()

    def member(self, name: str, *more: str, **env: str) -> Worker:
        options = (
            "run",
            "--bootstrap",
            self.kafka,
            "--prefix",
            self.prefix,
            "--expire",
            f"{EXPIRE_M}m",
            "--max-rate",
            "5",
        )
        return Worker(
            self.folder / f"{name}.log", program=LATEST, command=(*options, *more), environment=environment(**env)
        )

    def wait_until_read(self, *members: Worker) -> None:
        check = partial(assert_all_live, *members)
        for topic in (self.topics.forecasts, self.topics.gapfills):
            bus_feed.wait_until_consumed(self.kafka, f"{self.prefix}-latest", topic, check)

    def values(self) -> dict[int, dict[str, bytes]]:
        """What a subscriber that reads committed records finds, by partition and key."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.kafka,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        found: dict[int, dict[str, bytes]] = {number: {} for number in range(PARTITIONS)}
        for tp in bus_feed.partitions_of(consumer, self.topics.latest):
            consumer.assign([tp])
            consumer.seek_to_beginning(tp)
            end = consumer.end_offsets([tp])[tp]
            while consumer.position(tp) < end:
                for one in consumer.poll(1_000).get(tp, ()):
                    found[tp.partition].pop(one.key.decode(), None)
                    if one.value is not None:
                        found[tp.partition][one.key.decode()] = one.value
        consumer.close()
        return found


@pytest.fixture
def feed(kafka: str, topic_prefix: str, tmp_path: Path) -> Feed:
    return Feed(kafka, topic_prefix, tmp_path)


def differences(found: Mapping[int, Mapping[str, bytes]], expected: Mapping[int, Mapping[str, bytes]]) -> list[str]:
    return [
        f"{number}: {key}: {found[number].get(key)!r} is not {expected[number].get(key)!r}"
        for number in expected
        for key in found[number].keys() | expected[number].keys()
        if found[number].get(key) != expected[number].get(key)
    ]


@pytest.mark.usefixtures("apache_kafka")
def test_values_are_those_of_an_undisturbed_run_whatever_dies(feed: Feed) -> None:
    feed.logs = {number: services_rig.logs(number, entities=24) for number in range(PARTITIONS)}
    expected = {number: undisturbed(log, Rules(expire_ms=EXPIRE_M * 60_000)) for number, log in feed.logs.items()}
    assert min(map(len, expected.values())) > 5
    hurry = threading.Event()
    sending = threading.Thread(target=feed.send, args=(SLICES, hurry), daemon=True)
    with ExitStack() as stack:
        stays = stack.enter_context(feed.member("stays"))
        stays.wait_for("is ours", PATIENCE_S)
        group = f"{feed.prefix}-latest"
        live = members_of(feed.kafka, group)
        sending.start()
        for point in ("after_publish:3", "before_end:2", "before_publish:2", "after_commit:2"):
            victim = stack.enter_context(feed.member(point.partition(":")[0], PATHCAST_KILL_POINT=point))
            assert victim.wait(180) == -signal.SIGKILL, victim.log()
            bury(feed.kafka, group, but=live)
        zombie = stack.enter_context(feed.member("zombie"))
        zombie.wait_for("is ours", PATIENCE_S)
        zombie.send_signal(signal.SIGSTOP)  # for longer than its session
        plain = stack.enter_context(feed.member("plain"))
        plain.wait_for("is ours", PATIENCE_S)
        plain.kill()
        hurry.set()
        sending.join()
        feed.wait_until_read(stays)
        zombie.send_signal(signal.SIGCONT)
        assert eventually(lambda: zombie.log().count("is ours") > 1 or "taken over again" in zombie.log()), zombie.log()
        for one in (stays, zombie):
            assert one.stop() == 0, one.log()
    assert differences(feed.values(), expected) == []


def test_tombstones_topic_and_metrics_are_as_stated(feed: Feed) -> None:
    hour = 3_600_000
    ends, stays = forecast("ends", T0, 0), [forecast(name, T0 + 2 * hour, 1) for name in ("b", "c")]
    logs = [services_rig.record(services_rig.TOPICS.forecasts, 0, raw) for raw in (ends, *stays)]
    feed.logs = {0: logs[:1]}
    feed.send(1)
    port = free_port()
    with feed.member("run", "--metrics", str(port)) as member:
        assert eventually(lambda: "ends" in _values_if_there(feed)), member.log()
        feed.logs = {0: logs[1:]}
        feed.send(1)
        assert eventually(lambda: set(feed.values()[0]) == {"b", "c"}), member.log()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as page:
            assert page.status == 200
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            lines = dict(line.rpartition(" ")[::2] for line in page.read().decode().splitlines() if line[0] != "#")
        assert lines['pathcast_latest_records_total{outcome="expired",partition="0"}'] == "1.0"
        assert lines['pathcast_latest_records_total{outcome="newest",partition="0"}'] == "3.0"
        assert lines['pathcast_latest_lag_records{partition="1"}'] == "0.0"
        assert float(lines["pathcast_latest_records_published_total"]) >= 4
        assert member.stop() == 0, member.log()
    assert loads_latest(feed.values()[0]["b"]).entity_id == "b"
    with admin.connected(feed.kafka) as client:
        asked = ConfigResource(ConfigResourceType.TOPIC, feed.topics.latest, {"cleanup.policy": None})
        described = client.describe_configs([asked], config_filter="all")["topic"][feed.topics.latest]
    assert described["cleanup.policy"]["value"] == "compact"
    shown = json.loads(pathcast("topics", "--json", "--bootstrap", feed.kafka, "--prefix", feed.prefix).stdout)
    assert {one["name"]: one["partitions"] for one in shown}[feed.topics.latest] == PARTITIONS


def _values_if_there(feed: Feed) -> dict[str, bytes]:
    consumer = KafkaConsumer(bootstrap_servers=feed.kafka)
    there = consumer.partitions_for_topic(feed.topics.latest)
    consumer.close()
    return feed.values()[0] if there else {}


def test_once_goes_up_to_the_present_end_and_again_goes_on_from_there(feed: Feed) -> None:
    logs = {number: services_rig.logs(number + 7, entities=6, minutes=60) for number in range(PARTITIONS)}
    for low, high in ((0, 3), (3, 3), (3, 4)):
        feed.logs = {number: log[len(log) * low // 4 : len(log) * high // 4] for number, log in logs.items()}
        feed.send(1)
        with feed.member(f"once{low}", "--once") as member:
            assert member.wait(120) == 0, member.log()
    expected = {number: undisturbed(log, Rules(expire_ms=EXPIRE_M * 60_000)) for number, log in logs.items()}
    assert differences(feed.values(), expected) == []
    consumer = KafkaConsumer(bootstrap_servers=feed.kafka, group_id=f"{feed.prefix}-latest", enable_auto_commit=False)
    for number in range(PARTITIONS):
        tp = TopicPartition(feed.topics.forecasts, number)
        assert consumer.committed(tp) == consumer.end_offsets([tp])[tp]
    consumer.close()
