"""Messages as the driver makes them. What a broker is needed for is in tests/system/worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from faust.types import TP

from stream.config.settings import Settings
from stream.kafka.fetcher import FetchResult
from stream.kafka.log import Rebalanced
from stream.kafka.records.record_columns import Records
from stream.wire import NO_TIME_MS, Record
from stream.worker.app import App, faust_app
from stream.worker.consumer_thread import ConsumerThread
from stream.worker.faust_driver import Consumer, Polled

A, B = TP("pathcast.pings.v1", 0), TP("pathcast.pings.v1", 1)


def raw(tp: TP, *offsets: int, timestamp_ms: int = 1_700_000_000_000) -> Records:
    of = [Record(*tp, offset, timestamp_ms, b"k", b"v%d" % offset, (("h", b"\x00"),)) for offset in offsets]
    return Records.of(of)


class Polling(Consumer):
    """The consumer with a broker that has `records`, and a group that moves on while the consumer waits for them."""

    records: dict[TopicPartition, Records]
    generation_after_poll = 1

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109 - upstream's name
        self.app.consumer_generation_id = self.generation_after_poll
        return self.records, {A, B}


@pytest.fixture
async def consumer() -> AsyncIterator[Polling]:
    app: App = faust_app(Settings(bootstrap="127.0.0.1:1"))
    app.finalize()
    app.consumer_generation_id = 1
    polling = Polling(app.transport, app.topics.on_message, cast(Any, None), cast(Any, None))
    polling.records = {
        TopicPartition(*A): raw(A, 3, 4, 7),
        TopicPartition(*B): raw(B, 9),
    }
    yield polling
    for made in (polling, app._consumer):  # loops of threads that never started: else the collector complains
        if made is not None:
            cast(Any, made)._thread.thread_loop.close()


async def test_a_poll_is_one_message_that_stands_for_the_last_record_of_its_first_partition(consumer: Polling) -> None:
    ((tp, message),) = [polled async for polled in consumer.getmany(1.0)]
    assert tp == A
    polled = cast(Polled, message.value)
    assert {of: [record.offset for record in some] for of, some in polled.records.items()} == {A: [3, 4, 7], B: [9]}
    assert polled.records[A][2] == Record(A.topic, 0, 7, 1_700_000_000_000, b"k", b"v7", (("h", b"\x00"),))
    assert (message.tp, message.offset, message.timestamp) == (A, 7, 1_700_000_000.0)
    assert message.generation_id == 1, "the stream drops a message of no generation"


async def test_a_record_without_a_timestamp_gets_none_of_ours(consumer: Polling) -> None:
    """It once got the time of its poll: another one in a replay, which then took pings that were refused at first."""
    consumer.records = {TopicPartition(*A): raw(A, 0, timestamp_ms=-1)}
    polled = [cast(Polled, message.value) async for _, message in consumer.getmany(1.0)]
    assert polled[0].records[A][0].timestamp_ms == NO_TIME_MS


async def test_records_that_a_poll_brings_after_a_rebalance_are_handed_over(consumer: Polling) -> None:
    """A poll waits while the flow is stopped, so that a rebalance can begin and end inside it. What it brings then is
    of the new generation; the driver once compared that with the generation from before the wait and dropped it, and
    as a group's first records have no committed offset to seek back to, they were lost: 1,017 of 200,000."""
    consumer.generation_after_poll = 2
    messages = [message async for _, message in consumer.getmany(1.0)]
    assert [message.generation_id for message in messages] == [2]


class Committed(AIOKafkaConsumer):
    """aiokafka's consumer with a group that has committed 5 in A and nothing in B, and that has read both up to 9."""

    def __init__(self) -> None:
        super().__init__(bootstrap_servers="127.0.0.1:1", group_id="group")
        self.assign([TopicPartition(*A), TopicPartition(*B)])
        self._fetcher = SimpleNamespace(seek_to=self._subscription.seek)
        for tp in self.assignment():
            self._subscription.seek(tp, 9)

    async def committed(self, partition: TopicPartition) -> int | None:
        return 5 if partition == A else None

    def positions(self) -> list[int]:
        return [self._subscription.subscription.assignment.state_value(TopicPartition(*tp)).position for tp in (A, B)]


async def test_where_nothing_is_committed_the_first_record_is_read_again(
    consumer: Polling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of a new group was killed; the other's first poll of its partition fell into the next rebalance and was
    dropped, to be read again from the committed offset. There was none, aiokafka stayed behind the poll, and 512 of
    9,000 pings were lost. `seek_to_committed` of aiokafka is to blame, so that this shows it, too."""
    broker = Committed()
    await broker.seek_to_committed()
    assert broker.positions() == [5, 9], "aiokafka goes to the start by itself now"

    async def here(_: ConsumerThread, work: Any) -> Any:
        return await work()

    monkeypatch.setattr(ConsumerThread, "call_thread", here)
    consumer._thread._consumer = broker
    await consumer.perform_seek()
    consumer._thread._consumer = None
    assert broker.positions() == [5, 0]


async def test_membership_is_that_of_the_assignment_which_faust_told_last(
    consumer: Polling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka has joined the next generation, and its partitions are not told yet."""

    async def known() -> None: ...

    async def answer_yes(_: Any) -> Any:
        return SimpleNamespace(error_code=0)

    async def here(_: Consumer, work: Any) -> Any:
        return await work

    monkeypatch.setattr(Consumer, "_inside", here)
    coordinator = SimpleNamespace(
        group_id="group", generation=2, member_id="m", ensure_coordinator_known=known, _send_req=answer_yes
    )
    consumer._thread._consumer = cast(Any, SimpleNamespace(_coordinator=coordinator))
    with pytest.raises(Rebalanced, match="generation 1 of group group is over"):
        await consumer.confirm_membership()
    consumer._thread._consumer = None


class Paused(Committed):
    """As Committed, with what is fetched of A: two records that nobody has polled."""

    def __init__(self) -> None:
        super().__init__()
        tp = TopicPartition(*A)
        self.fetched = FetchResult(
            tp,
            assignment=self._subscription.subscription.assignment,
            partition_records=SimpleNamespace(
                in_columns=True, next_fetch_offset=9, take=lambda _: (raw(A, 9, 10), True)
            ),
            backoff=0.0,
        )


async def test_what_is_fetched_of_a_paused_partition_is_dropped_and_read_again(consumer: Polling) -> None:
    """Left where it lies it would keep aiokafka from fetching the other partitions of that broker."""
    broker = Paused()
    consumer._thread._consumer = broker
    consumer._thread.thread_loop.close()
    consumer._thread.thread_loop = asyncio.get_running_loop()
    consumer.pause((A.topic, A.partition))
    consumer.pause(("pathcast.pings.v1", 5))  # another member's by now: of no effect
    await asyncio.sleep(0)
    assert broker.paused() == {TopicPartition(*A)}
    assert (broker.fetched.getall(), broker.fetched.has_more()) == ([], False)
    consumer.resume((A.topic, A.partition))
    await asyncio.sleep(0)
    assert (broker.paused(), broker.positions()) == (set(), [9, 9])
    consumer._thread._consumer = None
    consumer._thread.thread_loop = asyncio.new_event_loop()


async def test_a_message_that_waits_keeps_no_records(consumer: Polling) -> None:
    """Of a shut partition it waits for long, and it holds the records of all the others of its poll."""
    (message,) = [message async for _, message in consumer.getmany(1.0)]
    polled = cast(Polled, message.value)
    assert polled.take().keys() == {A, B}
    assert polled.records == {}


async def test_stamps_are_those_of_the_answered_fetches_and_absent_before_the_consumer_has_started(
    consumer: Polling,
) -> None:
    assert consumer.fetch_stamps() is None, "its thread has not made one"
    consumer._thread._consumer = broker = Committed()
    fetcher, broker._fetcher = broker._fetcher, None
    assert consumer.fetch_stamps() is None, "it has not started"
    broker._fetcher = fetcher
    assert consumer.fetch_stamps() == {A: None, B: None}
    broker._subscription.subscription.assignment.state_value(TopicPartition(*B)).timestamp = 1_700_000_000_123
    assert consumer.fetch_stamps() == {A: None, B: 1_700_000_000_123}
    broker._subscription.unsubscribe()
    assert consumer.fetch_stamps() == {}
    consumer._thread._consumer = None


async def test_partitions_that_are_not_active_are_not_handed_over(consumer: Polling) -> None:
    gone = TP("pathcast.pings.v1", 5)
    consumer.records = {TopicPartition(*gone): raw(gone, 0), **consumer.records}
    ((tp, message),) = [polled async for polled in consumer.getmany(1.0)]
    assert tp == A
    assert cast(Polled, message.value).records.keys() == {A, B}


async def test_the_driver_is_found_by_its_address(consumer: Polling) -> None:
    assert consumer.transport.driver_version.startswith("pathcast")
    assert isinstance(consumer.app.consumer, Consumer)
