"""Implements a Faust driver whose messages each contain all records of one poll.

It is registered under the entry point group `faust.transports` as `pathcast`, so that an app with the broker
`pathcast://host:port` uses it. It exists because Faust's own consumer makes a pair of tasks per record (about 14,000
records/s per core); a message per poll costs the same whether it contains one record or a thousand.

We commit offsets ourselves. Faust commits what its streams have acknowledged; here an acknowledgement only means "no
longer in flight", and only `commit_offsets` sends an offset to the broker. That is also why the faults of Faust 0.15.3
in its commits (a commit past a message in flight, a failed commit recorded as committed) cannot affect us: none of that
code runs. `tests/stream/worker/test_faust_faults.py` shows each fault beside our behaviour, and fails when upstream
changes a method that is overridden or called here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaConnectionError
from aiokafka.structs import OffsetAndMetadata
from faust.exceptions import ConsumerNotStarted
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message
from faust.types.transports import TPorTopicSet
from faust.types.tuples import ack_lock
from mode.utils.futures import notify

from stream.config.wording import place
from stream.kafka import log_facts, membership
from stream.kafka.log import CommittedOffset, Log, Partition, Rebalanced
from stream.kafka.reading import reread
from stream.kafka.records.record_columns import Records
from stream.worker.consumer_thread import ConsumerThread

T = TypeVar("T")

CREATE_TIME = 0  # the type of a message's timestamp, which Faust requires


class Drains(Protocol):
    """States what this driver needs of the app: it finishes or forgets all records that it got, before partitions are
    revoked."""

    async def drain(self) -> None: ...


class Polled(NamedTuple):
    """The value of one message: a poll's records by partition, in offset order, and when they were fetched (ms UTC)."""

    records: dict[Partition, Records]
    fetched_ms: float

    def take(self) -> dict[Partition, Records]:
        """Returns the records and removes them, because a message that waits for one partition must not keep those of
        the others in memory."""
        records = dict(self.records)
        self.records.clear()
        return records


class Consumer(driver.Consumer):
    """A consumer whose messages contain the records of a poll. It commits only by `commit_offsets`.

    It has many methods because it overrides those of Faust that would lose records, and is the input of delivery, too.
    """

    logger = logging.getLogger("faust.transport.pathcast")

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- records in ---------------------------------------------------------------------------------------------

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109 - upstream's name
        """Polls once and yields one message with all records. With a message per partition, each would pass through
        Faust, for perhaps a handful of pings."""
        polled, active = await self._wait_next_records(timeout)
        if polled is None or self.should_stop:
            return
        if not self.flow_active:
            # Faust's rule: records that came while the flow was stopped are read again after the rebalance.
            await self._seek_back()
            return
        found: dict[TP, Any] = {
            tp: records
            for raw_tp, records in polled.items()
            if (tp := ensure_TP(raw_tp)) and records
            if active is None or tp in active or tp in self._buffered_partitions
        }
        if found:
            # Faust drops a message whose offset is below the last one that it read of the message's partition. Our
            # message has the name of one partition only, and a poll must not be lost because that partition went back.
            self._read_offset.clear()
            message = self._message(found, time.time() * 1000)
            yield message.tp, message

    async def _seek_back(self) -> None:
        try:
            await self.perform_seek()
        except Exception as error:
            self.log.warning("cannot seek to the committed offsets while stopped, the rebalance will: %r", error)

    def _message(self, found: Mapping[TP, Records], fetched_ms: float) -> ConsumerMessage:
        """Returns the message. To Faust it looks like the last record of one of the poll's partitions."""
        polled = {(tp.topic, tp.partition): records for tp, records in found.items()}
        tp = next(iter(found))
        last = polled[tp.topic, tp.partition][-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp_ms / 1000.0,
            CREATE_TIME,
            None,
            None,
            cast(bytes, Polled(polled, fetched_ms)),  # Faust passes it through untouched, by app.Untouched
            None,
            0,
            0,
            tp,
            # Without it the stream drops the message. It is read after the poll, which may wait for the end of a
            # rebalance: its records are then of the new generation.
            generation_id=self.app.consumer_generation_id,
        )

    # -- offsets out --------------------------------------------------------------------------------------------

    async def commit_offsets(self, offsets: Mapping[Partition, CommittedOffset]) -> None:
        """Commits these offsets, with epoch and history as metadata. Returns only when the broker has them.

        aiokafka retries after retriable errors (coordinator moved, broker away) for as long as we are a member.

        Raises:
            Rebalanced: the group has a newer generation; another member may own some or all of these partitions now.
            KafkaError: anything else, such as a lack of authorisation; the offsets are not committed.
        """
        wanted = {TopicPartition(*tp): OffsetAndMetadata(one.offset, one.metadata) for tp, one in offsets.items()}
        try:
            await self._inside(self._kafka.commit(wanted))
        except (CommitFailedError, IllegalStateError) as error:
            marks = ", ".join(f"{one.offset} in {place(tp)}" for tp, one in offsets.items())
            raise Rebalanced(f"cannot commit {marks}: {error}") from error

    async def confirm_membership(self) -> None:
        """Asks the group's coordinator whether our assignment is still the current one.

        Raises:
            Rebalanced: it is not, or a rebalance is under way; Faust reports the next assignment.
            KafkaError: the coordinator did not answer the question.
        """
        generation = self.app.consumer_generation_id  # of the assignment that Faust reported last
        await self._inside(membership.confirm(self._kafka._coordinator, generation))

    async def committed(self, partition: Partition) -> CommittedOffset | None:
        """Returns the group's committed offset, which the broker is asked for; None if there is none."""
        tp = TopicPartition(*partition)
        # This calls the coordinator, because aiokafka's `committed` leaves the metadata out.
        found = await self._inside(self._kafka._coordinator.fetch_committed_offsets([tp]))
        return CommittedOffset.of(found[tp].offset, found[tp].metadata) if tp in found else None

    async def describe_log(self, partition: Partition, leader_epoch: int) -> Log:
        """Returns what the brokers report of the log of `partition` to a reader of that leader epoch (-1: unknown).

        Raises KafkaError; it is retriable while the partition has no leader.
        """
        return await self._inside(log_facts.ask(self._kafka, TopicPartition(*partition), leader_epoch))

    async def first_offset(self, partition: Partition) -> int:
        """Returns the first offset that the log of `partition` still contains. Raises KafkaError."""
        tp = TopicPartition(*partition)
        begins: dict[TopicPartition, int] = await self._inside(self._kafka.beginning_offsets([tp]))
        return begins[tp]

    def rejoin(self) -> None:
        """Requests a rejoin of the group: the worker drains and begins again at the committed offsets. Returns at
        once."""
        self._thread.thread_loop.call_soon_threadsafe(self._kafka._coordinator.request_rejoin)

    def partitions_of(self, topic: str) -> int:
        """Returns the topic's number of partitions in the consumer's metadata; 0 if it is unknown."""
        try:
            return len(self._kafka.partitions_for_topic(topic) or ())
        except ConsumerNotStarted:
            return 0

    def log_end(self, partition: Partition) -> int | None:
        """Returns where the partition's log ended when the broker last answered a fetch of it; None before the first
        answer. Sends no request."""
        try:
            end: int | None = self._kafka.highwater(TopicPartition(*partition))
        except (ConsumerNotStarted, AssertionError, AttributeError, KeyError):
            return None  # the consumer's thread is in the middle of a rebalance, and does not have this partition
        return end

    def pause(self, partition: Partition) -> None:
        """Stops fetching a partition. It uses aiokafka's method, because Faust's own leaves fetched records in
        aiokafka's buffer, and meanwhile aiokafka fetches no other partition of that broker."""
        self._tell_consumer(aiokafka.AIOKafkaConsumer.pause, partition)

    def resume(self, partition: Partition) -> None:
        """Fetches a partition again, from after the last record that was polled."""
        self._tell_consumer(aiokafka.AIOKafkaConsumer.resume, partition)

    def _tell_consumer(self, what: Callable[..., None], partition: Partition) -> None:
        """Calls a method of the consumer in its thread, in the order of these calls."""

        def tell() -> None:
            # Another member owns the partition now, or the worker stops. A new assignment is not paused.
            with suppress(IllegalStateError, ConsumerNotStarted):
                what(self._kafka, TopicPartition(*partition))

        with suppress(RuntimeError):  # the thread has ended
            self._thread.thread_loop.call_soon_threadsafe(tell)

    def fetch_stamps(self) -> dict[Partition, int | None] | None:
        """Returns, for each assigned partition, when its last fetch was answered, by this machine's clock: the number
        changes with each answer, even an empty one. None before the consumer has started. Sends no request."""
        try:
            kafka = self._kafka
        except ConsumerNotStarted:
            return None
        if kafka._fetcher is None:
            return None
        subscription = kafka._subscription.subscription  # read only once: a rebalance replaces it in another thread
        assignment = None if subscription is None else subscription.assignment
        if assignment is None:
            return {}
        return {(tp.topic, tp.partition): assignment.state_value(tp).timestamp for tp in assignment.tps}

    async def ask_leader(self, partition: Partition) -> None:
        """Returns when the leader of `partition` has answered where its log ends. Raises KafkaError."""
        await self._inside(self._kafka.end_offsets([TopicPartition(*partition)]))

    async def ask_any_broker(self) -> None:
        """Returns when a broker has answered a request for metadata. Raises KafkaConnectionError if none does."""
        if not await self._inside(self._refresh()):
            raise KafkaConnectionError("no broker answers a request for metadata")

    async def _refresh(self) -> bool:
        answered: bool = await self._kafka._client.force_metadata_update()
        return answered

    def reread(self, partition: Partition, start: int, end: int) -> AsyncIterator[Records]:
        """Yields the records of [start, end) that still exist. It uses another consumer, so that the position of this
        one does not move."""
        url, conf = cast(driver.Transport, self.transport).url, self.app.conf
        access = driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context)
        return reread(driver.server_list(url, driver.Transport.default_port), partition, start, end, access=access)

    @property
    def _kafka(self) -> aiokafka.AIOKafkaConsumer:
        """The aiokafka consumer. Its coroutines may run only by `_inside`. Raises ConsumerNotStarted."""
        return self._thread._ensure_consumer()

    async def _inside(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits `work` in the consumer's thread, but not through its method queue, whose workers wake for each."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._thread.thread_loop))

    # -- Faust's own bookkeeping, switched off --------------------------------------------------------------------

    def ack(self, message: Message) -> bool:
        """Marks a message as no longer in flight. It commits and stores nothing: Faust's lists would grow."""
        with ack_lock:
            if message.acked:
                return False
            message.acked = True
            self._unacked_messages.discard(message)
            notify(self._waiting_for_ack)
            return True

    async def commit(self, topics: TPorTopicSet | None = None, start_new_transaction: bool = True) -> bool:
        """Commits nothing. Faust calls this on a timer, on rebalance and on stop."""
        return False

    async def force_commit(self, topics: TPorTopicSet | None = None, start_new_transaction: bool = True) -> bool:
        """Commits nothing, too."""
        return False

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Does nothing: we commit positions, so offsets without a record (compaction, markers) need no entry."""

    async def wait_empty(self) -> None:
        """Lets the app finish the records in flight and forget the rest, before a rebalance or a stop.

        Faust itself waits here until every message is acknowledged, for ever if one never is. The next owner of a
        partition reads the forgotten records again, from the committed offset.
        """
        await cast(Drains, self.app).drain()
        self._unacked_messages.clear()

    def on_buffer_full(self, tp: TP) -> None:
        """Does nothing, so that fetching continues: a full buffer delays the next message by itself. Faust would leave
        the partition that names the message out of the poll in flight, too. Its records, which were fetched already,
        would wait for the end of that poll, a second; and aiokafka would not fetch the other partitions of their broker
        meanwhile, for lack of room."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Does nothing, because `on_buffer_full` does nothing."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Does nothing. Faust's livelock detector judges by acknowledgements and commits that we do not make."""


class Transport(driver.Transport):
    """The transport behind `pathcast://`."""

    Consumer = Consumer
    driver_version = f"pathcast on {driver.Transport.driver_version}"


def partitions(tps: Iterable[TP]) -> set[Partition]:
    """Returns plain (topic, partition) pairs, for the modules that do not import Faust."""
    return {(tp.topic, tp.partition) for tp in tps}
