"""The sink and its outbox, with a producer of the test's own in place of aiokafka's: what leaves when, and what is said
when brokers do not answer. tests/system/ingest/test_sink_kafka_away.py has a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAuthorizationFailedError

from stream.adapters.live.parsed import Skip, reject
from stream.config.security import Refused
from stream.ingest.publishing import outbox
from stream.ingest.publishing.outbox import MAX_WAITING, Outbox, OutgoingRecord
from stream.ingest.publishing.sink import Sink, Unavailable
from stream.kafka.partitioner import hashed
from stream.wire import ERROR_HEADER_PREFIX, Ping, Topics

TOPICS = Topics.of("t")
PARTITIONS = 3


class Batch:
    """As aiokafka's BatchBuilder: full after so many records."""

    MOST = 4

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def append(self, *, timestamp: int | None, **record: Any) -> object | None:
        if len(self.records) == self.MOST:
            return None
        self.records.append(record)
        return object()


class Broker:
    """What producers have sent, and whether it answers."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, int, Batch]] = []
        self.silent = False  # it takes batches and says nothing
        self.away = False  # it cannot be connected to
        self.error: KafkaError | None = None
        self.open: set[Producer] = set()
        self.unanswered: list[asyncio.Future[None]] = []

    def answer(self) -> None:
        self.silent = False
        for one in self.unanswered:
            if not one.done():
                one.set_result(None)
        self.unanswered.clear()

    @property
    def keys(self) -> list[bytes | None]:
        return [one["key"] for _, _, batch in self.batches for one in batch.records]


class Producer:
    """As AIOKafkaProducer, as far as the outbox uses it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._message_accumulator = self
        self.client = self

    async def start(self) -> None:
        if self._broker.away:
            raise KafkaConnectionError("nobody there")
        self._broker.open.add(self)

    async def stop(self) -> None:
        self._broker.open.discard(self)

    async def close(self) -> None:
        pass

    def fail_all(self, error: Exception) -> None:
        pass

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range(PARTITIONS))

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._broker.error is not None:
            done.set_exception(self._broker.error)
        elif self._broker.silent:
            self._broker.unanswered.append(done)
        else:
            done.set_result(None)
        self._broker.batches.append((topic, partition, batch))
        return done


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    found = Broker()
    monkeypatch.setattr(outbox, "AIOKafkaProducer", lambda **_: Producer(found))
    monkeypatch.setattr(outbox, "RETRY_S", 0.01)
    return found


@asynccontextmanager
async def opened(ack_s: float = 30.0) -> AsyncIterator[Outbox]:
    box = Outbox("kafka:9092", TOPICS[:1], ack_s=ack_s)
    await box.start()
    try:
        yield box
    finally:
        await box.close()


def items(*keys: str) -> list[OutgoingRecord]:
    return [OutgoingRecord(TOPICS.pings, key.encode(), b"{}") for key in keys]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_put_returns_when_all_are_acknowledged_and_not_before(broker: Broker) -> None:
    broker.silent = True
    async with opened() as box:
        putting = asyncio.create_task(box.put(items("a", "b", "c")))
        await settle()
        assert not putting.done()
        assert (box.waiting, sorted(filter(None, broker.keys))) == (3, [b"a", b"b", b"c"])
        broker.answer()
        await putting
        assert box.waiting == 0


async def test_what_comes_while_a_round_is_on_its_way_leaves_together_and_in_order(broker: Broker) -> None:
    broker.silent = True
    async with opened() as box:
        putting = [asyncio.create_task(box.put(items("a")))]
        await settle()
        putting += [
            asyncio.create_task(box.put([OutgoingRecord(TOPICS.pings, b"a", str(n).encode())])) for n in range(10)
        ]
        await settle()
        assert len(broker.batches) == 1
        broker.answer()
        await asyncio.gather(*putting)
        later = broker.batches[1:]
    assert [len(batch.records) for _, _, batch in later] == [4, 4, 2], "one partition, in batches that are full"
    assert [int(one["value"]) for _, _, batch in later for one in batch.records] == list(range(10))


async def test_a_key_goes_to_the_partition_to_which_kafkas_clients_send_it(broker: Broker) -> None:
    # murmur2 of Kafka's own tests (UtilsTest.testMurmur2): -973932308 of "21", -790332482 of "foobar".
    assert hashed(b"21") == -973932308 & 0x7FFFFFFF
    assert hashed(b"foobar") == -790332482 & 0x7FFFFFFF
    async with opened() as box:
        await box.put(items("21", "foobar"))
    assert {one["key"]: partition for _, partition, batch in broker.batches for one in batch.records} == {
        b"21": (-973932308 & 0x7FFFFFFF) % PARTITIONS,
        b"foobar": (-790332482 & 0x7FFFFFFF) % PARTITIONS,
    }


async def test_a_silent_broker_is_away_after_a_time_and_then_nothing_is_taken_at_once(broker: Broker) -> None:
    async with opened(ack_s=0.05) as box:
        broker.silent = broker.away = True
        first = asyncio.create_task(box.put(items("a")))
        await settle()
        second = asyncio.create_task(box.put(items("b")))  # gathers for a round that never leaves
        for one in (first, second):
            with pytest.raises(Unavailable, match="Kafka at kafka:9092 takes no records"):
                await one
        assert not box.is_available
        with pytest.raises(Unavailable):
            await box.put(items("c"))
        assert broker.keys == [b"a"]
        assert box.waiting == 0
        waiting = asyncio.create_task(box.wait_until_available())
        await asyncio.sleep(0.03)
        assert not waiting.done()
        broker.silent = broker.away = False
        await waiting
        await box.put(items("d"))
        assert broker.keys == [b"a", b"d"]
        assert len(broker.open) == 1, "the producer of before is closed"
    assert not broker.open


async def test_a_broker_that_denies_access_is_not_waited_for_by_those_who_asked(broker: Broker) -> None:
    async with opened() as box:
        broker.error = TopicAuthorizationFailedError("t.pings.v1")
        with pytest.raises(Refused, match="does not let us"):
            await box.put(items("a"))
        broker.error = None
        await box.wait_until_available()
        await box.put(items("b"))


async def test_more_than_may_wait_is_refused_at_once_and_room_is_waited_for(broker: Broker) -> None:
    broker.silent = True
    async with opened() as box:
        much = asyncio.create_task(box.put(items(*(["a"] * MAX_WAITING))))
        await settle()
        assert box.is_available, "just as many as may wait"
        with pytest.raises(Unavailable, match="20,000 records wait for Kafka already"):
            await box.put(items("b"))
        broker.answer()
        await much
        await box.put(items("b"))


async def test_values_may_wait_up_to_a_size(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING_BYTES", 100)
    broker.silent = True
    async with opened() as box:
        large = asyncio.create_task(box.put([OutgoingRecord(TOPICS.pings, b"a", bytes(101))]))  # alone it may be larger
        await settle()
        assert not box.is_available
        with pytest.raises(Unavailable):
            await box.put(items("b"))
        waiting = asyncio.create_task(box.wait_until_available())
        await settle()
        assert not waiting.done()
        broker.answer()
        await asyncio.gather(large, waiting)


async def test_closing_tells_those_who_wait_that_nothing_was_taken(broker: Broker) -> None:
    broker.silent = True
    async with opened() as box:
        on_its_way = asyncio.create_task(box.put(items("a")))
        await settle()
        gathering = asyncio.create_task(box.put(items("b")))
        await settle()
    for one in (on_its_way, gathering):
        with pytest.raises(Unavailable, match="this process ends"):
            await one


async def test_a_caller_that_gives_up_disturbs_no_other(broker: Broker) -> None:
    broker.silent = True
    async with opened() as box:
        putting = [asyncio.create_task(box.put(items(name))) for name in "ab"]
        await settle()
        putting[0].cancel()
        await settle()
        assert box.waiting == 1
        broker.answer()
        await putting[1]


async def taken_by_a_sink(parsed: Sequence[Any], raw: bytes, limit_bytes: int | None = None) -> Sink:
    sink = Sink("kafka:9092", TOPICS, "owntracks")
    if limit_bytes is not None:
        sink._letter_bytes = limit_bytes
    await sink._outbox.start()
    await sink.take(parsed, raw, "mqtt:owntracks/jo/pixel")
    await sink._outbox.close()
    return sink


async def test_pings_are_keyed_by_entity_rejects_become_letters_and_skips_are_counted(broker: Broker) -> None:
    ping = Ping(entity_id="jo/pixel", ts=1_764_489_600_000, lat=48.8, lon=2.3)
    sink = await taken_by_a_sink([ping, reject("null_island", "no fix"), Skip("lwt")], b"as it came")
    by_topic = {topic: batch.records for topic, _, batch in broker.batches}
    (record,), (letter,) = by_topic[TOPICS.pings], by_topic[TOPICS.dead_letters]
    assert (record["key"], record["value"]) == (
        b"jo/pixel",
        b'{"entity_id":"jo/pixel","ts":1764489600000,"lat":48.8,"lon":2.3}',
    )
    assert (letter["key"], letter["value"]) == (None, b"as it came")
    told = {name.removeprefix(ERROR_HEADER_PREFIX): value.decode() for name, value in letter["headers"]}
    assert told["topic"] == "mqtt:owntracks/jo/pixel"
    assert (told["adapter"], told["stage"], told["code"]) == ("owntracks", "adapter", "null_island")
    assert (sink.taken.pings, sink.taken.rejects["null_island"], sink.taken.skips["lwt"]) == (1, 1, 1)


async def test_a_letter_that_its_topic_would_refuse_goes_without_the_message(broker: Broker) -> None:
    await taken_by_a_sink([reject("too_large", "x")], bytes(50_000), limit_bytes=50_000)
    ((_, _, batch),) = broker.batches
    assert batch.records[0]["value"] is None
    assert dict(batch.records[0]["headers"])[f"{ERROR_HEADER_PREFIX}omitted"] == b"50000"


async def test_only_skips_need_no_kafka(broker: Broker) -> None:
    sink = Sink("kafka:9092", TOPICS, "owntracks")
    await sink.take([Skip("lwt")], b"", "test")
    assert sink.taken.skips["lwt"] == 1
