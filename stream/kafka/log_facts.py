"""Asks brokers about a partition's log: its bounds, the id of its topic, and where the records of a leader epoch end.

It contains the two requests that aiokafka's client lacks. What the answers mean, `stream.kafka.log` and
`stream.delivery.ownership.takeover` decide.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IncompatibleBrokerVersion, LeaderNotAvailableError, NoError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

from stream.kafka.log import Log

T = TypeVar("T")

UNDEFINED: Final = -1  # a broker's answer for an epoch that it does not know
_NO_ID: Final = bytes(16)


class _Id(AbstractType[bytes]):  # type: ignore[misc]
    """A UUID of 16 bytes. All zeros mean that there is none."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


class _EpochEndResponse(Response):  # type: ignore[misc]
    API_KEY = 23
    API_VERSION = 2
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(("error_code", Int16), ("partition", Int32), ("leader_epoch", Int32), ("end_offset", Int64)),
                ),
            ),
        ),
    )


class _EpochEndStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 23
    API_VERSION = 2
    RESPONSE_TYPE = _EpochEndResponse
    SCHEMA = Schema(
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                ("partitions", Array(("partition", Int32), ("current_leader_epoch", Int32), ("leader_epoch", Int32))),
            ),
        ),
    )


class _EpochEndRequest(Request[_EpochEndStruct]):  # type: ignore[misc]
    """The request OffsetForLeaderEpoch."""

    API_KEY = 23

    def __init__(self, tp: TopicPartition, leader_epoch: int) -> None:
        # The current epoch is undefined, as aiokafka does not know it.
        self._topics = [(tp.topic, [(tp.partition, UNDEFINED, leader_epoch)])]

    def build(self, request_struct_class: type[_EpochEndStruct]) -> _EpochEndStruct:
        return request_struct_class(self._topics)


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Id),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataStruct(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Id), ("name", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataStruct]):  # type: ignore[misc]
    """The request Metadata, in the first version that has the ids of topics."""

    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_MetadataStruct]) -> _MetadataStruct:
        return request_struct_class([(_NO_ID, self._topic, {})], False, False, False, {})


async def ask(consumer: AIOKafkaConsumer, tp: TopicPartition, leader_epoch: int) -> Log:
    """Returns the brokers' present answers. `leader_epoch` is that of the last record read, -1 if it is unknown.

    Raises KafkaError; it is retriable while the partition has no leader.
    """
    await consumer._client.force_metadata_update()  # a former leader would describe an old log
    begin, end = await consumer.beginning_offsets([tp]), await consumer.end_offsets([tp])
    topic_id, now_epoch = await _if_known(_topic, consumer._client, tp) or ("", UNDEFINED)
    kept = None if leader_epoch == UNDEFINED else await _if_known(_epoch_end, consumer._client, tp, leader_epoch)
    if kept is None or kept[1] == UNDEFINED:
        return Log(begin[tp], end[tp], topic_id, leader_epoch=now_epoch)
    return Log(begin[tp], end[tp], topic_id, kept[1], kept[0], now_epoch)


async def ask_id(consumer: AIOKafkaConsumer, topic: str) -> str:
    """Returns the id of a topic, by which brokers tell it from one of the same name that was deleted; empty if these
    brokers have none.

    `consumer` must have asked for something of the topic before. Raises KafkaError; it is retriable while the topic is
    away.
    """
    topic_id, _ = await _if_known(_topic, consumer._client, TopicPartition(topic, 0)) or ("", UNDEFINED)
    return topic_id


async def _if_known(ask: Callable[..., Awaitable[T]], *what: Any) -> T | None:
    """Returns the answer; None if the broker is too old for the question, or is not Apache Kafka and lacks it."""
    try:
        return await ask(*what)
    except (IncompatibleBrokerVersion, NotImplementedError):
        return None


async def _topic(client: Any, tp: TopicPartition) -> tuple[str, int]:
    """Returns the topic's id, and the epoch of the partition's leader."""
    response = await client.send(_leader(client, tp), _MetadataRequest(tp.topic))
    ((code, _, topic_id, _, partitions, *_),) = response.topics
    _raise_for(code, tp)
    epochs = {number: epoch for _, number, _, epoch, *_ in partitions}
    return "" if topic_id == _NO_ID else uuid.UUID(bytes=topic_id).hex, epochs.get(tp.partition, UNDEFINED)


async def _epoch_end(client: Any, tp: TopicPartition, leader_epoch: int) -> tuple[int, int]:
    """Returns the log's last epoch that is at most `leader_epoch`, and the offset after its last record."""
    response = await client.send(_leader(client, tp), _EpochEndRequest(tp, leader_epoch))
    ((_, ((code, _, epoch, end),)),) = response.topics
    _raise_for(code, tp)
    return epoch, end


def _leader(client: Any, tp: TopicPartition) -> int:
    node = client.cluster.leader_for_partition(tp)
    if node is None or node == -1:
        raise LeaderNotAvailableError(tp)
    return int(node)


def _raise_for(code: int, tp: TopicPartition) -> None:
    error = for_code(code)
    if error is not NoError:
        raise error(tp)
