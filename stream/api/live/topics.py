"""Reads topics without a group: nothing is committed, and no worker notices it. Whoever takes the records knows what is
in them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.kafka.pacing import Pace
from stream.kafka.reading import bounds_by
from stream.kafka.records.record_columns import Records

log = logging.getLogger(__name__)

POLL_MS: Final = 200
POLL_RECORDS: Final = 1_000  # some 3 ms on the event loop, for the table of newest forecasts
LOOK_BACK: Final = 200_000  # records of all partitions of a topic, at the start: a second of work
TICK_S: Final = 1.0
PARTITIONS_S: Final = 10.0  # how soon new partitions are found
RETRY_S: Final = 1.0


class Source(NamedTuple):
    """One topic, and who takes its records."""

    topic: str
    take: Callable[[Records], None]  # records of one partition
    keep_ms: int | None  # how far it is read back at first; None: from its begin, which is for compacted topics


class TopicFollower:
    """Follows all partitions of some topics."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        refusal: Callable[[BaseException], Exception | None] = lambda error: None,
        most_records: int = POLL_RECORDS,
    ) -> None:
        """Takes a started consumer that reads record columns (`stream.kafka.reading.reader`); `refusal`, which returns
        what an error of the brokers means if waiting does not help; and the most records that are taken at a time."""
        self._consumer = consumer
        self._refusal = refusal
        self._most_records = most_records
        self._sources: defaultdict[str, list[Source]] = defaultdict(list)
        self._ticks: list[Callable[[int], object]] = []
        self._lag: Counter[str] = Counter()  # records that are in the logs and not read, a second ago
        self._read: Counter[str] = Counter()
        self.partitions: Mapping[str, set[int]] = {}  # of every topic that we may see, some seconds ago
        # Where each log ended when it was assigned: read up to there at first.
        self._due: dict[TopicPartition, int] = {}
        self._next: dict[TopicPartition, int] = {}  # the offset after the last record that was read
        self.caught_up = False
        self.failures = 0

    def add(self, sources: Sequence[Source], tick: Callable[[int], object]) -> None:
        """Follows these topics, too, and calls `tick` about once a second. Call it before `run`."""
        for one in sources:
            self._sources[one.topic].append(one)
        self._ticks.append(tick)

    def lag(self, sources: Sequence[Source]) -> int:
        """Returns how many records of these topics were in the logs and not read, a second ago."""
        return sum(self._lag[one.topic] for one in sources)

    def records(self, sources: Sequence[Source]) -> int:
        """Returns how many records of these topics were read."""
        return sum(self._read[one.topic] for one in sources)

    async def run(self) -> None:
        """Follows until it is cancelled. While the brokers are away, it tries again and again. Raises Refused."""
        Pace(self._consumer._fetcher)  # the embedded broker answers at once where there is nothing
        looked_s = ticked_s = -PARTITIONS_S
        while True:
            now_s = time.monotonic()
            try:
                if now_s - looked_s >= PARTITIONS_S:
                    await self._assign()
                    looked_s = now_s
                polled = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=self._most_records)
                self._take(polled)
                if not self.caught_up:
                    self.caught_up = await self._has_reached()
            except (KafkaError, OSError, TimeoutError) as error:
                if (refused := self._refusal(error)) is not None:
                    raise refused from error
                self.failures += 1
                log.warning("%s cannot be read: %r; again in %g s", ", ".join(self._sources), error, RETRY_S)
                await asyncio.sleep(RETRY_S)
            if now_s - ticked_s >= TICK_S:
                for tick in self._ticks:
                    tick(now_ms())
                ticked_s = now_s
                self._lag = await self._measure_lag()

    async def _assign(self) -> None:
        metadata = await self._consumer._client.fetch_all_metadata()  # asked by name, brokers might create the topics
        self.partitions = {topic: set(metadata.partitions_for_topic(topic) or ()) for topic in metadata.topics()}
        every = {TopicPartition(topic, one) for topic in self._sources for one in self.partitions.get(topic, ())}
        new = sorted(every - self._consumer.assignment())
        if not new:
            if not every:
                await asyncio.sleep(RETRY_S)  # a consumer without partitions returns at once
            return
        self._consumer.assign(sorted(every))
        for tp, at in (await self._begins(new)).items():
            self._consumer.seek(tp, at)
            self._next[tp] = at
        for tp in every - set(new):  # a new assignment forgets positions
            self._consumer.seek(tp, self._next[tp])
        self.caught_up = False

    async def _begins(self, new: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Returns from where each new partition is read: what was published within `keep_ms`, but no more than
        LOOK_BACK records in all; or all of it."""
        bounds = await bounds_by(self._consumer, new)
        keep_ms = {topic: _longest([one.keep_ms for one in sources]) for topic, sources in self._sources.items()}
        by_time = await self._by_time({tp: ms for tp in new if (ms := keep_ms[tp.topic]) is not None})
        begins = {}
        for tp in new:
            begin, end = bounds[tp.topic, tp.partition]
            self._due[tp] = end
            if keep_ms[tp.topic] is None:
                begins[tp] = begin
                continue
            at = by_time.get(tp)
            earliest = begin if at is None else at.offset
            together = sum(1 for one in new if one.topic == tp.topic)
            begins[tp] = max(begin, min(earliest, end), end - LOOK_BACK // together)
        return begins

    async def _by_time(self, keep_ms: Mapping[TopicPartition, int]) -> Mapping[Any, Any]:
        if not keep_ms:
            return {}
        try:
            offsets: Mapping[Any, Any] = await self._consumer.offsets_for_times(
                {tp: now_ms() - one for tp, one in keep_ms.items()}
            )
        except (KafkaError, ValueError):  # the embedded broker does not know
            return {}
        return offsets

    def _take(self, polled: Mapping[TopicPartition, Records]) -> None:
        for tp, records in polled.items():
            self._read[tp.topic] += len(records)
            for one in self._sources[tp.topic]:
                one.take(records)
            self._next[tp] = records.next_offset

    async def _measure_lag(self) -> Counter[str]:
        lag: Counter[str] = Counter()
        for tp in self._next:
            end = self._consumer.last_stable_offset(tp)
            if end is not None:
                lag[tp.topic] += max(0, end - await self._consumer.position(tp))
        return lag

    async def _has_reached(self) -> bool:
        """Returns whether all is read that was in the logs at the start."""
        for tp, end in self._due.items():
            if await self._consumer.position(tp) < end:
                return False
        return bool(self._due)


def _longest(keep_ms: Sequence[int | None]) -> int | None:
    """Returns how far a topic is read back, of which several want so much."""
    return None if None in keep_ms else max(ms for ms in keep_ms if ms is not None)


def now_ms() -> int:
    return int(time.time() * 1000)
