"""One member of the group that counts a topic's pings.

Members share the partitions. Each counts its own and writes what it counted to Redis, with the offset up to which it
did. Who has partition 0 makes the versions, of what Redis holds of all partitions. Offsets are committed to Kafka, too,
but only so that the group's lag can be seen.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import IllegalStateError, KafkaError
from redis.exceptions import RedisError

from stream.adapters.live.on_topic import reader_of
from stream.atlas.counting.making import Maker, in_words
from stream.atlas.counting.owned import AnotherLog, Owned
from stream.atlas.counting.servers import consumer_of, partitions_of, reach
from stream.atlas.counting.settings import RunSettings
from stream.config.security import kafka_refusal
from stream.kafka.group_consumer import SESSION_S
from stream.kafka.log import bounds_by
from stream.kafka.pacing import BESIDE_EVERY_S, Pace
from stream.store.base import Fenced
from stream.store.sums_store import SumsLost, SumsStore
from stream.versions.announcing import NotAnnounced

log: Final = logging.getLogger(__name__)

POLL_MS: Final = 500
POLL_RECORDS: Final = 50_000
WRITE_S: Final = 30.0  # between two writes to Redis; after a crash, what came since is counted again
WRITING_SHARE: Final = 0.05  # of the time: where a write takes long, because a partition has many entities, it is rarer
MOST_ROWS: Final = 1_000_000  # of sums that are not written yet, some 150 MB
REPORT_S: Final = 10.0
RETRY_S: Final = 2.0
AGAIN_S: Final = 30.0  # from a version that failed to the next try
SETTLE_S: Final = 5.0  # from an announcement that failed to the try to end it, for which workers wait
STOP_S: Final = 20.0  # for the last write, when the group or a signal wants the partitions
# Servers that are away: nothing is lost, and it is tried again.
AWAY: Final = (RedisError, KafkaError, OSError, TimeoutError)


class Runner(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One member of the group."""

    def __init__(self, settings: RunSettings, store: SumsStore, consumer: AIOKafkaConsumer) -> None:
        self._settings = settings
        self._store = store
        self._consumer = consumer
        self._maker = Maker(settings, store, consumer)
        self._topic = settings.topics.pings
        self._owned: dict[TopicPartition, Owned] = {}
        self._anew: set[TopicPartition] = set()  # to be forgotten when they are taken over
        self._not_before: dict[TopicPartition, float] = {}  # when a partition may be taken over again
        self._lock = asyncio.Lock()  # one at a time counts, writes or gives away
        self._stopping = asyncio.Event()
        self._written_s = time.monotonic()
        self._took_s = 0.0  # the last write
        self._due_s = _next_due(time.time(), settings.every_s)
        self._settle_s = 0.0  # when to end what an announcer left
        self._counted = 0
        self._unwritten = False  # the last write failed
        self._joined = False  # we are of the group, with partitions or none

    def stop(self) -> None:
        """Lets `run` end, once all is written."""
        self._stopping.set()

    async def run(self) -> None:
        """Counts until `stop`; with `once`, up to the present end. Raises KafkaError, Refused."""
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
            if time.time() >= self._settle_s and self._makes_versions:
                await self._settle()
            if time.time() >= self._due_s and self._makes_versions:
                self._due_s = _next_due(time.time(), self._settings.every_s)
                await self._version()

    async def _run_once(self) -> None:
        ends = await self._ends()
        while not self._stopping.is_set() and not await self._has_counted(ends):
            await self._step()
        await self._write()
        if not self._makes_versions:
            log.info("counted up to the end; the member with partition 0 makes the version")
            return
        while not self._stopping.is_set():
            held = {tp: await self._store.held((tp.topic, tp.partition)) for tp in ends}
            if all((held[tp].next_offset or 0) >= end for tp, end in ends.items()):
                if await self._version():
                    return
                raise RuntimeError("the version could not be made: see above")
            await self._step()

    async def _step(self) -> None:
        """Takes over what is new, counts what has come, and writes it when it is time."""
        await self._take_over()
        before = dict(self._owned)
        polled = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
        async with self._lock:
            for tp, records in polled.items():
                if tp in before and self._owned.get(tp) is before[tp]:  # else it was given away, or taken over anew
                    await self._add(tp, records)
            rows = sum(owned.fresh_rows for owned in self._owned.values())
        if rows >= MOST_ROWS or time.monotonic() - self._written_s >= max(WRITE_S, self._took_s / WRITING_SHARE):
            await self._write()
            while self._unwritten and not self._stopping.is_set():
                await asyncio.sleep(RETRY_S)
                await self._write()

    async def _add(self, tp: TopicPartition, records: Any) -> None:
        try:
            await self._owned[tp].add(records)
            self._counted += len(records)
        except AnotherLog as error:
            log.warning("%s", error)
            del self._owned[tp]
        except BaseException:  # it may be counted in part, so that nobody may write it
            self._owned.pop(tp, None)
            raise

    async def _take_over(self) -> None:
        for tp in sorted(self._consumer.assignment() - self._owned.keys()):
            if time.monotonic() < self._not_before.get(tp, 0.0):
                continue
            try:
                (found,) = (await bounds_by(self._consumer, [tp])).values()
                how: dict[str, Any] = {"without": self._settings.without, "anew": tp in self._anew}
                how["foreign"] = reader_of(self._settings.map)
                owned = await Owned.taken_over(self._store, (tp.topic, tp.partition), found, **how)
                self._anew.discard(tp)
                async with self._lock:
                    if tp not in self._consumer.assignment():
                        continue
                    self._consumer.seek(tp, found.begin if owned.next_offset is None else owned.next_offset)
                    self._owned[tp] = owned
                if tp.partition == 0:
                    self._settle_s = 0.0
                log.info("%s/%d is ours, counted up to %s", tp.topic, tp.partition, owned.next_offset or "nothing yet")
            except Fenced as error:
                self._lose(tp, error, SESSION_S)
            except AWAY as error:
                self._lose(tp, error, RETRY_S)

    def _lose(self, tp: TopicPartition, error: Exception, pause_s: float) -> None:
        log.warning("%s/%d: %s; again in %g s", tp.topic, tp.partition, in_words(error), pause_s)
        self._owned.pop(tp, None)
        self._not_before[tp] = time.monotonic() + pause_s

    async def _discard(self, error: SumsLost) -> None:
        """Lets a partition be counted anew, by us or by the member that owns it."""
        self._lose(TopicPartition(*error.partition), error, RETRY_S)
        try:
            await self._store.discard(error.partition)
        except (Fenced, *AWAY) as failed:
            log.warning("%s/%d is not discarded yet: %s", *error.partition, in_words(failed))

    async def _write(self) -> None:
        """Writes what was counted to Redis, and the offsets to Kafka."""
        async with self._lock:
            for tp, owned in self._owned.items():
                owned.next_offset = await self._position(tp, owned)
            await self._write_some(list(self._owned))

    async def _write_some(self, tps: Sequence[TopicPartition]) -> None:
        self._unwritten, began_s = False, time.monotonic()
        for tp in tps:
            owned = self._owned.get(tp)
            if owned is None:
                continue
            try:
                if await owned.write(self._settings.retention_days):
                    await self._commit(tp, owned.next_offset)
            except Fenced as error:  # also if Redis has lost its data
                self._lose(tp, error, SESSION_S)
            except SumsLost as error:
                await self._discard(error)
            except AWAY as error:
                log.warning("%s/%d cannot be written, it is tried again: %s", tp.topic, tp.partition, in_words(error))
                self._unwritten = True
        self._written_s = time.monotonic()
        self._took_s = self._written_s - began_s

    async def _position(self, tp: TopicPartition, owned: Owned) -> int | None:
        """Returns the offset up to which all records were polled: beyond the last one there may be some that are no
        records. Only between two polls are all of these counted.
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
                    await self._write_some(tps)
            except TimeoutError:
                log.warning("not all was written in %g s; the next owner counts it again", STOP_S)
            for tp in tps:
                self._owned.pop(tp, None)

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        if self._settings.anew and not self._joined:
            self._anew = set(assigned)
        self._joined = True
        self._not_before.clear()

    # -- versions

    @property
    def _makes_versions(self) -> bool:
        return TopicPartition(self._topic, 0) in self._owned

    async def _version(self) -> bool:
        """Makes a version, and announces it. Returns whether that was possible."""
        await self._write()
        try:
            await self._maker.version(len(self._consumer.partitions_for_topic(self._topic) or ()))
        except SumsLost as error:  # the last version serves on while it is counted anew
            await self._discard(error)
            return False
        except (*AWAY, NotAnnounced, RuntimeError) as error:
            log.warning("no version was made: %s; again in %g s", in_words(error), AGAIN_S)
            self._settle_s = time.time() + SETTLE_S
            self._due_s = min(self._due_s, time.time() + AGAIN_S)
            return False
        return True

    async def _settle(self) -> None:
        try:
            await self._maker.settle()
            self._settle_s = math.inf
        except (*AWAY, RuntimeError) as error:
            log.warning("what was announced is not ended yet: %s; again in %g s", in_words(error), SETTLE_S)
            self._settle_s = time.time() + SETTLE_S

    # -- where it stands

    async def _ends(self) -> dict[TopicPartition, int]:
        partitions = await asyncio.to_thread(partitions_of, self._settings)
        tps = [TopicPartition(self._topic, number) for number in range(partitions)]
        found = await bounds_by(self._consumer, tps)
        return {tp: found[tp.topic, tp.partition].end for tp in tps}

    async def _has_counted(self, ends: dict[TopicPartition, int]) -> bool:
        """Returns whether all partitions that are ours are counted up to these ends."""
        assigned = self._consumer.assignment()
        if not self._joined or assigned != self._owned.keys():
            return False
        return all([(await self._position(tp, self._owned[tp]) or 0) >= ends.get(tp, 0) for tp in assigned])

    async def _report(self) -> None:
        before, silent = 0, False
        while True:
            await asyncio.sleep(REPORT_S)
            counted, owned = self._counted, dict(self._owned)
            try:
                async with asyncio.timeout(REPORT_S):
                    ends = await self._consumer.end_offsets(list(owned))
                behind = sum(max(end - (owned[tp].next_offset or 0), 0) for tp, end in ends.items())
            except (*AWAY, IllegalStateError) as error:
                log.warning("Kafka at %s does not answer: %s", self._settings.bootstrap, in_words(error))
                silent = True
                continue
            if counted > before or silent:
                rate = (counted - before) / REPORT_S
                log.info("%d records counted, %.0f/s, %d partitions, %d behind", counted, rate, len(owned), behind)
            before, silent = counted, False


async def serve(settings: RunSettings, stopped_by: Sequence[int]) -> None:
    """Runs one member until one of these signals comes, or with `once`, until it has made a version.

    Raises ConnectionError if Kafka or Redis does not answer, ValueError if there is no such topic, Refused.
    """
    await asyncio.to_thread(partitions_of, settings)
    store = SumsStore(settings.redis_url, settings.group, settings.retention_days * 86_400, settings.redis)
    try:
        await reach(store, settings)
        runner = Runner(settings, store, consumer_of(settings))
        for number in stopped_by:
            asyncio.get_running_loop().add_signal_handler(number, runner.stop)
        await runner.run()
    except KafkaError as error:
        refusal = kafka_refusal(settings.bootstrap, settings.kafka, error)
        raise refusal or ConnectionError(f"Kafka at {settings.bootstrap} failed: {in_words(error)}") from error
    finally:
        await store.close()


def _next_due(now_s: float, every_s: float) -> float:
    """Returns the next time that is a multiple of `every_s`."""
    return (now_s // every_s + 1) * every_s
