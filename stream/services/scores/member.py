"""One member of the group that scores the forecasts of a topic. Members share the partitions.

Scores are flushed, then the offset is committed, with what a successor needs (stream.services.scores.owned). After a
crash in between, the successor publishes some again, with the same ids and bytes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from stream.config import failpoints
from stream.config.http_access import Address
from stream.config.security import kafka_refusal
from stream.kafka import admin
from stream.kafka.group_consumer import group_consumer
from stream.kafka.log import bounds_by
from stream.kafka.pacing import BESIDE_EVERY_S, Pace
from stream.kafka.producer import Publisher
from stream.kafka.records.encoded_batches import Answers
from stream.kafka.records.record_columns import Records
from stream.probes.http_server import serving
from stream.services.scores.owned import Beside, Decided, Owned
from stream.services.scores.pages import Pages, Place
from stream.services.scores.settings import ScoreSettings
from stream.services.scores.shadows.following import Shadows, check_partitions
from stream.services.scores.sums import Sums
from stream.wire import NO_TIME_MS, Drift, Outgoing, Record, dumps_scored
from stream.wire.ids import EVENT_ID, event_headers

log: Final = logging.getLogger(__name__)

POLL_MS: Final = 500
POLLED_MS: Final = 1_800_000  # at least once in this time: shadows may read many pings between two polls
POLL_RECORDS: Final = 2_000  # a tenth of a second of work, between two heartbeats
COMMIT_S: Final = 1.0
MOST_UNSENT: Final = 20_000  # scores, of 600 bytes
RETRY_S: Final = 2.0
REPORT_S: Final = 10.0


class Runner(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One member of the group."""

    def __init__(
        self, settings: ScoreSettings, consumer: AIOKafkaConsumer, publisher: Publisher, shadows: Shadows | None = None
    ) -> None:
        self.sums = Sums()
        self.shadows = shadows
        self.joined = False
        self._settings = settings
        self._consumer = consumer
        self._publisher = publisher
        self._topic = settings.topics.forecasts
        self._owned: dict[TopicPartition, Owned] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._unsent: dict[TopicPartition, list[Decided]] = {}
        self._not_before: dict[TopicPartition, float] = {}  # when a partition may be taken over again
        self._lock = asyncio.Lock()  # one at a time folds, publishes or gives away
        self._stopping = asyncio.Event()
        self._flushed_s = time.monotonic()
        self._scored = 0

    def stop(self) -> None:
        """Lets `run` end, once all is published."""
        self._stopping.set()

    async def run(self) -> None:
        """Scores until `stop`; with `once`, up to the present end. Raises KafkaError, Refused."""
        await self._consumer.start()
        Pace(self._consumer._fetcher, BESIDE_EVERY_S)  # the embedded broker answers at once where there is nothing
        try:
            self._consumer.subscribe([self._topic], listener=self)
            report = asyncio.create_task(self._report())
            try:
                ends = await self._ends() if self._settings.once else None
                while not self._stopping.is_set() and not await self._has_reached(ends):
                    await self._step()
                async with self._lock:
                    await self._flush()
            finally:
                report.cancel()
        finally:
            await self._consumer.stop()

    async def _step(self) -> None:
        """Takes over what is new, scores what has come, and publishes and commits when it is time."""
        await self._take_over()
        before = dict(self._owned)
        polled = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
        # Not under the lock: it may take a while, and whatever is given away meanwhile is not folded.
        beside = {} if self.shadows is None else await self._beside(self.shadows, polled, before)
        async with self._lock:
            for tp, records in polled.items():
                if tp in before and self._owned.get(tp) is before[tp]:  # else it was given away, or taken over anew
                    self._unsent.setdefault(tp, []).extend(before[tp].fold(records, beside.get(tp)))
            unsent = sum(map(len, self._unsent.values()))
            if unsent >= MOST_UNSENT or time.monotonic() - self._flushed_s >= COMMIT_S:
                await self._flush()

    async def _beside(
        self, shadows: Shadows, polled: Mapping[TopicPartition, Records], owned: Mapping[TopicPartition, Owned]
    ) -> dict[TopicPartition, Beside | None]:
        """Returns what shadows say of the pings of these forecasts."""
        await shadows.look()
        return {
            tp: await shadows.beside(tp.partition, owned[tp], records) for tp, records in polled.items() if tp in owned
        }

    async def _take_over(self) -> None:
        for tp in sorted(self._consumer.assignment() - self._owned.keys()):
            if time.monotonic() < self._not_before.get(tp, 0.0):
                continue
            try:
                bounds = (await bounds_by(self._consumer, [tp]))[tp.topic, tp.partition]
                # This asks the coordinator, because aiokafka's `committed` leaves the metadata out.
                found = (await self._consumer._coordinator.fetch_committed_offsets([tp])).get(tp)
                committed = None if found is None or found.offset < 0 else (found.offset, found.metadata)
                owned = Owned.taken_over((tp.topic, tp.partition), self._settings, committed, bounds)
                async with self._lock:
                    if tp not in self._consumer.assignment():
                        continue
                    self._consumer.seek(tp, bounds.begin if owned.begin is None else max(owned.begin, bounds.begin))
                    self._owned[tp] = owned
                    self._unsent.pop(tp, None)
                    self._committed.pop(tp, None)
                log.info("%s/%d is ours, from %s on, scored up to %s", *tp, owned.begin or "the first", owned.answered)
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("%s/%d is not ours yet: %r; again in %g s", *tp, error, RETRY_S)
                self._not_before[tp] = time.monotonic() + RETRY_S

    async def _flush(self, *, between_polls: bool = True) -> None:
        """Publishes what is decided, and commits the offsets up to which it is. Between two polls these are the
        consumer's positions; else it may be further than what is folded.
        """
        decided = [one for part in self._unsent.values() for one in part]
        if decided:
            failpoints.reach("before_publish")
            outgoing = [self._outgoing(tp, one) for tp, part in self._unsent.items() for one in part]
            await self._publisher.publish(Answers(others=list(enumerate(outgoing))))
            failpoints.reach("after_publish")
            self._unsent = {}
            for one in decided:
                self.sums.add(one.record)
                if isinstance(one.record, Drift):
                    _tell(one.record)
            self._scored += len(decided)
        offsets = {}
        for tp, owned in self._owned.items():
            offset = await self._position(tp, owned) if between_polls else owned.next_offset
            if offset is not None and owned.is_ready and offset != self._committed.get(tp, owned.answered):
                offsets[tp] = OffsetAndMetadata(offset, owned.metadata(offset))
        if offsets:
            try:
                await self._consumer.commit(offsets)
                failpoints.reach("after_commit")
                self._committed |= {tp: one.offset for tp, one in offsets.items()}
            except (KafkaError, IllegalStateError) as error:  # the group moves on, or it is tried again in a second
                log.warning("offsets are not committed: %r", error)
        self._flushed_s = time.monotonic()

    async def _position(self, tp: TopicPartition, owned: Owned) -> int | None:
        """Returns the offset up to which all records were folded: beyond the last one there may be some that are no
        records."""
        try:
            position = int(await self._consumer.position(tp))
        except (IllegalStateError, KafkaError):  # it is not ours any more
            return None
        owned.next_offset = max(position, owned.next_offset or 0)
        return owned.next_offset

    def _outgoing(self, tp: TopicPartition, one: Decided) -> Outgoing:
        record, topic = one.record, self._settings.topics.scores
        src = Record(tp.topic, tp.partition, one.offset, NO_TIME_MS, None, None)
        is_drift = isinstance(record, Drift)
        headers = event_headers("drift" if is_drift else "score", tp.topic, tp.partition)
        event = record.drift_id if isinstance(record, Drift) else record.forecast_id
        key = f"drift/{tp.partition}" if isinstance(record, Drift) else record.entity_id
        return Outgoing(topic, key.encode(), dumps_scored(record), (*headers, (EVENT_ID, event.encode())), src)

    # -- the group

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        async with self._lock:
            try:
                await self._flush(between_polls=False)
            finally:
                for tp in revoked:
                    self._owned.pop(tp, None)
                    self._unsent.pop(tp, None)
                    if self.shadows is not None:
                        self.shadows.drop(tp.partition)

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        self.joined = True
        self._not_before.clear()

    # -- where it stands

    def places(self) -> dict[int, Place]:
        """Returns where each of our partitions stands, by number."""
        found = {}
        for tp, owned in sorted(self._owned.items()):
            standing = owned.scorer.standing()
            end = self._consumer.highwater(tp) if tp in self._consumer.assignment() else None
            lag = None if end is None else max(0, end - (owned.next_offset or 0))
            found[tp.partition] = Place(owned.is_ready, lag, *standing, owned.scorer.counts)
        return found

    async def _ends(self) -> dict[TopicPartition, int]:
        partitions = await asyncio.to_thread(_partitions_of, self._settings)
        tps = [TopicPartition(self._topic, number) for number in range(partitions)]
        found = await bounds_by(self._consumer, tps)
        return {tp: found[tp.topic, tp.partition].end for tp in tps}

    async def _has_reached(self, ends: dict[TopicPartition, int] | None) -> bool:
        """Returns whether all partitions that are ours are scored up to these ends."""
        assigned = self._consumer.assignment()
        if ends is None or not self.joined or assigned != self._owned.keys():
            return False
        places = [(await self._position(tp, self._owned[tp]) or 0) >= ends.get(tp, 0) for tp in assigned]
        return all(places)

    async def _report(self) -> None:
        before = 0
        while True:
            await asyncio.sleep(REPORT_S)
            if self._scored > before:
                places = self.places().values()
                waiting, behind = sum(one.forecasts for one in places), sum(one.lag or 0 for one in places)
                rate = (self._scored - before) / REPORT_S
                log.info("%d scores, %.0f/s, %d forecasts wait, %d behind", self._scored, rate, waiting, behind)
            before = self._scored


def _tell(drift: Drift) -> None:
    log.warning(
        "drift of %s in partition %d: from %.3f over %d scores to %.3f over %d, found at offset %d",
        *(drift.measured, drift.partition, drift.before, drift.before_n, drift.after, drift.after_n, drift.offset),
    )


def _partitions_of(settings: ScoreSettings) -> int:
    """Returns how many partitions the forecasts have. Raises as `admin.connected` and `admin.partitions_of`."""
    with admin.connected(settings.bootstrap, settings.kafka) as client:
        return admin.partitions_of(client, settings.topics.forecasts)


def provide(settings: ScoreSettings) -> None:
    """Creates the scores topic, if it is absent, with as many partitions as the forecasts have. Raises as these."""
    with admin.connected(settings.bootstrap, settings.kafka) as client:
        partitions = admin.partitions_of(client, settings.topics.forecasts)
        if settings.registry is not None:
            check_partitions(client, settings, admin.partitions_of)
            admin.create_models(client, settings.topics)
        for topic in admin.create_scores(client, settings.topics, partitions=partitions):
            log.info("created %s with %s partitions", topic.name, topic.partitions)


def consumer_of(settings: ScoreSettings) -> AIOKafkaConsumer:
    """Returns the consumer of a member, which is not started."""
    return group_consumer(settings.bootstrap, settings.kafka, settings.group, max_poll_interval_ms=POLLED_MS)


async def serve(settings: ScoreSettings, stopped_by: Sequence[int], door: Address | None, token: str | None) -> None:
    """Runs one member until one of these signals comes; with `once`, up to the present end.

    Raises ConnectionError if Kafka does not answer, ValueError if there are no forecasts, Refused.
    """
    await asyncio.to_thread(provide, settings)
    publisher = Publisher(settings.bootstrap, security=settings.kafka)
    async with AsyncExitStack() as stack:
        try:
            shadows = None
            if settings.registry is not None:
                shadows = await stack.enter_async_context(Shadows.opened(settings))
            runner = Runner(settings, consumer_of(settings), publisher, shadows)
            for number in stopped_by:
                asyncio.get_running_loop().add_signal_handler(number, runner.stop)
            if door is not None:
                await stack.enter_async_context(serving(door, token, Pages(runner).pages()))
            await publisher.start()
            stack.push_async_callback(publisher.close)
            await runner.run()
        except KafkaError as error:
            refusal = kafka_refusal(settings.bootstrap, settings.kafka, error)
            raise refusal or ConnectionError(f"Kafka at {settings.bootstrap} failed: {error!r}") from error
