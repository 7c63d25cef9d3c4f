"""The life of one member of a consumer group: it joins, takes partitions over, polls, gives away, and reports.

Members share the partition numbers: who has number n has partition n of every input, as Kafka's range assignor gives
topics that have as many partitions. For each number a member holds what its subclass makes in `_begin`. Everything that
folds, writes or gives away holds one lock, so that a number that is given away is folded no further:

    ask the group whether our assignment holds -> `_begin`: what was there, and from where on -> seek
        -> poll, `_fold` ... -> `_after` each poll: write what is due
        -> the group or a signal wants the number: `_last`, `_drop`

A number that failed is dropped, and taken over anew after a pause, from what is stored or committed. What was polled
and not folded by then is nobody's loss: whoever takes over seeks.

A log can get shorter: brokers lose its tail, or the topic is deleted and made anew. Then other records come at offsets
that were read already. Beside each offset a subclass stores what is known of the log (`stream.kafka.log.Seen`), and
each takeover compares that with what brokers say of it (`start_of`). `continuity` notices it between two takeovers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from typing import ClassVar, Final, Generic, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import IllegalStateError, KafkaError

from stream.config.security import in_words, kafka_refusal
from stream.config.times import LOOK_S, Pacer
from stream.kafka import log_facts, membership
from stream.kafka.log import Rebalanced, Seen, Start, start_of
from stream.kafka.pacing import BESIDE_EVERY_S, Pace
from stream.kafka.reading import SESSION_S, bounds_by
from stream.kafka.records.record_columns import Records
from stream.members.continuity import AnotherLog, Holding, check_follows
from stream.members.inputs import Inputs

log: Final = logging.getLogger(__name__)

POLL_S: Final = 0.5
RETRY_S: Final = 2.0
AT_ONCE: Final = 200  # records that are folded without letting others run: arrivals take some 2 ms each
STOP_S: Final = 20.0  # for the last write, when the group or a signal wants the partitions
# Servers or disks that are away or full: nothing is lost, and it is tried again.
AWAY: Final = (KafkaError, OSError, TimeoutError)


async def in_slices(records: Records) -> AsyncIterator[Records]:
    """Yields records some at a time, and lets others run after each: heartbeats of this member, and other members that
    share the event loop."""
    for begin in range(0, len(records), AT_ONCE):
        yield records[begin : begin + AT_ONCE]
        await asyncio.sleep(0)


H = TypeVar("H", bound=Holding)


class GroupMember(ConsumerRebalanceListener, ABC, Generic[H]):  # type: ignore[misc]  # aiokafka has no types
    """One member of a group."""

    MOST_POLLED: ClassVar[int] = 2_000  # records of a poll
    FOLDS: ClassVar[str] = "read"  # what it does with records, for the log
    FENCED: ClassVar[tuple[type[Exception], ...]] = ()  # another member has the number
    AWAY: ClassVar[tuple[type[Exception], ...]] = AWAY

    def __init__(self, inputs: Inputs, consumer: AIOKafkaConsumer) -> None:
        """Takes the group's consumer, which is not started."""
        self.read = 0  # records
        self.failures = 0  # takeovers and writes that are tried again
        self.shortened = 0  # logs that lacked records that were read
        self.joined = False  # we are of the group, with partitions or none
        self.inputs = inputs
        self._consumer = consumer
        self._holdings: dict[int, H] = {}
        self._not_before: dict[int, float] = {}  # when a number may be taken over again
        self._until: Mapping[TopicPartition, int] | None = None  # the end that there was, with `once`
        self._generation = -1  # of the present assignment
        self._lock = asyncio.Lock()  # one at a time folds, writes or gives away
        self._stopping = asyncio.Event()

    # -- what a subclass does

    @abstractmethod
    async def _begin(self, number: int) -> H:
        """Takes a number over from the owner before us, and returns it as it was where its logs go on: `_start` says
        where, of what is stored. What was made of records that a log lacks now is the subclass's to keep or to forget.
        Raises FENCED, AWAY."""

    @abstractmethod
    async def _fold(self, number: int, held: H, records: Records) -> None:
        """Takes the next records, under the lock. After any error nobody writes the number."""

    @abstractmethod
    async def _after(self) -> None:
        """Writes or publishes what is due after a poll, not under the lock."""

    @abstractmethod
    async def _last(self, numbers: Collection[int]) -> None:
        """Writes what is folded of numbers that are given away, under the lock. Not between two polls: what was fetched
        and not folded is for the next owner."""

    @abstractmethod
    def _describe(self) -> str:
        """Returns a part of the report's line: what became of the records."""

    async def _drop(self, number: int, held: H) -> None:
        """Closes what belongs to a number that is not ours any more."""

    def _offsets_done(self, held: H) -> Mapping[str, int]:
        """Returns up to which offsets all is done that `once` waits for."""
        return held.folded

    async def _poll(self) -> Mapping[TopicPartition, Records]:
        return await self._get_many(int(1000 * POLL_S))

    async def _get_many(self, timeout_ms: int) -> Mapping[TopicPartition, Records]:
        polled: Mapping[TopicPartition, Records] = await self._consumer.getmany(
            timeout_ms=timeout_ms, max_records=self.MOST_POLLED
        )
        return polled

    # -- its life

    def stop(self) -> None:
        """Lets `run` end, once all that was folded is written."""
        self._stopping.set()

    async def close(self) -> None:
        """Closes what a member has that has never run, too."""
        await self._consumer.stop()

    async def run(self) -> None:
        """Works until `stop`; with `once`, up to the present end. Raises KafkaError, Refused."""
        await self._consumer.start()
        Pace(self._consumer._fetcher, BESIDE_EVERY_S)  # the embedded broker answers at once where there is nothing
        report = asyncio.create_task(self._report())
        try:
            self._consumer.subscribe(list(self.inputs.topics), listener=self)
            await self._work()
        finally:
            report.cancel()
            try:
                await self._give_away(set(self._holdings))
            finally:
                await self._consumer.stop()

    async def _work(self) -> None:
        if self.inputs.once:
            self._until = await self._ends()
        while not self._stopping.is_set() and not await self._has_reached(self._until):
            await self._step()

    async def _step(self) -> None:
        """Takes over what is new, folds what has come, and writes it when it is time."""
        await self._take_over()
        before = dict(self._holdings)
        polled = await self._poll()
        async with self._lock:
            for tp, records in polled.items():
                held = before.get(tp.partition)
                if held is not None and self._holdings.get(tp.partition) is held:  # else given away, or taken over anew
                    await self._fold_one(tp, held, records)
        await self._after()

    async def _fold_one(self, tp: TopicPartition, held: H, records: Records) -> None:
        try:
            await check_follows(self._consumer, tp, held, records)
            await self._fold(tp.partition, held, records)
        except AnotherLog as error:
            log.warning("%s", error)
            await self._let_go(tp.partition)
        except BaseException:  # they may be folded in part, so that nobody may write them
            await self._let_go(tp.partition)
            raise
        else:
            held.note(tp.topic, records)
            self.read += len(records)

    async def _move(self) -> None:
        """Notes up to where all is folded, between two polls: beyond the last record there may be markers."""
        for number, held in list(self._holdings.items()):
            for tp in self._tps(number):
                with suppress(IllegalStateError, KafkaError):  # it is not ours any more
                    held.folded[tp.topic] = max(int(await self._consumer.position(tp)), held.folded[tp.topic])

    # -- takeovers

    def _tps(self, number: int) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for topic in self.inputs.topics]

    def _assigned_numbers(self) -> set[int]:
        """Returns the numbers whose partitions of all inputs are ours."""
        ours = self._consumer.assignment()
        return {tp.partition for tp in ours if all(one in ours for one in self._tps(tp.partition))}

    async def _take_over(self) -> None:
        for number in sorted(self._assigned_numbers() - self._holdings.keys()):
            if time.monotonic() < self._not_before.get(number, 0.0) or self._stopping.is_set():
                continue
            try:
                await self._take_over_one(number)
            except Rebalanced as error:  # the group gives us another assignment
                log.info("partition %d is not taken over: %s", number, error)
                self._not_before[number] = time.monotonic() + RETRY_S
            except self.FENCED as error:
                await self._lose(number, error, SESSION_S)
            except self.AWAY as error:
                await self._lose(number, error, RETRY_S)

    async def _take_over_one(self, number: int) -> None:
        # A member whose session is over would fence the rightful owner (`stream.delivery.ownership.takeover`). So would
        # one whose takeover before this one took so long that a newer generation has given the number away.
        generation = self._generation
        await membership.confirm(self._consumer._coordinator, generation)
        self._check_assigned(number)
        held = await self._begin(number)
        try:
            async with self._lock:
                self._check_assigned(number)
                if self._generation != generation:  # another member may have had it meanwhile, or may get it now
                    raise Rebalanced("the group has begun to give the partitions anew meanwhile")
                for tp in self._tps(number):
                    self._consumer.seek(tp, held.folded[tp.topic])
                self._holdings[number] = held
        except BaseException:
            await self._drop(number, held)
            raise
        self._tell(number, held)

    async def _read_committed(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        """Returns what the group has committed of these partitions, if anything: the next offset, and the metadata. It
        asks the coordinator, because aiokafka's `committed` leaves the metadata out. Raises KafkaError."""
        marks = await self._consumer._coordinator.fetch_committed_offsets(tps)
        return {tp: (mark.offset, mark.metadata or "") for tp, mark in marks.items() if mark.offset >= 0}

    async def _start(self, tp: TopicPartition, stored: int | None, seen: Seen) -> Start:
        """Asks brokers where a log goes on of which all below `stored` was read. The owner before us must not be able
        to change what is stored any more. Raises KafkaError."""
        return start_of(stored, seen, await log_facts.ask(self._consumer, tp, seen.history.leader_epoch))

    def _tell(self, number: int, held: H) -> None:
        for topic, start in held.starts.items():
            if start.why:
                log.log(logging.ERROR if start.is_cut else logging.WARNING, "%s/%d: %s", topic, number, start.why)
            if start.is_cut:
                self.shortened += 1
                tp = TopicPartition(topic, number)
                if self._until is not None:  # else `once` would wait for records that nobody has
                    self._until = {**self._until, tp: min(self._until.get(tp, 0), start.log.end)}
        where = ", ".join(f"{topic} {at}" for topic, at in held.folded.items())
        log.info("partition %d is ours, from %s on", number, where)

    def _check_assigned(self, number: int) -> None:
        """Raises Rebalanced if a number is not ours any more."""
        if number not in self._assigned_numbers():
            raise Rebalanced("it was given to another member meanwhile")

    async def _lose(self, number: int, error: Exception, pause_s: float) -> None:
        """Lets go of a number, to take it over again. Raises Refused if the brokers will say the same again."""
        if (refusal := kafka_refusal(self.inputs.bootstrap, self.inputs.kafka, error)) is not None:
            raise refusal from error
        log.warning("partition %d: %s; it is taken over again in %g s", number, in_words(error), pause_s)
        self.failures += 1
        self._not_before[number] = time.monotonic() + pause_s
        await self._let_go(number)

    async def _let_go(self, number: int) -> None:
        if (held := self._holdings.pop(number, None)) is not None:
            await self._drop(number, held)

    # -- the group

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        # aiokafka leaves us the assignment until it has the next one. What we took over in this time we would go on to
        # hold, whoever gets it; and with what was there then, if we get it again later.
        self._generation = -1
        await self._give_away({tp.partition for tp in revoked})

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        self._generation = self._consumer._coordinator.generation
        self.joined = True
        self._not_before.clear()

    async def _give_away(self, numbers: Collection[int]) -> None:
        async with self._lock:
            try:
                await self._last(self._holdings.keys() & set(numbers))
            finally:
                for number in numbers:
                    await self._let_go(number)

    # -- where it stands

    def hindrances(self) -> list[str]:
        """Returns why the member is not ready; none if it is."""
        return [] if self.joined else ["not a member of the group yet"]

    def lags(self) -> dict[int, int | None]:
        """Returns how many records each of our numbers is behind the ends of its logs; None: unknown."""
        lags: dict[int, int | None] = {}
        ours = self._consumer.assignment()
        for number, held in sorted(self._holdings.items()):
            ends = [(tp.topic, self._consumer.highwater(tp)) for tp in self._tps(number) if tp in ours]
            behind = [None if end is None else max(0, end - held.folded[topic]) for topic, end in ends]
            lags[number] = None if None in behind else sum(one or 0 for one in behind)
        return lags

    async def _ends(self) -> dict[TopicPartition, int]:
        numbers = range(await asyncio.to_thread(self.inputs.partitions))
        bounds = await bounds_by(self._consumer, [tp for number in numbers for tp in self._tps(number)])
        return {TopicPartition(*partition): one.end for partition, one in bounds.items()}

    async def _has_reached(self, ends: Mapping[TopicPartition, int] | None) -> bool:
        """Returns whether all numbers that are ours are done up to these ends."""
        if ends is None:
            return False
        await self._move()
        if not self.joined or self._assigned_numbers() != self._holdings.keys():
            return False
        return all(
            self._offsets_done(held)[tp.topic] >= ends.get(tp, 0)
            for number, held in self._holdings.items()
            for tp in self._tps(number)
        )

    async def _report(self) -> None:
        pacer, silent = Pacer(self.read, time.monotonic()), False
        while True:
            await asyncio.sleep(LOOK_S)
            held = dict(self._holdings)
            try:
                async with asyncio.timeout(LOOK_S):
                    ends = await self._consumer.end_offsets([tp for number in held for tp in self._tps(number)])
            except (*self.AWAY, IllegalStateError) as error:
                if not silent:
                    log.warning("Kafka at %s does not answer: %s", self.inputs.bootstrap, in_words(error))
                silent = True
                continue
            if silent:
                log.info("Kafka at %s answers again", self.inputs.bootstrap)
            silent = False
            if (line := pacer.take_line(self.read, time.monotonic())) is not None:
                behind = sum(max(0, end - held[tp.partition].folded[tp.topic]) for tp, end in ends.items())
                so_far = line.now, self.FOLDS, line.per_s, self._describe()
                log.info("%d records %s, %.1f/s; %s; %d partitions, %d behind", *so_far, len(held), behind)
