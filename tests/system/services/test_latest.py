"""`pathcast latest` against a real Kafka: its topic's newest values, its metrics, and how it goes on after a kill."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import bus_feed
import pytest
import services_rig
from dead_members import bury
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from pathcast_process import COMMAND, environment, eventually, pathcast
from services_rig import forecast, undisturbed
from worker_process import Worker

from stream.kafka import admin
from stream.services.latest.unit import LatestRules
from stream.up.embedded import free_port
from stream.wire import Record, Topics
from stream.wire.latest import loads_latest

PARTITIONS = 3
EXPIRE_M = 45
T0 = 1_700_000_000_000


class Feed:
    """Made-up forecasts and gap fills in topics of their own."""

    def __init__(self, kafka: str, prefix: str, folder: Path) -> None:
        self.kafka, self.topics, self.folder, self.prefix = kafka, Topics.of(prefix), folder, prefix
        self.logs: dict[int, list[Record]] = {}
        with admin.connect(kafka) as client:
            admin.create(client, self.topics, partitions=PARTITIONS)

    def send(self) -> None:
        """Sends all. Records are published now: so no ping is ahead, and no partition is quiet for long."""
        names = {
            services_rig.TOPICS.forecasts: self.topics.forecasts,
            services_rig.TOPICS.gapfills: self.topics.gapfills,
        }
        producer = KafkaProducer(bootstrap_servers=self.kafka)
        for number, log in self.logs.items():
            for one in log:
                producer.send(names[one.topic], partition=number, key=b"e", value=one.value)
        producer.flush()
        producer.close()

    def member(self, name: str, *more: str, **env: str) -> Worker:
        options = (
            "beside",
            "latest",
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
            self.folder / f"{name}.log", program=COMMAND, command=(*options, *more), environment=environment(**env)
        )

    def values(self) -> dict[int, dict[str, bytes]]:
        """What a subscriber that reads committed records finds, by partition and key."""
        found: dict[int, dict[str, bytes]] = {number: {} for number in range(PARTITIONS)}
        for one in bus_feed.read(self.kafka, self.topics.latest, isolation_level="read_committed"):
            key = (one.key or b"").decode()
            found[one.partition].pop(key, None)
            if one.value is not None:
                found[one.partition][key] = one.value
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


def test_tombstones_topic_and_metrics_are_as_stated(feed: Feed) -> None:
    hour = 3_600_000
    ends, stays = forecast("ends", T0, 0), [forecast(name, T0 + 2 * hour, 1) for name in ("b", "c")]
    logs = [services_rig.record(services_rig.TOPICS.forecasts, 0, raw) for raw in (ends, *stays)]
    feed.logs = {0: logs[:1]}
    feed.send()
    port = free_port()
    with feed.member("run", "--metrics", str(port)) as member:
        assert eventually(lambda: "ends" in _values_if_there(feed)), member.log()
        feed.logs = {0: logs[1:]}
        feed.send()
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
    with admin.connect(feed.kafka) as client:
        asked = ConfigResource(ConfigResourceType.TOPIC, feed.topics.latest, {"cleanup.policy": None})
        described = client.describe_configs([asked], config_filter="all")["topic"][feed.topics.latest]
    assert described["cleanup.policy"]["value"] == "compact"
    shown = json.loads(pathcast("dev", "topics", "--json", "--bootstrap", feed.kafka, "--prefix", feed.prefix).stdout)
    assert {one["name"]: one["partitions"] for one in shown}[feed.topics.latest] == PARTITIONS


def _values_if_there(feed: Feed) -> dict[str, bytes]:
    consumer = KafkaConsumer(bootstrap_servers=feed.kafka)
    there = consumer.partitions_for_topic(feed.topics.latest)
    consumer.close()
    return feed.values()[0] if there else {}


@pytest.mark.usefixtures("apache_kafka")
def test_once_goes_up_to_the_present_end_and_again_goes_on_from_there_also_after_a_kill(feed: Feed) -> None:
    """What can happen to a member is tested in tests/system/members; here it takes its own values over."""
    logs = {number: services_rig.logs(number + 7, entities=12) for number in range(PARTITIONS)}
    for low, high, point in ((0, 2, ""), (2, 2, ""), (2, 3, "before_end:2"), (3, 4, "")):
        feed.logs = {number: log[len(log) * low // 4 : len(log) * high // 4] for number, log in logs.items()}
        feed.send()
        with feed.member(f"from{low}to{high}", "--once", PATHCAST_KILL_POINT=point) as member:
            assert member.wait() == (-signal.SIGKILL if point else 0), member.log()
        bury(feed.kafka, f"{feed.prefix}-latest")
    expected = {number: undisturbed(log, LatestRules(expire_ms=EXPIRE_M * 60_000)) for number, log in logs.items()}
    assert min(map(len, expected.values())) > 5
    assert differences(feed.values(), expected) == []
    consumer = KafkaConsumer(bootstrap_servers=feed.kafka, group_id=f"{feed.prefix}-latest", enable_auto_commit=False)
    for number in range(PARTITIONS):
        tp = TopicPartition(feed.topics.forecasts, number)
        assert consumer.committed(tp) == consumer.end_offsets([tp])[tp]
    consumer.close()
