"""One member of the group that scores the forecasts of a topic. Members share the partitions.

Scores are flushed, then the offset is committed, with what a successor needs (stream.services.scores.owned). After a
crash in between, the successor publishes some again, with the same ids and bytes. So it is no unit of
`stream.services.member`, whose transactions need other rights of Kafka.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from stream.config import failpoints
from stream.kafka import admin
from stream.kafka.log import Seen
from stream.kafka.producer import Publisher
from stream.kafka.records.encoded_batches import Answers
from stream.kafka.records.record_columns import Records
from stream.members.continuity import Holding
from stream.members.group_member import AWAY, RETRY_S, GroupMember, in_slices
from stream.members.running import Running, Service, running_member
from stream.services.member import close_quietly, start_publisher
from stream.services.scores.owned import Decided, Owned, read_seen
from stream.services.scores.pages import ROWS, Place
from stream.services.scores.settings import ScoreSettings
from stream.services.scores.sums import Sums
from stream.wire import NO_TIME_MS, Drift, Outgoing, Record, dumps_scored
from stream.wire.ids import EVENT_ID, event_headers

log: Final = logging.getLogger(__name__)

COMMIT_S: Final = 1.0
MOST_UNSENT: Final = 20_000  # scores, of 600 bytes


@dataclass
class _Scored(Holding):
    """A partition that is ours."""

    owned: Owned
    committed: int | None = None
    unsent: list[Decided] = field(default_factory=list)


class Runner(GroupMember[_Scored]):
    """One member of the group."""

    def __init__(self, settings: ScoreSettings, consumer: AIOKafkaConsumer) -> None:
        super().__init__(settings.reads, consumer)
        self.sums = Sums()
        self._settings = settings
        self._publisher: Publisher | None = None  # there is one while a partition is ours
        self._topic = settings.topics.forecasts
        self._flushed_s = time.monotonic()
        self._scored = 0

    async def _work(self) -> None:
        await super()._work()
        async with self._lock:
            await self._move()
            await self._flush()

    async def _begin(self, number: int) -> _Scored:
        if self._publisher is None:
            self._publisher = await start_publisher(self._settings.bootstrap, None, self._settings.kafka)
        tp = TopicPartition(self._topic, number)
        committed = (await self._read_committed([tp])).get(tp)
        stored, seen = (None, Seen()) if committed is None else (committed[0], read_seen(committed[1]))
        start = await self._start(tp, stored, seen)
        owned = Owned.take_over((self._topic, number), self._settings, committed, start)
        begin = start.log.begin if owned.begin is None else max(owned.begin, start.log.begin)
        if owned.answered is not None:
            log.info("partition %d is scored up to %d", number, owned.answered)
        # After a cut the offset is committed at once, so that no successor finds it again.
        return _Scored({self._topic: start._replace(offset=begin)}, owned, None if start.is_cut else owned.answered)

    async def _fold(self, number: int, held: _Scored, records: Records) -> None:
        async for some in in_slices(records):
            held.unsent += held.owned.fold(some)

    async def _after(self) -> None:
        unsent = sum(len(held.unsent) for held in self._holdings.values())
        if unsent >= MOST_UNSENT or time.monotonic() - self._flushed_s >= COMMIT_S:
            async with self._lock:
                await self._move()
                await self._flush()

    async def _last(self, numbers: Collection[int]) -> None:
        await self._flush()

    def _offsets_done(self, held: _Scored) -> Mapping[str, int]:
        """Returns up to where all is done. That is nowhere while scores are unpublished: if Kafka does not acknowledge
        them, they are decided again.
        """
        return {self._topic: -1} if held.unsent else held.folded

    async def _flush(self) -> None:
        """Publishes what is decided, and commits the offsets up to which all is folded."""
        held = dict(self._holdings)
        decided = [(number, one) for number, part in held.items() for one in part.unsent]
        if decided:
            failpoints.reach("before_publish")
            outgoing = [self._outgoing(number, one) for number, one in decided]
            try:
                assert self._publisher is not None  # who holds a partition has one
                await self._publisher.publish(Answers(others=list(enumerate(outgoing))))
            except AWAY as error:
                await self._lose_all(error)
                return
            failpoints.reach("after_publish")
            for part in held.values():
                part.unsent = []
            for _, one in decided:
                self.sums.add(one.record)
                if isinstance(one.record, Drift):
                    _tell(one.record)
            self._scored += len(decided)
        await self._commit(held)
        self._flushed_s = time.monotonic()

    async def _lose_all(self, error: Exception) -> None:
        """Takes all over again: nobody knows what of the last scores was published, nor what the producer can do."""
        await self._close_publisher()
        for number in list(self._holdings):
            await self._lose(number, error, RETRY_S)

    async def close(self) -> None:
        await super().close()
        await self._close_publisher()

    async def _close_publisher(self) -> None:
        if (publisher := self._publisher) is not None:
            self._publisher = None
            await close_quietly(publisher)

    async def _commit(self, held: Mapping[int, _Scored]) -> None:
        offsets = {}
        for number, part in held.items():
            offset = part.owned.next_offset = part.folded[self._topic]
            if part.owned.is_ready and offset != part.committed:
                offsets[number] = OffsetAndMetadata(offset, part.owned.metadata(offset, part.seen[self._topic]))
        if not offsets:
            return
        try:
            await self._consumer.commit({TopicPartition(self._topic, number): one for number, one in offsets.items()})
            failpoints.reach("after_commit")
        except (KafkaError, IllegalStateError) as error:  # the group moves on, or it is tried again in a second
            log.warning("offsets are not committed: %r", error)
            return
        for number, one in offsets.items():
            held[number].committed = one.offset

    def _outgoing(self, number: int, one: Decided) -> Outgoing:
        record, topic = one.record, self._settings.topics.scores
        src = Record(self._topic, number, one.offset, NO_TIME_MS, None, None)
        is_drift = isinstance(record, Drift)
        headers = event_headers("drift" if is_drift else "score", self._topic, number)
        event = record.drift_id if isinstance(record, Drift) else record.forecast_id
        key = f"drift/{number}" if isinstance(record, Drift) else record.entity_id
        return Outgoing(topic, key.encode(), dumps_scored(record), (*headers, (EVENT_ID, event.encode())), src)

    # -- where it stands

    def hindrances(self) -> list[str]:
        rereading = [number for number, held in sorted(self._holdings.items()) if not held.owned.is_ready]
        return super().hindrances() or [f"partition {number} is read again" for number in rereading]

    def places(self) -> dict[int, Place]:
        """Returns where each of our partitions stands, by number."""
        return {
            number: Place(one.owned.is_ready, *one.owned.scorer.standing(), one.owned.scorer.counts)
            for number, one in sorted(self._holdings.items())
        }

    def _describe(self) -> str:
        waiting = sum(held.owned.scorer.standing()[1] for held in self._holdings.values())
        return f"{self._scored} scores published, {waiting} forecasts wait"


def _tell(drift: Drift) -> None:
    log.warning(
        "drift of %s in partition %d: from %.3f over %d scores to %.3f over %d, found at offset %d",
        *(drift.measured, drift.partition, drift.before, drift.before_n, drift.after, drift.after_n, drift.offset),
    )


def provide(settings: ScoreSettings) -> None:
    """Creates the scores topic, if it is absent, with as many partitions as the forecasts have. Raises as these."""
    with admin.connect(settings.bootstrap, settings.kafka) as client:
        partitions = admin.partitions_of(client, settings.topics.forecasts)
        for topic in admin.create_scores(client, settings.topics, partitions=partitions):
            log.info("created %s with %s partitions", topic.name, topic.partitions)


def service(settings: ScoreSettings) -> Service:
    """Returns one member.

    It raises ConnectionError if Kafka does not answer, ValueError if there are no forecasts, Refused.
    """

    @asynccontextmanager
    async def open_service() -> AsyncIterator[Running]:
        await asyncio.to_thread(provide, settings)
        async with running_member("scores", Runner(settings, settings.reads.consumer()), ROWS) as running:
            yield running

    return Service("scores", open_service)
