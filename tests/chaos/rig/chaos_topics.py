"""Does to a topic what an operator or a fault does: it makes the topic anew, adds partitions, or cuts its log on disk.
It knows topics and the brokers' files, and no worker."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from chaos_kafka import NUMBERS, Cluster
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from mortal_kafka import cut_log

from stream.kafka import admin

PATIENCE_S: Final = 120.0


def ends(cluster: Cluster, topic: str) -> dict[int, int]:
    """The end of each partition's log."""
    consumer = KafkaConsumer(bootstrap_servers=cluster.direct)
    try:
        tps = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        return {tp.partition: end for tp, end in consumer.end_offsets(tps).items()}
    finally:
        consumer.close()


def make_anew(cluster: Cluster, topic: str, **options: Any) -> None:
    """Delete the topic and create it, with these options of kafka-python; ready when each partition has a leader."""
    with admin.connect(cluster.direct, timeout_s=30.0) as client:
        client.delete_topics([topic])
    _create(cluster, topic, options)
    cluster.wait_until_whole()


def _create(cluster: Cluster, topic: str, options: Mapping[str, Any]) -> None:
    """As soon as the old one is gone from the brokers' metadata."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with admin.connect(cluster.direct, timeout_s=30.0) as client:
                client.create_topics({topic: dict(options)}, wait_for_metadata=True)
            return
        except KafkaError:
            assert time.monotonic() < deadline, f"{topic} could not be created in {PATIENCE_S:.0f} s"
            time.sleep(0.2)


def add_partitions(cluster: Cluster, topic: str, total: int) -> None:
    with admin.connect(cluster.direct, timeout_s=30.0) as client:
        client.create_partitions({topic: total})
    cluster.wait_until_whole()


def cut_logs(cluster: Cluster, topic: str, partition: int) -> None:
    """Half of what each replica has of the partition is gone. The brokers must be dead."""
    for number in NUMBERS:
        cut_log(cluster.data(number), topic, partition)
