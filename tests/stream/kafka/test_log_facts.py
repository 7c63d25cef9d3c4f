"""The two requests that aiokafka lacks, byte for byte against kafka-python, which has its own from Kafka's schemas."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import LeaderNotAvailableError, UnknownTopicOrPartitionError
from kafka.protocol.consumer import OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse
from kafka.protocol.metadata import MetadataRequest, MetadataResponse

from stream.kafka import log_facts
from stream.kafka.log import Log

TP = TopicPartition("pathcast.pings.v1", 3)
ID = uuid.UUID("5f0e8d6a-1111-4222-8333-944445555666")
VERSIONS = {3: (0, 13), 23: (2, 4)}  # of Apache Kafka 4.1


class Broker:
    """aiokafka's client and consumer, with a broker that reads and answers by kafka-python."""

    def __init__(self, versions: dict[int, tuple[int, int]], *, epoch_end: int = 70, error: int = 0) -> None:
        self._client = self
        self.cluster = SimpleNamespace(leader_for_partition=lambda tp: 1)
        self.versions, self.epoch_end, self.error = versions, epoch_end, error
        self.asked: list[Any] = []

    async def force_metadata_update(self) -> None: ...

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 5)

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 90)

    async def send(self, node: int, request: Any) -> Any:
        struct = request.prepare(self.versions)
        raw, theirs = struct.encode(), self._metadata if struct.API_KEY == 3 else self._epoch_end
        return struct.RESPONSE_TYPE.decode(bytes(theirs(bytes(raw))))

    def _metadata(self, raw: bytes) -> bytes:
        self.asked.append(MetadataRequest.decode(raw, version=10))
        topic = MetadataResponse.MetadataResponseTopic
        part = topic.MetadataResponsePartition(
            error_code=0, partition_index=3, leader_id=1, leader_epoch=4, replica_nodes=[1, 2], isr_nodes=[1]
        )
        broker = MetadataResponse.MetadataResponseBroker(node_id=1, host="kafka", port=9092, rack=None)
        told = topic(error_code=self.error, name=TP.topic, topic_id=ID, is_internal=False, partitions=[part])
        response = MetadataResponse(brokers=[broker], cluster_id="cluster", controller_id=1, topics=[told])
        return bytes(response.encode(version=10))

    def _epoch_end(self, raw: bytes) -> bytes:
        self.asked.append(OffsetForLeaderEpochRequest.decode(raw, version=2))
        topic = OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult
        epoch = -1 if self.epoch_end < 0 else 4
        part = topic.EpochEndOffset(error_code=0, partition=3, leader_epoch=epoch, end_offset=self.epoch_end)
        response = OffsetForLeaderEpochResponse(topics=[topic(topic=TP.topic, partitions=[part])])
        return bytes(response.encode(version=2))


async def test_a_broker_understands_both_requests_and_is_understood() -> None:
    broker = Broker(VERSIONS)
    assert await log_facts.ask(broker, TP, 4) == Log(5, 90, ID.hex, 70, 4, 4)
    metadata, epoch_end = broker.asked
    assert [topic.name for topic in metadata.topics] == [TP.topic]
    assert not metadata.allow_auto_topic_creation
    ((topic,),) = (epoch_end.topics,)
    (part,) = topic.partitions
    assert (topic.topic, part.partition, part.current_leader_epoch, part.leader_epoch) == (TP.topic, 3, -1, 4)


async def test_who_has_read_nothing_asks_for_no_epoch_and_an_unknown_epoch_has_no_end() -> None:
    broker = Broker(VERSIONS)
    assert await log_facts.ask(broker, TP, -1) == Log(5, 90, ID.hex, leader_epoch=4)
    assert len(broker.asked) == 1
    assert await log_facts.ask(Broker(VERSIONS, epoch_end=-1), TP, 9) == Log(5, 90, ID.hex, leader_epoch=4)


@pytest.mark.parametrize("versions", [{}, {3: (0, 9), 23: (0, 1)}], ids=["other make", "too old"])
async def test_a_broker_that_knows_neither_still_tells_its_bounds(versions: dict[int, tuple[int, int]]) -> None:
    assert await log_facts.ask(Broker(versions), TP, 4) == Log(5, 90)


async def test_an_error_is_raised_and_one_without_a_leader_may_be_tried_again() -> None:
    with pytest.raises(UnknownTopicOrPartitionError):
        await log_facts.ask(Broker(VERSIONS, error=3), TP, 4)
    broker = Broker(VERSIONS)
    broker.cluster = SimpleNamespace(leader_for_partition=lambda tp: -1)
    with pytest.raises(LeaderNotAvailableError) as raised:
        await log_facts.ask(broker, TP, 4)
    assert raised.value.retriable


async def test_the_id_alone_is_asked_for_too() -> None:
    assert await log_facts.ask_id(Broker(VERSIONS), TP.topic) == ID.hex
    assert await log_facts.ask_id(Broker({3: (0, 9)}), TP.topic) == ""
    with pytest.raises(UnknownTopicOrPartitionError):
        await log_facts.ask_id(Broker(VERSIONS, error=3), TP.topic)
