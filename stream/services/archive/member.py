"""One member of the group that archives a topic's pings.

Members share the partitions, and each lands its own. Where a partition goes on is what its manifest says; offsets are
committed to Kafka, too, but only so that the group's lag can be seen.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import IllegalStateError, KafkaError

from stream.adapters.archived.catalog import Catalog, of_topic
from stream.config.security import kafka_refusal
from stream.kafka import admin, log_facts
from stream.kafka.group_consumer import SESSION_S, group_consumer
from stream.kafka.log import bounds_by
from stream.kafka.pacing import BESIDE_EVERY_S, Pace
from stream.services.archive.landing import AnotherLog, Fenced, Owned
from stream.services.archive.settings import ArchiveSettings

log: Final = logging.getLogger(__name__)

POLL_MS: Final = 500
POLL_RECORDS: Final = 10_000
REPORT_S: Final = 10.0
RETRY_S: Final = 2.0
STOP_S: Final = 20.0  # for the last landing, when the group or a signal wants the partitions
# Servers or disks that are away or full: nothing is lost, and it is tried again.
AWAY: Final = (KafkaError, OSError, TimeoutError)


class Runner(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One member of the group."""

    def __init__(self, settings: ArchiveSettings, catalog: Catalog, consumer: AIOKafkaConsumer) -> None:
        self._settings = settings
        self._catalog = catalog
        self._consumer = consumer
        self._topic = settings.topics.pings
        self._owned: dict[TopicPartition, Owned] = {}
        self._not_before: dict[TopicPartition, float] = {}  # when a partition may be taken over again
        self._lock = asyncio.Lock()  # one at a time takes records, lands or gives away
        self._stopping = asyncio.Event()
        self._landed_s = time.monotonic()
        self._taken = 0  # records
        self._landed = 0  # pings
        self._failed = False  # the last landing
        self._joined = False  # we are of the group, with partitions or none

    def stop(self) -> None:
        """Lets `run` end, once all has landed."""
        self._stopping.set()

    async def run(self) -> None:
        """Archives until `stop`; with `once`, up to the present end. Raises KafkaError, Refused, ArchiveDamaged."""
        await self._consumer.start()
        Pace(self._consumer._fetcher, BESIDE_EVERY_S)  # the embedded broker answers at once where there is nothing
        try:
            self._consumer.subscribe([self._topic], listener=self)
            report = asyncio.create_task(self._report())
            try:
                await (self._run_once() if self._settings.once else self._run_on())
            finally:
                report.cancel()
                await self._give_away(list(self._owned))
        finally:
            await self._consumer.stop()

    async def _run_on(self) -> None:
        while not self._stopping.is_set():
            await self._step()
            await self._tidy()

    async def _run_once(self) -> None:
        ends = await self._ends()
        while not self._stopping.is_set() and not await self._has_taken(ends):
            await self._step()
        await self._land_all()
        while not self._stopping.is_set() and await self._tidy():
            pass
        log.info("archived up to the end: %d pings have landed", self._landed)

    async def _step(self) -> None:
        """Takes over what is new, takes what has come, and lands it when it is time."""
        await self._take_over()
        before = dict(self._owned)
        polled = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
        async with self._lock:
            for tp, records in polled.items():
                if tp in before and self._owned.get(tp) is before[tp]:  # else it was given away, or taken over anew
                    await self._add(tp, records)
        if self._is_due():
            await self._land_all()

    def _is_due(self) -> bool:
        rows = sum(owned.rows for owned in self._owned.values())
        late = time.monotonic() - self._landed_s >= self._settings.every_s
        return late or rows >= self._settings.rows or any(owned.is_due for owned in self._owned.values())

    async def _add(self, tp: TopicPartition, records: Any) -> None:
        try:
            await asyncio.to_thread(self._owned[tp].add, records)
            self._taken += len(records)
        except AnotherLog as error:
            log.warning("%s", error)
            del self._owned[tp]
        except BaseException:  # they may be taken in part, so that nobody may land them
            self._owned.pop(tp, None)
            raise

    async def _take_over(self) -> None:
        for tp in sorted(self._consumer.assignment() - self._owned.keys()):
            if time.monotonic() < self._not_before.get(tp, 0.0):
                continue
            try:
                found = await log_facts.ask(self._consumer, tp, log_facts.UNDEFINED)
                async with self._lock:
                    if tp not in self._consumer.assignment():
                        continue
                    rules = self._settings.rules
                    owned = await asyncio.to_thread(Owned.taken_over, self._catalog, tp.partition, found, rules)
                    if tp not in self._consumer.assignment():
                        continue
                    self._consumer.seek(tp, found.begin if owned.next_offset is None else owned.next_offset)
                    self._owned[tp] = owned
                begun = "nothing yet" if owned.next_offset is None else owned.next_offset
                log.info("%s/%d is ours, landed up to %s", tp.topic, tp.partition, begun)
            except Fenced as error:
                self._lose(tp, error, SESSION_S)
            except AWAY as error:
                self._lose(tp, error, RETRY_S)

    def _lose(self, tp: TopicPartition, error: Exception, pause_s: float) -> None:
        log.warning("%s/%d: %s; again in %g s", tp.topic, tp.partition, in_words(error), pause_s)
        self._owned.pop(tp, None)
        self._not_before[tp] = time.monotonic() + pause_s

    async def _land_all(self) -> None:
        """Lands what waits, however long that takes."""
        async with self._lock:
            for tp, owned in self._owned.items():
                owned.next_offset = await self._position(tp, owned)
            await self._land(list(self._owned))
        while self._failed and not self._stopping.is_set():
            await asyncio.sleep(RETRY_S)
            async with self._lock:
                await self._land(list(self._owned))

    async def _land(self, tps: Sequence[TopicPartition]) -> None:
        self._failed = False
        for tp in tps:
            owned = self._owned.get(tp)
            if owned is None:
                continue
            try:
                pings = await asyncio.to_thread(owned.land, _now_ms())
                if pings is not None:
                    self._landed += pings
                    log.info("%s/%d: %d pings landed, up to %d", tp.topic, tp.partition, pings, owned.next_offset)
                    await self._commit(tp, owned.next_offset)
            except Fenced as error:
                self._lose(tp, error, SESSION_S)
            except AWAY as error:
                log.warning("%s/%d cannot land, it is tried again: %s", tp.topic, tp.partition, in_words(error))
                self._failed = True
        self._landed_s = time.monotonic()

    async def _tidy(self) -> bool:
        """Does one step for one partition, so that records do not wait for long. Returns whether there was any."""
        async with self._lock:
            for tp, owned in list(self._owned.items()):
                try:
                    if await asyncio.to_thread(owned.tidy, _now_ms()):
                        return True
                except Fenced as error:
                    self._lose(tp, error, SESSION_S)
                except AWAY as error:
                    self._lose(tp, error, RETRY_S)
        return False

    async def _position(self, tp: TopicPartition, owned: Owned) -> int | None:
        """Returns the offset up to which all records were polled: beyond the last one there may be some that are no
        records. Only between two polls are all of these taken.
        """
        try:
            return max(int(await self._consumer.position(tp)), owned.next_offset or 0)
        except (IllegalStateError, KafkaError):  # it is not ours any more
            return owned.next_offset

    async def _commit(self, tp: TopicPartition, offset: int | None) -> None:
        try:
            await self._consumer.commit({tp: offset})
        except (KafkaError, IllegalStateError) as error:
            log.debug("the offset of %s was not committed: %r", tp, error)

    # -- the group

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        await self._give_away(revoked)

    async def _give_away(self, tps: Sequence[TopicPartition]) -> None:
        async with self._lock:
            try:
                async with asyncio.timeout(STOP_S):
                    await self._land(tps)
            except TimeoutError:
                log.warning("not all has landed in %g s; the next owner takes it from the log", STOP_S)
            for tp in tps:
                self._owned.pop(tp, None)

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        self._joined = True
        self._not_before.clear()

    # -- where it stands

    async def _ends(self) -> dict[TopicPartition, int]:
        partitions = await asyncio.to_thread(partitions_of, self._settings)
        tps = [TopicPartition(self._topic, number) for number in range(partitions)]
        found = await bounds_by(self._consumer, tps)
        return {tp: found[tp.topic, tp.partition].end for tp in tps}

    async def _has_taken(self, ends: dict[TopicPartition, int]) -> bool:
        """Returns whether all records of our partitions are taken, up to these ends."""
        assigned = self._consumer.assignment()
        if not self._joined or assigned != self._owned.keys():
            return False
        return all([(await self._position(tp, self._owned[tp]) or 0) >= ends.get(tp, 0) for tp in assigned])

    async def _report(self) -> None:
        before, silent = 0, False
        while True:
            await asyncio.sleep(REPORT_S)
            taken, owned = self._taken, dict(self._owned)
            try:
                async with asyncio.timeout(REPORT_S):
                    ends = await self._consumer.end_offsets(list(owned))
                behind = sum(max(end - (owned[tp].next_offset or 0), 0) for tp, end in ends.items())
            except (*AWAY, IllegalStateError) as error:
                log.warning("Kafka at %s does not answer: %s", self._settings.bootstrap, in_words(error))
                silent = True
                continue
            if taken > before or silent:
                rate, waiting = (taken - before) / REPORT_S, sum(one.rows for one in owned.values())
                what = (taken, rate, waiting, self._landed, len(owned), behind)
                log.info("%d records taken, %.0f/s; %d pings wait, %d landed; %d partitions, %d behind", *what)
            before, silent = taken, False


async def serve(settings: ArchiveSettings, stopped_by: Sequence[int]) -> None:
    """Runs one member until one of these signals comes, or with `once`, until all has landed.

    Raises ConnectionError if Kafka does not answer, ValueError if there is no such topic or the archive's URL is of a
    kind that cannot be written to, Refused, ArchiveDamaged, OSError.
    """
    await asyncio.to_thread(partitions_of, settings)
    catalog = await asyncio.to_thread(of_topic, settings.archive, settings.topics.pings)
    try:
        runner = Runner(settings, catalog, consumer_of(settings))
        for number in stopped_by:
            asyncio.get_running_loop().add_signal_handler(number, runner.stop)
        await runner.run()
    except KafkaError as error:
        refusal = kafka_refusal(settings.bootstrap, settings.kafka, error)
        raise refusal or ConnectionError(f"Kafka at {settings.bootstrap} failed: {in_words(error)}") from error


def consumer_of(settings: ArchiveSettings) -> AIOKafkaConsumer:
    """Returns the consumer of a member, which is not started."""
    return group_consumer(settings.bootstrap, settings.kafka, settings.group)


def partitions_of(settings: ArchiveSettings) -> int:
    """Returns how many partitions the pings have. Raises as `admin.connected` and `admin.partitions_of`."""
    with admin.connected(settings.bootstrap, settings.kafka) as client:
        return admin.partitions_of(client, settings.topics.pings)


def in_words(error: BaseException) -> str:
    """Returns an error's text, or its name, as errors of Kafka's client have none."""
    return str(error) or type(error).__name__


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
