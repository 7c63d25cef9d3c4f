"""Topics are created with the numbers that the broker is configured with, unless others are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_here import Refusal, assert_refused
from kafka import KafkaAdminClient
from missing_servers import skip_unless_required
from worker_process import Worker

from stream.bench.harness import servers
from stream.kafka import admin
from stream.wire import MAX_DEAD_LETTER_BYTES, Topics


@pytest.fixture(scope="module")
def set_up(say: Callable[[str], None]) -> Iterator[str]:
    """A broker of one node whose topics have three partitions, and which would have two replicas of each."""
    try:
        with servers.apache_kafka(say, more="num.partitions=3\ndefault.replication.factor=2\n") as bootstrap:
            yield bootstrap
    except servers.Unavailable as reason:
        skip_unless_required(reason)


def test_partitions_are_the_brokers_unless_given(set_up: str) -> None:
    with admin.connected(set_up) as client:
        created = admin.create(client, names := Topics.of("a"), replication=1)
        assert [(topic.name, topic.partitions, topic.replication) for topic in created] == [
            (name, 3, 1) for name in names
        ]
        assert admin.create(client, names, replication=1) == [], "it says what it created, and not what is there"
        assert {topic.partitions for topic in admin.create(client, Topics.of("b"), partitions=5, replication=1)} == {5}
        assert admin.largest_batches(client, [names.dead_letters]) == {names.dead_letters: MAX_DEAD_LETTER_BYTES}


def test_replicas_are_the_brokers_unless_given(set_up: str) -> None:
    """With a replication of 1 of our own, this broker would create them."""
    says = "the broker does not create c.pings.v1 ( ... are --partitions and --replication right for it?"
    assert_refused(Refusal("dev topics --create --bootstrap {kafka} --prefix c", 1, says), {"kafka": set_up})
    with admin.connected(set_up) as client:
        assert admin.absent(client, Topics.of("c")) == list(Topics.of("c"))


def test_the_first_group_of_a_broker_starts_without_an_error(
    set_up: str, redis_url: str, weights: Path, tmp_path: Path
) -> None:
    """A broker without groups first has to create their topic, of which the consumer made an error."""
    with Worker(
        tmp_path / "log", bootstrap=set_up, redis=redis_url, weights=weights, prefix="d", replication=1
    ) as worker:
        worker.wait_until_ready()
        assert worker.stop() == 0, worker.log()
        lines = worker.log().splitlines()
    assert {line.split()[1] for line in lines} == {"INFO"}, lines
    assert "(partitions: 3, replication: 1); without --partitions the broker's defaults count" in worker.log()


def test_a_broker_without_defaults_gets_1_and_it_is_said(
    kafka: str, topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As if it were Kafka 2.3, whose CreateTopics has no default."""
    client = KafkaAdminClient(bootstrap_servers=kafka, api_version=(2, 3))
    try:
        created = admin.create(client, Topics.of(topic_prefix), partitions=2)
    finally:
        client.close()
    assert {(topic.partitions, topic.replication) for topic in created} == {(2, 1)}
    assert "older than Kafka 2.4" in caplog.text
