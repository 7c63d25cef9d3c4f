"""One member of a consumer group that makes records of records, exactly once, whatever dies.

A service reads its input topics together. Members share the partition numbers: who has number n has partition n of
every input, as Kafka's range assignor gives topics that have as many partitions. For each number the service keeps a
`Unit` (`stream.services.plan`), which folds the records and says what to publish. That goes out in one transaction with
the offsets up to which the records are folded:

    ask the group whether our assignment holds -> fence the owner before us -> read the committed offsets
        -> `begin`: the unit, as it was at these offsets -> fold ... -> a transaction: its records, and the offsets

The transactional id is that of the number, so whoever takes it over ends the transaction of the owner before, and that
one can publish nothing any more (`stream.delivery.guarantees` says why there is one id for each partition). After any
failure of a transaction nobody asks what became of it: the unit is dropped, and taken over anew from what is committed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalOperation, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from stream.config import failpoints
from stream.config.security import KafkaSecurity
from stream.kafka import admin
from stream.kafka.producer import Publisher
from stream.kafka.reading import SESSION_S
from stream.kafka.records.encoded_batches import Answers
from stream.kafka.records.record_columns import Records
from stream.members import group_member
from stream.members.continuity import Holding
from stream.members.group_member import POLL_S, RETRY_S, STOP_S, GroupMember, in_slices
from stream.members.pages import Row, counter
from stream.members.running import Running, Service, running_member
from stream.services.plan import Begin, Plan, Taken, Unit, dump_metadata, parts_of
from stream.wire import Topics

log: Final = logging.getLogger(__name__)

POLLED_MS: Final = 1_800_000  # at least once in this time: takeovers may read much between two polls
MOST_WAITING: Final = 20_000  # records that are made and not published: no more are read until they are
CLOSE_S: Final = 5.0  # for closing a failed producer, which may wait for a broker that it lost
# aiokafka asserts its state transitions.
AWAY: Final = (*group_member.AWAY, IllegalOperation, AssertionError)


@dataclass
class _Published(Holding):
    """A number that is ours."""

    unit: Unit
    publisher: Publisher
    done: dict[str, int]  # what was folded before is published
    committed: dict[str, int]


class Member(GroupMember[_Published]):
    """One member of the group."""

    AWAY: ClassVar[tuple[type[Exception], ...]] = AWAY

    def __init__(self, plan: Plan, begin: Begin) -> None:
        """Takes `begin`, which makes the unit of a number, as it was at the committed offsets."""
        more = {"max_poll_interval_ms": POLLED_MS, "partition_assignment_strategy": (RangePartitionAssignor,)}
        super().__init__(plan.reads, plan.reads.consumer(**more))
        self.published = 0
        self._plan = plan
        self._unit_of = begin
        self._flushed_s = 0.0

    async def _poll(self) -> Mapping[TopicPartition, Records]:
        due_s = self._flushed_s + self._plan.every_s - time.monotonic()
        if sum(one.unit.waiting for one in self._holdings.values()) >= MOST_WAITING:
            await asyncio.sleep(max(due_s, 0.0))
            return {}
        timeout_ms = 1000 * (min(POLL_S, max(due_s, 0.0)) if self._plan.every_s else POLL_S)
        return await self._get_many(int(timeout_ms))

    async def _fold(self, number: int, held: _Published, records: Records) -> None:
        async for some in in_slices(records):
            held.unit.fold(some)

    async def _after(self) -> None:
        if time.monotonic() >= self._flushed_s + self._plan.every_s:
            async with self._lock:
                await self._move()
                await self._last(set(self._holdings))

    # -- transactions

    async def _last(self, numbers: Collection[int]) -> None:
        await asyncio.gather(*(self._transact(number, self._holdings[number]) for number in numbers))
        self._flushed_s = time.monotonic()

    async def _transact(self, number: int, held: _Published) -> None:
        outgoing = held.unit.take_outgoing(self._quiet_ms(number, held))
        needed, folded = held.unit.needed, dict(held.folded)
        offsets = {topic: min(at, needed.get(topic, at)) for topic, at in folded.items()}
        if not outgoing and offsets == held.committed:
            held.done = folded
            return
        metadata = {self._plan.inputs[0]: held.unit.metadata()}
        marks = {
            (topic, number): OffsetAndMetadata(at, dump_metadata(metadata.get(topic, ""), held.seen[topic]))
            for topic, at in offsets.items()
        }
        try:
            answers = Answers(others=list(enumerate(outgoing)))
            await wait_briefly(held.publisher.transact_all(answers, marks, self._plan.group))
            failpoints.reach("after_commit")
        except ProducerFenced as error:
            await self._lose(number, error, SESSION_S)
        except AWAY as error:
            await self._lose(number, error, RETRY_S)
        else:
            held.committed, held.done = offsets, folded
            self.published += len(outgoing)

    def _quiet_ms(self, number: int, held: _Published) -> int | None:
        """Returns a time when no input had more than what is folded, as far as the brokers have said."""
        times = []
        for tp in self._tps(number):
            if tp not in self._consumer.assignment():
                return None
            end, asked_ms = self._consumer.last_stable_offset(tp), self._consumer.last_poll_timestamp(tp)
            if end is None or asked_ms is None or held.folded[tp.topic] < end:
                return None
            times.append(int(asked_ms))
        return min(times)

    async def _drop(self, number: int, held: _Published) -> None:
        await close_quietly(held.publisher)

    # -- takeovers

    async def _begin(self, number: int) -> _Published:
        name = f"{self._plan.group}|{self._plan.inputs[0]}|{number}"
        # This fences the owner before us: from here on the committed offsets are fixed.
        publisher = await start_publisher(self._plan.bootstrap, name, self._plan.kafka)
        try:
            taken = await self._read_taken(number)
            unit, starts = await self._unit_of(taken), taken.starts
        except BaseException:
            await close_quietly(publisher)
            raise
        offsets = {topic: one.offset for topic, one in starts.items()}
        # After a cut the offsets are committed at once, so that no successor finds it again.
        committed = {} if any(one.is_cut for one in starts.values()) else offsets
        return _Published(starts, unit, publisher, dict(offsets), committed)

    async def _read_taken(self, number: int) -> Taken:
        tps = self._tps(number)
        committed, starts, metadata = await self._read_committed(tps), {}, None
        for tp in tps:
            offset, committed_metadata = committed.get(tp, (None, ""))
            text, seen = parts_of(committed_metadata)
            starts[tp.topic] = await self._start(tp, offset, seen)
            if tp.topic == self._plan.inputs[0] and offset is not None:
                metadata = text
        return Taken(number, starts, metadata)

    # -- where it stands

    def outcomes(self) -> dict[tuple[int, str], int]:
        """Returns what became of the records of each of our numbers."""
        counts = {number: held.unit.counts for number, held in sorted(self._holdings.items())}
        return {(number, outcome): count for number, of in counts.items() for outcome, count in of.items()}

    def _offsets_done(self, held: _Published) -> Mapping[str, int]:
        return held.done

    def _describe(self) -> str:
        return f"{self.published} published"


ROWS: Final = (
    counter("records_published", "Records that were published.", lambda one: one.published),
    counter("records", "Records, by what became of them.", lambda one: one.outcomes(), "partition", "outcome"),
)


def creating(plan: Plan, topics: Topics, *names: str) -> Callable[[int], None]:
    """Returns what creates these topics, if they are absent, and raises ValueError if one has another number of
    partitions than the inputs."""

    def provide(partitions: int) -> None:
        with admin.connect(plan.bootstrap, plan.kafka) as client:
            for name in names:
                admin.create_other(client, topics, name, partitions=partitions)
                admin.check_partitions(client, name, partitions)

    return provide


def service(plan: Plan, begin: Begin, provide: Callable[[int], None], rows: Sequence[Row] = ()) -> Service:
    """Returns a service whose member makes its units by `begin`. `provide` gets the number of partitions of the inputs,
    and creates what the service writes. `rows` are metrics beside those of each member that publishes."""

    @asynccontextmanager
    async def open_service() -> AsyncIterator[Running]:
        """Raises ConnectionError if Kafka does not answer, ValueError if an input is missing or the inputs have
        different numbers of partitions, Refused."""
        partitions = await asyncio.to_thread(plan.reads.partitions)
        await asyncio.to_thread(provide, partitions)
        async with running_member(plan.name, Member(plan, begin), (*ROWS, *rows)) as running:
            yield running

    return Service(plan.name, open_service)


async def start_publisher(bootstrap: str, name: str | None, security: KafkaSecurity) -> Publisher:
    """Returns a publisher that is started; with a name, one that fences whoever had it. Raises as `wait_briefly`."""
    publisher = Publisher(bootstrap, name, security=security)
    try:
        await wait_briefly(publisher.start())
    except BaseException:
        await close_quietly(publisher)
        raise
    return publisher


async def wait_briefly(work: Coroutine[Any, Any, None]) -> None:
    """Awaits the work for STOP_S at most. A send that no broker answers cannot be cancelled sooner than it gives up,
    so that it is left to itself. Raises TimeoutError."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=STOP_S)
    if not task.done():
        task.cancel()
        task.add_done_callback(lambda one: one.cancelled() or one.exception())
        raise TimeoutError(f"the brokers did not answer in {STOP_S:g} s")
    task.result()


async def close_quietly(publisher: Publisher) -> None:
    """Closes a publisher. One that failed may raise, which is ignored: it is not used again."""
    with suppress(*AWAY):
        async with asyncio.timeout(CLOSE_S):
            await publisher.close()
