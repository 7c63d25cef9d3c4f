"""`pathcast beside avro` with a real Kafka and a real schema registry, read by Confluent's own deserializer."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bus_feed
import msgspec
import pytest
import schema_registry
import services_rig
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from dead_members import bury
from kafka import KafkaProducer
from missing_servers import skip_unless_required
from pathcast_process import COMMAND, environment
from worker_process import Worker

from stream.bench.harness.servers import Unavailable
from stream.contracts.avro_schema import avro_schema
from stream.contracts.catalog import contract
from stream.kafka import admin
from stream.services.avro.cli import avro_topic
from stream.services.avro.registry import SchemaRegistry
from stream.wire import Record, Topics
from stream.wire.ids import EVENT_ID, event_headers

PARTITIONS = 2


@pytest.fixture(scope="module")
def registry(say: Callable[[str], None]) -> Iterator[str]:
    try:
        with schema_registry.running(say) as url:
            yield url
    except Unavailable as reason:
        skip_unless_required(reason)


class Feed:
    def __init__(self, kafka: str, prefix: str, registry: str, folder: Path) -> None:
        self.kafka, self.topics, self.prefix = kafka, Topics.of(prefix), prefix
        self.registry, self.folder = registry, folder
        self.inputs = {
            services_rig.TOPICS.forecasts: self.topics.forecasts,
            services_rig.TOPICS.gapfills: self.topics.gapfills,
        }
        with admin.connected(kafka) as client:
            admin.create(client, self.topics, partitions=PARTITIONS)

    def send(self, logs: dict[int, list[Record]]) -> None:
        producer = KafkaProducer(bootstrap_servers=self.kafka)
        for number, log in logs.items():
            for one in log:
                headers = [*event_headers("forecast", "t", number), (EVENT_ID, b"id")]
                producer.send(self.inputs[one.topic], partition=number, key=b"e", value=one.value, headers=headers)
        producer.flush()
        producer.close()

    def member(self, name: str, *more: str, **env: str) -> Worker:
        servers = ("--bootstrap", self.kafka, "--prefix", self.prefix, "--schema-registry", self.registry)
        command = ("beside", "avro", *servers, *more)
        return Worker(self.folder / f"{name}.log", program=COMMAND, command=command, environment=environment(**env))

    def read(self, topic: str) -> dict[int, list[Any]]:
        """The records as a consumer of the registry reads them, by partition."""
        deserialize = AvroDeserializer(SchemaRegistryClient({"url": self.registry}))
        found: dict[int, list[Any]] = {number: [] for number in range(PARTITIONS)}
        context = SerializationContext(avro_topic(topic), MessageField.VALUE)
        for one in bus_feed.read(self.kafka, avro_topic(topic), isolation_level="read_committed"):
            assert one.key == b"e"
            assert dict(one.headers)["content-type"] == b"application/avro"
            assert dict(one.headers)["ce_type"] == b"pathcast.forecast.v1"
            found[one.partition].append(deserialize(one.value, context))
        return found


@pytest.fixture
def feed(kafka: str, topic_prefix: str, registry: str, tmp_path: Path) -> Feed:
    return Feed(kafka, topic_prefix, registry, tmp_path)


def plain(record: Any) -> Any:
    """A record without what is absent in JSON."""
    if isinstance(record, dict):
        kept = {key: plain(one) for key, one in record.items() if one is not None}
        return {key: one for key, one in kept.items() if (key, one) != ("late", False)}
    return [plain(one) for one in record] if isinstance(record, list) else record


@pytest.mark.usefixtures("apache_kafka")
def test_each_record_comes_exactly_once_and_as_it_was_although_a_member_was_stopped_and_one_killed(feed: Feed) -> None:
    """What can happen to a member is tested in tests/system/members."""
    logs = {number: services_rig.logs(number, entities=8, minutes=200) for number in range(PARTITIONS)}
    for low, high, point in ((0, 2, ""), (2, 3, "before_end:2"), (3, 4, "")):
        feed.send({number: log[len(log) * low // 4 : len(log) * high // 4] for number, log in logs.items()})
        with feed.member(f"from{low}", "--once", PATHCAST_KILL_POINT=point) as member:
            assert member.wait() == (-signal.SIGKILL if point else 0), member.log()
        bury(feed.kafka, f"{feed.prefix}-avro")
    for ours, theirs in feed.inputs.items():
        found = feed.read(theirs)
        for number, log in logs.items():
            expected = [msgspec.json.decode(one.value or b"") for one in log if one.topic == ours]
            assert [plain(one) for one in found[number]] == [plain(one) for one in expected]
            assert len(expected) > 20


def test_schemas_are_registered_once_and_looked_up_where_that_is_wanted(feed: Feed) -> None:
    subject = f"{avro_topic(feed.topics.forecasts)}-value"
    refused = _run(feed, "--no-register", "--no-gapfills")
    assert "has no such schema" in refused.stderr
    assert refused.returncode == 1
    assert _run(feed, "--no-gapfills").returncode == 0
    assert _run(feed, "--no-gapfills", "--no-register").returncode == 0
    client = SchemaRegistryClient({"url": feed.registry})
    assert client.get_versions(subject) == [1]
    assert json.loads(client.get_latest_version(subject).schema.schema_str)["name"] == "Forecast"
    assert f"{avro_topic(feed.topics.gapfills)}-value" not in client.get_subjects()


def test_the_registry_refuses_what_would_break_subscribers(feed: Feed) -> None:
    subject = f"{feed.prefix}-value"
    registry, schema = SchemaRegistry(feed.registry), avro_schema(contract("forecast"))
    registry.register(subject, schema)
    SchemaRegistryClient({"url": feed.registry}).set_compatibility(subject, "FULL_TRANSITIVE")
    new = {"name": "new", "type": ["null", "string"], "default": None}
    registry.register(subject, {**schema, "fields": [*schema["fields"], new]})
    for fields in (
        [one for one in schema["fields"] if one["name"] != "cache"],
        [{**one, "type": "long"} if one["name"] == "entity_id" else one for one in schema["fields"]],
    ):
        with pytest.raises(ValueError, match="refuses the schema"):
            registry.register(subject, {**schema, "fields": fields})


def _run(feed: Feed, *more: str) -> subprocess.CompletedProcess[str]:
    servers = ("--bootstrap", feed.kafka, "--prefix", feed.prefix, "--schema-registry", feed.registry)
    program = [*COMMAND, "beside", "avro", "--once", *servers, *more]
    return subprocess.run(program, capture_output=True, text=True, timeout=240, env=environment(), check=False)
