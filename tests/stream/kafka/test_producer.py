"""Where the answers of a batch go, whole pages and single records. What a broker makes of them is in tests/system."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    CoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    RequestTimedOutError,
    UnknownError,
)
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from stream.kafka import producer
from stream.kafka.producer import Publisher
from stream.kafka.records.columns import BytesColumn
from stream.kafka.records.encoded_batches import Answers, Column, EncodedBatch, encode_batches
from stream.kafka.records.record_columns import headers_as_sent
from stream.wire import Outgoing, Record


class Producer:
    """aiokafka's, as far as a Publisher sees it: topics of three partitions, and room for few bytes in a batch."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, bytes | None]] = []
        self.fail_at = -1

    async def partitions_for(self, topic: str) -> set[int]:
        return {0, 1, 2}

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(120, 0)

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[None]:
        acknowledged = asyncio.get_running_loop().create_future()
        if len(self.sent) == self.fail_at:
            acknowledged.set_exception(KafkaError("refused"))
        else:
            acknowledged.set_result(None)
        read = MemoryRecords(bytes(batch._build())).next_batch()
        self.sent += [(topic, partition, one.value) for one in read]
        return acknowledged


def page(source: tuple[str, int], *values: bytes) -> EncodedBatch:
    many = len(values)
    texts, head = BytesColumn.of(values), BytesColumn.of([headers_as_sent((), more=1)]).at(np.zeros(many, np.int64))
    ((_, body),) = encode_batches(texts, texts, head, Column("ce_id", texts), np.arange(many) == 0)
    return EncodedBatch("forecasts", source, np.arange(many), body)


def single(number: int, value: bytes) -> Outgoing:
    return Outgoing("fills", b"bus", value, (), Record("pings", number, 0, 0, b"bus", b"{}"))


ANSWERS = Answers(
    pages=[page(("pings", 1), b"a", b"b"), page(("pings", 5), b"c")],
    others=[(0, single(4, b"d" * 40)), (1, single(4, b"e" * 40)), (2, single(0, b"f"))],
)


async def published(answers: Answers, by: Producer) -> list[tuple[str, int, bytes | None]]:
    publisher: Any = Publisher("127.0.0.1:1")
    await publisher._producer.stop()
    publisher._producer = by
    await publisher.publish(answers)
    return by.sent


async def test_every_record_goes_to_the_partition_that_its_input_came_from() -> None:
    """Counted on from the first, where the output has fewer: an entity's answers lie in one partition, in order."""
    assert await published(ANSWERS, Producer()) == [
        *[("forecasts", 1, b"a"), ("forecasts", 1, b"b"), ("forecasts", 2, b"c")],
        *[("fills", 1, b"d" * 40), ("fills", 1, b"e" * 40), ("fills", 0, b"f")],
    ]


async def test_one_batch_that_is_refused_is_told_when_nothing_is_in_flight_any_more() -> None:
    theirs = Producer()
    theirs.fail_at = 0
    with pytest.raises(KafkaError, match="refused"):
        await published(ANSWERS, theirs)
    assert len(theirs.sent) == 6


@pytest.mark.parametrize(
    ("met", "told"),
    [(KafkaConnectionError("the connection is closed"), KafkaConnectionError), (UnknownError(), KafkaError)],
)
async def test_a_connection_that_breaks_while_the_coordinator_is_looked_for_is_told_as_one(
    met: KafkaError, told: type[KafkaError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka packs it into an error that is never retriable: a worker that took a partition over ended with that."""

    async def look_up(client: AIOKafkaClient, kind: int, key: str) -> int:
        raise met

    async def bootstrap(client: AIOKafkaClient) -> None:
        """Connects to nobody."""

    monkeypatch.setattr(AIOKafkaClient, "bootstrap", bootstrap)
    monkeypatch.setattr(AIOKafkaClient, "coordinator_lookup", look_up)
    publisher = Publisher("127.0.0.1:1", "group|pings|0")
    with pytest.raises(KafkaError) as raised:
        await publisher.start()
    await publisher.close()
    assert (type(raised.value), raised.value.retriable) == (told, told is KafkaConnectionError)
    packed = raised.value.__context__
    assert packed is None or packed.__cause__ is not raised.value, "each is the reason of the other"


async def test_a_start_that_comes_to_no_end_is_given_up_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    """A takeover once stood still for two minutes, after a broker had died, and nothing said for what it waited."""

    async def bootstrap(client: AIOKafkaClient) -> None:
        """Connects to nobody."""

    async def look_up(client: AIOKafkaClient, kind: int, key: str) -> int:
        raise CoordinatorNotAvailableError  # aiokafka asks again

    async def update(client: AIOKafkaClient) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(AIOKafkaClient, "bootstrap", bootstrap)
    monkeypatch.setattr(AIOKafkaClient, "coordinator_lookup", look_up)
    monkeypatch.setattr(AIOKafkaClient, "force_metadata_update", update)
    monkeypatch.setattr(producer, "START_S", 0.2)
    publisher = Publisher("127.0.0.1:1", "group|pings|0")
    with pytest.raises(RequestTimedOutError, match=r"no producer's id after 0\.2 s") as raised:
        await publisher.start()
    await publisher.close()
    assert raised.value.retriable
