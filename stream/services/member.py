"""One member of a consumer group that makes records of records, exactly once, whatever dies.

A service reads its input topics together. Members share the partition numbers: who has number n has partition n of
every input, as Kafka's range assignor gives topics that have as many partitions. For each number the service keeps a
`Unit` (`stream.services.plan`), which folds the records and says what to publish. That goes out in one transaction with
the offsets up to which the records are folded:

    ask the group whether our assignment holds -> fence the owner before us -> read the committed offsets
        -> `begin`: the unit, as it was at these offsets -> fold ... -> a transaction: what was made, and the offsets

The transactional id is that of the number, so whoever takes it over ends the transaction of the owner before, and that
one can publish nothing any more (`stream.delivery.guarantees` says why there is one id for each partition). After any
failure of a transaction nobody asks what became of it: the unit is dropped, and taken over anew from what is committed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalOperation, IllegalStateError, KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from stream.config import failpoints
from stream.config.security import kafka_refusal
from stream.kafka import membership
from stream.kafka.group_consumer import SESSION_S, group_consumer
from stream.kafka.log import Rebalanced, bounds_by
from stream.kafka.pacing import BESIDE_EVERY_S, Pace
from stream.kafka.producer import Publisher
from stream.kafka.records.encoded_batches import Answers
from stream.kafka.records.record_columns import Records
from stream.services.plan import Begin, Place, Plan, Taken, Unit, in_words, partitions_of

log: Final = logging.getLogger(__name__)

POLL_S: Final = 0.5
POLL_RECORDS: Final = 2_000  # a tenth of a second of work, between two heartbeats
POLLED_MS: Final = 1_800_000  # at least once in this time: takeovers may read much between two polls
MOST_WAITING: Final = 20_000  # records that are made and not published: no more are read until they are
REPORT_S: Final = 10.0
RETRY_S: Final = 2.0
STOP_S: Final = 20.0  # for a transaction, also the last one, when the group or a signal wants the partitions
CLOSE_S: Final = 5.0  # for closing a failed producer, which may wait for a broker that it lost
# Servers that are away: nothing is lost, and it is tried again. aiokafka asserts its state transitions.
AWAY: Final = (KafkaError, IllegalOperation, OSError, TimeoutError, AssertionError)


@dataclass
class _Held:
    """A number that is ours."""

    unit: Unit
    publisher: Publisher
    folded: dict[str, int]  # the next offset, by topic
    done: dict[str, int]  # what was folded before is published
    committed: dict[str, int]


class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One member of the group."""

    def __init__(self, plan: Plan, begin: Begin) -> None:
        """Takes `begin`, which makes the unit of a number, as it was at the committed offsets."""
        self.read = 0  # records
        self.published = 0
        self.failures = 0  # transactions and takeovers that are tried again
        self.joined = False
        self._plan = plan
        self._begin = begin
        strategy = (RangePartitionAssignor,)
        more = {"max_poll_interval_ms": POLLED_MS, "partition_assignment_strategy": strategy}
        self._consumer: AIOKafkaConsumer = group_consumer(plan.bootstrap, plan.kafka, plan.group, **more)
        self._held: dict[int, _Held] = {}
        self._not_before: dict[int, float] = {}  # when a number may be taken over again
        self._generation = -1  # of the present assignment
        self._lock = asyncio.Lock()  # one at a time folds, publishes or gives away
        self._stopping = asyncio.Event()
        self._flushed_s = 0.0

    def stop(self) -> None:
        """Lets `run` end, once all that was read is published."""
        self._stopping.set()

    async def run(self) -> None:
        """Works until `stop`; with `once`, up to the present end. Raises KafkaError, Refused."""
        await self._consumer.start()
        Pace(self._consumer._fetcher, BESIDE_EVERY_S)  # the embedded broker answers at once where there is nothing
        report = asyncio.create_task(self._report())
        try:
            self._consumer.subscribe(list(self._plan.inputs), listener=self)
            ends = await self._ends() if self._plan.once else None
            while not self._stopping.is_set() and not self._has_reached(ends):
                await self._step()
        finally:
            report.cancel()
            await self._give_away(set(self._held))
            await self._consumer.stop()

    async def _step(self) -> None:
        """Takes over what is new, folds what has come, and publishes it when it is time."""
        await self._take_over()
        before = dict(self._held)
        due_s = self._flushed_s + self._plan.every_s - time.monotonic()
        if sum(one.unit.waiting for one in before.values()) >= MOST_WAITING:
            await asyncio.sleep(max(due_s, 0.0))
            polled: dict[TopicPartition, Records] = {}
        else:
            timeout_ms = 1000 * (min(POLL_S, max(due_s, 0.0)) if self._plan.every_s else POLL_S)
            polled = await self._consumer.getmany(timeout_ms=int(timeout_ms), max_records=POLL_RECORDS)
        async with self._lock:
            for tp, records in polled.items():
                held = before.get(tp.partition)
                if held is not None and self._held.get(tp.partition) is held:  # else given away, or taken over anew
                    held.unit.fold(records)
                    held.folded[tp.topic] = records.next_offset
                    self.read += len(records)
            if time.monotonic() >= self._flushed_s + self._plan.every_s:
                for number, held in list(self._held.items()):
                    await self._move(number, held)
                await self._flush(set(self._held))

    async def _move(self, number: int, held: _Held) -> None:
        """Notes up to where all is folded, between two polls: beyond the last record there may be markers."""
        for tp in self._tps(number):
            with suppress(IllegalStateError, KafkaError):  # it is not ours any more
                held.folded[tp.topic] = max(int(await self._consumer.position(tp)), held.folded[tp.topic])

    # -- transactions

    async def _flush(self, numbers: Collection[int]) -> None:
        await asyncio.gather(*(self._transact(number, self._held[number]) for number in numbers))
        self._flushed_s = time.monotonic()

    async def _transact(self, number: int, held: _Held) -> None:
        made = held.unit.made(self._quiet_ms(number, held))
        needed, folded = held.unit.needed, dict(held.folded)
        offsets = {topic: min(at, needed.get(topic, at)) for topic, at in folded.items()}
        if not made and offsets == held.committed:
            held.done = folded
            return
        metadata = {self._plan.inputs[0]: held.unit.metadata()}
        marks = {(topic, number): OffsetAndMetadata(at, metadata.get(topic, "")) for topic, at in offsets.items()}
        try:
            answers = Answers(others=list(enumerate(made)))
            await _bounded(held.publisher.transact_all(answers, marks, self._plan.group), STOP_S)
            failpoints.reach("after_commit")
        except ProducerFenced as error:
            await self._lose(number, error, SESSION_S)
        except AWAY as error:
            await self._lose(number, error, RETRY_S)
        else:
            held.committed, held.done = offsets, folded
            self.published += len(made)

    def _quiet_ms(self, number: int, held: _Held) -> int | None:
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

    async def _lose(self, number: int, error: Exception, pause_s: float) -> None:
        """Lets go of a number, to take it over again. Raises Refused if the brokers will say the same again."""
        if (refusal := kafka_refusal(self._plan.bootstrap, self._plan.kafka, error)) is not None:
            raise refusal from error
        log.warning("partition %d: %s; it is taken over again in %g s", number, in_words(error), pause_s)
        self.failures += 1
        self._not_before[number] = time.monotonic() + pause_s
        if (held := self._held.pop(number, None)) is not None:
            await closed(held.publisher)

    # -- takeovers

    def _tps(self, number: int) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for topic in self._plan.inputs]

    def _assigned(self) -> set[int]:
        """Returns the numbers whose partitions of all inputs are ours."""
        ours = self._consumer.assignment()
        return {tp.partition for tp in ours if all(one in ours for one in self._tps(tp.partition))}

    async def _take_over(self) -> None:
        for number in sorted(self._assigned() - self._held.keys()):
            if time.monotonic() < self._not_before.get(number, 0.0) or self._stopping.is_set():
                continue
            try:
                await self._take_over_one(number)
            except Rebalanced as error:  # the group gives us another assignment
                log.info("partition %d is not taken over: %s", number, error)
                self._not_before[number] = time.monotonic() + RETRY_S
            except AWAY as error:
                await self._lose(number, error, RETRY_S)

    async def _take_over_one(self, number: int) -> None:
        # A member whose session is over would fence the rightful owner (`stream.delivery.ownership.takeover`).
        await membership.confirm(self._consumer._coordinator, self._generation)
        name = f"{self._plan.group}|{self._plan.inputs[0]}|{number}"
        publisher = Publisher(self._plan.bootstrap, name, security=self._plan.kafka)
        try:
            # This fences the owner before us: from here on the committed offsets are fixed.
            await _bounded(publisher.start(), STOP_S)
            taken = await self._taken(number)
            unit, starts = await self._begin(taken), taken.starts
            async with self._lock:
                if number not in self._assigned():
                    raise Rebalanced("it was given to another member meanwhile")
                for tp in self._tps(number):
                    self._consumer.seek(tp, starts[tp.topic])
                self._held[number] = _Held(unit, publisher, dict(starts), dict(starts), starts)
        except BaseException:
            await closed(publisher)
            raise
        log.info("partition %d is ours, from %s on", number, ", ".join(f"{t} {at}" for t, at in starts.items()))

    async def _taken(self, number: int) -> Taken:
        tps = self._tps(number)
        bounds = {topic: one for (topic, _), one in (await bounds_by(self._consumer, tps)).items()}
        # This asks the coordinator, because aiokafka's `committed` leaves the metadata out.
        found = await self._consumer._coordinator.fetch_committed_offsets(tps)
        committed = {}
        for tp, mark in found.items():
            begin, end = bounds[tp.topic]
            if mark.offset > end:
                log.warning("%s/%d ends at %d, before %d: it is another log, read anew", *tp, end, mark.offset)
            elif mark.offset >= 0:
                committed[tp.topic] = (mark.offset, mark.metadata or "")
                if mark.offset < begin:
                    log.warning("%s/%d: retention took %d records unread", *tp, begin - mark.offset)
        return Taken(number, bounds, committed)

    # -- the group

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        await self._give_away({tp.partition for tp in revoked})

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        self._generation = self._consumer._coordinator.generation
        self.joined = True
        self._not_before.clear()

    async def _give_away(self, numbers: Collection[int]) -> None:
        """Publishes what is folded of these numbers, and lets go of them. Not between two polls: what was fetched and
        not folded is for the next owner."""
        async with self._lock:
            await self._flush(self._held.keys() & set(numbers))
            for number in numbers:
                if (held := self._held.pop(number, None)) is not None:
                    await closed(held.publisher)

    # -- where it stands

    def places(self) -> dict[int, Place]:
        """Returns where each of our numbers stands."""
        found = {}
        for number, held in sorted(self._held.items()):
            ours = self._consumer.assignment()
            ends = [(tp.topic, self._consumer.highwater(tp)) for tp in self._tps(number) if tp in ours]
            behind = [None if end is None else max(0, end - held.folded[topic]) for topic, end in ends]
            lag = None if None in behind else sum(one or 0 for one in behind)
            found[number] = Place(lag, held.unit.counts)
        return found

    async def _ends(self) -> dict[TopicPartition, int]:
        numbers = range(await asyncio.to_thread(partitions_of, self._plan))
        found = await bounds_by(self._consumer, [tp for number in numbers for tp in self._tps(number)])
        return {TopicPartition(*partition): one.end for partition, one in found.items()}

    def _has_reached(self, ends: Mapping[TopicPartition, int] | None) -> bool:
        """Returns whether all numbers that are ours are folded and published up to these ends."""
        if ends is None or not self.joined or self._assigned() != self._held.keys():
            return False
        return all(
            held.done[tp.topic] >= ends.get(tp, 0) for number, held in self._held.items() for tp in self._tps(number)
        )

    async def _report(self) -> None:
        before, silent = 0, False
        while True:
            await asyncio.sleep(REPORT_S)
            read, held = self.read, dict(self._held)
            try:
                async with asyncio.timeout(REPORT_S):
                    ends = await self._consumer.end_offsets([tp for number in held for tp in self._tps(number)])
            except (*AWAY, IllegalStateError) as error:
                log.warning("Kafka at %s does not answer: %s", self._plan.bootstrap, in_words(error))
                silent = True
                continue
            if read > before or silent:
                behind = sum(max(0, end - held[tp.partition].folded[tp.topic]) for tp, end in ends.items())
                what = (read, (read - before) / REPORT_S, self.published, len(held), behind)
                log.info("%d records read, %.0f/s; %d published; %d partitions, %d behind", *what)
            before, silent = read, False


async def _bounded(work: Coroutine[Any, Any, None], seconds: float) -> None:
    """Awaits the work for so long at most. A send that no broker answers cannot be cancelled sooner than it gives up,
    so that it is left to itself. Raises TimeoutError."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        task.cancel()
        task.add_done_callback(lambda one: one.cancelled() or one.exception())
        raise TimeoutError(f"the brokers did not answer in {seconds:g} s")
    task.result()


async def closed(publisher: Publisher) -> None:
    """Closes a publisher. One that failed may raise, which is ignored: it is not used again."""
    with suppress(*AWAY):
        async with asyncio.timeout(CLOSE_S):
            await publisher.close()
