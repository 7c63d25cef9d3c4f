"""The Faust driver: one message per poll, holding all its records. Knows Faust and aiokafka; knows nothing of what the
records mean.

Registered under the entry point group `faust.transports` as `pathcast`, so that an app with the broker
`pathcast://host:port` uses it. Why it exists: Faust's own consumer makes a pair of tasks per record (about 14,000
records/s per core); a message per poll costs the same whether it holds one record or a thousand.

Offsets are ours. Faust commits what its streams have acknowledged; here an acknowledgement only says "no longer in
flight", and `commit_offsets` is the one way in which an offset reaches the broker. That is also why the faults of
Faust 0.15.3 in that machinery (a commit past a message in flight, a failed commit recorded as committed) cannot reach
us: nothing of it runs. `tests/stream/worker/test_faust_faults.py` shows each fault beside our behaviour, and fails when
upstream changes a method that is overridden or called here.
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

from stream.kafka import log_facts, membership
from stream.kafka.log import CommittedOffset, Log, Partition, Rebalanced, reread
from stream.kafka.record_columns import Records
from stream.worker.consumer_thread import ConsumerThread

T = TypeVar("T")

CREATE_TIME = 0  # the kind of a message's timestamp, which Faust asks for


class Drains(Protocol):
    """What this driver asks of the app: finish or forget all that it was handed, before the partitions go."""

    async def drain(self) -> None: ...


class Polled(NamedTuple):
    """The value of one message: a poll's records by partition, in offset order, and when they came (ms UTC)."""

    records: dict[Partition, Records]
    fetched_ms: float

    def taken(self) -> dict[Partition, Records]:
        """Its records, which it has no more then: a message that waits for one partition must not keep the others'."""
        records = dict(self.records)
        self.records.clear()
        return records


class Consumer(driver.Consumer):
    """A consumer whose messages hold record lists, and which commits only what it is told to."""

    logger = logging.getLogger("faust.transport.pathcast")

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- records in ---------------------------------------------------------------------------------------------

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109 - upstream's name
        """One poll: one message with all its records. One per partition would each have its way through Faust, for what
        may be a handful of pings."""
        polled, active = await self._wait_next_records(timeout)
        if polled is None or self.should_stop:
            return
        if not self.flow_active:
            # Faust's rule: what came while the flow was stopped is read again after the rebalance.
            await self._seek_back()
            return
        found: dict[TP, Any] = {
            tp: records
            for raw_tp, records in polled.items()
            if (tp := ensure_TP(raw_tp)) and records
            if active is None or tp in active or tp in self._buffered_partitions
        }
        if found:
            # Faust drops a message whose offset is below the last one that it read of the message's partition. A
            # message is named after one partition only, and a poll must not be lost because that one went back.
            self._read_offset.clear()
            message = self._message(found, time.time() * 1000)
            yield message.tp, message

    async def _seek_back(self) -> None:
        try:
            await self.perform_seek()
        except Exception as error:
            self.log.warning("cannot seek to the committed offsets while stopped, the rebalance will: %r", error)

    def _message(self, found: Mapping[TP, Records], fetched_ms: float) -> ConsumerMessage:
        """To Faust it is the last record of one of the partitions, in a poll whose others it has no need to know."""
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
            # Without it the stream drops the message. Not the one before the poll, which may wait for the end of a
            # rebalance: its records are of the new generation then.
            generation_id=self.app.consumer_generation_id,
        )

    # -- offsets out --------------------------------------------------------------------------------------------

    async def commit_offsets(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        """Commit these offsets, their epochs as metadata. Returns only when the broker has them.

        Retriable errors (coordinator moved, broker away) are retried by aiokafka for as long as we are a member.

        Raises:
            Rebalanced: the group has moved on; some or all of these partitions are another member's now.
            KafkaError: anything else, such as a lack of authorisation; the offsets are not committed.
        """
        wanted = {TopicPartition(*tp): OffsetAndMetadata(mark.offset, mark.metadata) for tp, mark in marks.items()}
        try:
            await self._inside(self._kafka.commit(wanted))
        except (CommitFailedError, IllegalStateError) as error:
            raise Rebalanced(f"cannot commit {dict(marks)}: {error}") from error

    async def confirm_membership(self) -> None:
        """Ask the group's coordinator whether our assignment is still the current one.

        Raises:
            Rebalanced: it is not, or a rebalance is under way; Faust tells of the next assignment.
            KafkaError: the coordinator did not say.
        """
        generation = self.app.consumer_generation_id  # of the assignment that Faust told last
        await self._inside(membership.confirm(self._kafka._coordinator, generation))

    async def committed(self, partition: Partition) -> CommittedOffset | None:
        """What the group has committed, as the broker has it now."""
        tp = TopicPartition(*partition)
        # The coordinator's, because aiokafka's `committed` leaves the metadata out.
        found = await self._inside(self._kafka._coordinator.fetch_committed_offsets([tp]))
        return CommittedOffset.of(found[tp].offset, found[tp].metadata) if tp in found else None

    async def describe_log(self, partition: Partition, leader_epoch: int) -> Log:
        """What the brokers say of the log of `partition` to a reader of that leader epoch (-1: unknown).

        Raises KafkaError, a retriable one while no broker leads the partition.
        """
        return await self._inside(log_facts.ask(self._kafka, TopicPartition(*partition), leader_epoch))

    async def first_offset(self, partition: Partition) -> int:
        """The first offset that the log of `partition` still has. Raises KafkaError."""
        tp = TopicPartition(*partition)
        begins: dict[TopicPartition, int] = await self._inside(self._kafka.beginning_offsets([tp]))
        return begins[tp]

    def rejoin(self) -> None:
        """Join the group once more: drain, and begin again at the committed offsets. Returns at once."""
        self._thread.thread_loop.call_soon_threadsafe(self._kafka._coordinator.request_rejoin)

    def partitions_of(self, topic: str) -> int:
        """How many partitions the topic has, as far as the consumer has heard."""
        try:
            return len(self._kafka.partitions_for_topic(topic) or ())
        except ConsumerNotStarted:
            return 0

    def log_end(self, partition: Partition) -> int | None:
        """Where its log ended when the broker last answered a fetch of it; None before the first. Asks nobody."""
        try:
            end: int | None = self._kafka.highwater(TopicPartition(*partition))
        except (ConsumerNotStarted, AssertionError, AttributeError, KeyError):
            return None  # its thread is in the middle of a rebalance, where this partition is nobody's
        return end

    def pause(self, partition: Partition) -> None:
        """Fetch no more of it. aiokafka does it, because Faust's own way leaves what is fetched where it lies, and
        aiokafka fetches no other partition of that broker for as long."""
        self._tell_consumer(aiokafka.AIOKafkaConsumer.pause, partition)

    def resume(self, partition: Partition) -> None:
        """Go on behind the last record that was polled."""
        self._tell_consumer(aiokafka.AIOKafkaConsumer.resume, partition)

    def _tell_consumer(self, what: Callable[..., None], partition: Partition) -> None:
        """In the consumer's thread, in the order of these calls."""

        def tell() -> None:
            # It is another member's now, or we are at the end. The next assignment is resumed when it comes.
            with suppress(IllegalStateError, ConsumerNotStarted):
                what(self._kafka, TopicPartition(*partition))

        with suppress(RuntimeError):  # the thread has ended
            self._thread.thread_loop.call_soon_threadsafe(tell)

    def fetch_stamps(self) -> dict[Partition, int | None] | None:
        """For each assigned partition when its last answered fetch came, by this machine's clock: another number after
        each answer, were it empty. None before the consumer has started. Asks nobody."""
        try:
            kafka = self._kafka
        except ConsumerNotStarted:
            return None
        if kafka._fetcher is None:
            return None
        subscription = kafka._subscription.subscription  # looked at once: a rebalance replaces it on its own thread
        assignment = None if subscription is None else subscription.assignment
        if assignment is None:
            return {}
        return {(tp.topic, tp.partition): assignment.state_value(tp).timestamp for tp in assignment.tps}

    async def ask_leader(self, partition: Partition) -> None:
        """Return when the leader of `partition` has told where its log ends. Raises KafkaError."""
        await self._inside(self._kafka.end_offsets([TopicPartition(*partition)]))

    async def ask_any_broker(self) -> None:
        """Return when a broker has told who leads what. Raises KafkaConnectionError if none does."""
        if not await self._inside(self._refresh()):
            raise KafkaConnectionError("no broker answers a request for metadata")

    async def _refresh(self) -> bool:
        answered: bool = await self._kafka._client.force_metadata_update()
        return answered

    def reread(self, partition: Partition, start: int, end: int) -> AsyncIterator[Records]:
        """The records of [start, end) that still exist, by a consumer of its own: this one's position stays."""
        url, conf = cast(driver.Transport, self.transport).url, self.app.conf
        access = driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context)
        return reread(driver.server_list(url, driver.Transport.default_port), partition, start, end, access=access)

    @property
    def _kafka(self) -> aiokafka.AIOKafkaConsumer:
        """Its coroutines run `_inside` only. Raises ConsumerNotStarted."""
        return self._thread._ensure_consumer()

    async def _inside(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` on the consumer's thread. Not through its method queue, where it would wait behind a poll."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._thread.thread_loop))

    # -- Faust's own bookkeeping, put out of work -----------------------------------------------------------------

    def ack(self, message: Message) -> bool:
        """Retire a message that was in flight. Commits nothing, and remembers nothing: Faust's lists would grow."""
        with ack_lock:
            if message.acked:
                return False
            message.acked = True
            self._unacked_messages.discard(message)
            notify(self._waiting_for_ack)
            return True

    async def commit(self, topics: TPorTopicSet | None = None, start_new_transaction: bool = True) -> bool:
        """Commit nothing: Faust calls this on a timer, on rebalance and on stop."""
        return False

    async def force_commit(self, topics: TPorTopicSet | None = None, start_new_transaction: bool = True) -> bool:
        """Commit nothing, even if asked by name."""
        return False

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Offsets that hold no record (compacted, transaction markers) need no entry: we commit positions."""

    async def wait_empty(self) -> None:
        """Before partitions go, by a rebalance or a stop: let the app finish what is in flight and forget the rest.

        Stock Faust waits here until every message is acknowledged, for ever if one never is. What the app forgets is
        read again from the committed offset by whoever owns the partition next.
        """
        await cast(Drains, self.app).drain()
        self._unacked_messages.clear()

    def on_buffer_full(self, tp: TP) -> None:
        """Go on fetching: a full buffer holds up the next message by itself. Faust would leave the partition after
        which a message is named out of the poll in flight, too; its records, fetched already, waited out that poll's
        second, and with them, for want of room, the other partitions of their broker."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing was left out."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """No opinion: Faust's livelock detector judges by the acknowledgements and commits that we do not make."""


class Transport(driver.Transport):
    """The transport behind `pathcast://`."""

    Consumer = Consumer
    driver_version = f"pathcast on {driver.Transport.driver_version}"


def partitions(tps: Iterable[TP]) -> set[Partition]:
    """Plain (topic, partition) pairs, for the modules that know no Faust."""
    return {(tp.topic, tp.partition) for tp in tps}
