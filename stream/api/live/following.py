"""Reads the forecasts topic into the table of newest forecasts, without a group: nothing is committed, and no worker
notices it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.api.live.newest import Heard, Newest
from stream.kafka.log import bounds_by
from stream.kafka.pacing import BESIDE_EVERY_S, Pace
from stream.wire import Topics

log = logging.getLogger(__name__)

POLL_MS: Final = 200
POLL_RECORDS: Final = 1_000  # some 3 ms on the event loop
LOOK_BACK: Final = 200_000  # records of all partitions, at the start: a second of work
EXPIRE_S: Final = 1.0
PARTITIONS_S: Final = 10.0  # how soon new partitions are found
RETRY_S: Final = 1.0


class Following:
    """Follows all partitions of one topic."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        topics: Topics,
        newest: Newest,
        keep_ms: int,
        inputs: int,
        refusal: Callable[[BaseException], Exception | None] = lambda error: None,
    ) -> None:
        """Takes a started consumer that reads record columns (`stream.kafka.log.reader`); how many partitions the pings
        topic has; and `refusal`, which returns what an error of the brokers means if waiting does not help."""
        self._consumer = consumer
        self._topics = topics
        self._topic = topics.forecasts
        self.inputs = inputs  # partitions of the pings topic
        self._refusal = refusal
        self._newest = newest
        self._keep_ms = keep_ms
        self._due: dict[
            TopicPartition, int
        ] = {}  # where each log ended when it was assigned: read up to there at first
        self._next: dict[TopicPartition, int] = {}  # the offset after the last record that was read
        self.caught_up = False
        self.records = 0
        self.failures = 0
        self.lag = 0  # records that are in the logs and not read, a second ago

    async def run(self) -> None:
        """Follows until it is cancelled. While the brokers are away, it tries again and again. Raises Refused."""
        Pace(self._consumer._fetcher, BESIDE_EVERY_S)  # the embedded broker answers at once where there is nothing
        looked_s = expired_s = -PARTITIONS_S
        while True:
            now_s = time.monotonic()
            try:
                if now_s - looked_s >= PARTITIONS_S:
                    await self._assign()
                    looked_s = now_s
                polled = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
                self._take(polled)
                if not self.caught_up:
                    self.caught_up = await self._has_reached()
            except (KafkaError, OSError, TimeoutError) as error:
                if (refused := self._refusal(error)) is not None:
                    raise refused from error
                self.failures += 1
                log.warning("%s cannot be read: %r; again in %g s", self._topic, error, RETRY_S)
                await asyncio.sleep(RETRY_S)
            if now_s - expired_s >= EXPIRE_S:
                self._newest.expire(_now_ms())
                expired_s = now_s
                self.lag = await self._behind()

    async def _assign(self) -> None:
        numbers = await self._partitions()
        found = {TopicPartition(self._topic, number) for number in numbers}
        new = sorted(found - self._consumer.assignment())
        if not new:
            return
        self._consumer.assign(sorted(found))
        for tp, at in (await self._begins(new)).items():
            self._consumer.seek(tp, at)
            self._next[tp] = at
        for tp in found - set(new):  # a new assignment forgets positions
            self._consumer.seek(tp, self._next[tp])
        self.caught_up = False

    async def _partitions(self) -> set[int]:
        client = self._consumer._client
        for topic in (self._topic, self._topics.pings):
            await client.add_topic(topic)
        await client.force_metadata_update()
        self.inputs = len(client.cluster.partitions_for_topic(self._topics.pings) or ()) or self.inputs
        return set(client.cluster.partitions_for_topic(self._topic) or ())

    async def _begins(self, new: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Returns from where each new partition is read: what was published within `keep_ms`, but no more than
        LOOK_BACK records in all."""
        bounds = await bounds_by(self._consumer, new)
        since_ms = _now_ms() - self._keep_ms
        try:
            by_time: Mapping[Any, Any] = await self._consumer.offsets_for_times(dict.fromkeys(new, since_ms))
        except (KafkaError, ValueError):  # the embedded broker does not know
            by_time = {}
        begins = {}
        for tp in new:
            begin, end = bounds[tp.topic, tp.partition]
            at = by_time.get(tp)
            earliest = begin if at is None else at.offset
            begins[tp] = max(begin, min(earliest, end), end - LOOK_BACK // len(new))
            self._due[tp] = end
        return begins

    def _take(self, polled: Mapping[TopicPartition, Any]) -> None:
        for tp, records in polled.items():
            self.records += len(records)
            heard = [
                Heard(value, timestamp_ms)
                for value, timestamp_ms in zip(records.values.each(), records.timestamps_ms.tolist(), strict=True)
                if value is not None
            ]
            self._newest.hear(heard, _now_ms())
            self._next[tp] = records.next_offset

    async def _behind(self) -> int:
        found = 0
        for tp in self._next:
            end = self._consumer.last_stable_offset(tp)
            if end is not None:
                found += max(0, end - await self._consumer.position(tp))
        return found

    async def _has_reached(self) -> bool:
        """Returns whether all is read that was in the logs at the start."""
        for tp, end in self._due.items():
            if await self._consumer.position(tp) < end:
                return False
        return bool(self._due)


def _now_ms() -> int:
    return int(time.time() * 1000)
