"""Reads all partitions of the pings topic into the fleet, in no group: from a snapshot or from some hours before the
end, merged by the times of the pings, and then as they come.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.config.security import KafkaSecurity, in_words, kafka_refusal
from stream.kafka.reading import INPUT_ISOLATION, reader
from stream.kafka.records.record_columns import Records
from stream.members.group_member import AT_ONCE
from stream.services.transit.fleet import Fleet
from stream.tracks.clean import Foreign, parse
from stream.wire import Ping
from stream.wire.record import parse_forget

log: Final = logging.getLogger(__name__)

POLL_MS: Final = 250
MOST_POLLED: Final = 2_000
RETRY_S: Final = 2.0
MOST_WAITING: Final = 4_000  # pings of a partition, some 2 MB; with more it is not read on before the others
LAST_RECORDS: Final = 20  # read of each partition for the time of its end: markers of transactions are among them
LAST_S: Final = 5.0


class Waiting(NamedTuple):
    """A record that was read and not folded."""

    offset: int
    published_ms: int
    ping: Ping | None
    forgets: str | None


class InOrder:
    """Merges partitions by time. What comes late in its own partition is as late as that."""

    def __init__(self, numbers: Collection[int]) -> None:
        self.queues: dict[int, deque[tuple[int, Waiting]]] = {number: deque() for number in numbers}

    def add(self, number: int, one: Waiting) -> None:
        at_ms = one.published_ms
        if one.ping is not None:
            at_ms = min(one.ping.ts, at_ms) if at_ms >= 0 else one.ping.ts
        self.queues[number].append((at_ms, one))

    def take(self, ended: Collection[int]) -> Iterator[tuple[int, Waiting]]:
        """Yields what waits, in the order of the times, until a partition that has not ended has nothing more."""
        if any(not queue and number not in ended for number, queue in self.queues.items()):
            return
        heads = [(queue[0][0], number) for number, queue in self.queues.items() if queue]
        heapq.heapify(heads)
        while heads:
            number = heads[0][1]
            queue = self.queues[number]
            yield number, queue.popleft()[1]
            if queue:
                heapq.heapreplace(heads, (queue[0][0], number))
            elif number in ended:
                heapq.heappop(heads)
            else:
                return


class Follower:
    """Keeps the fleet as the topic has it."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        kafka: KafkaSecurity,
        fleet: Fleet,
        partitions: int,
        since_ms: int,
        foreign: Foreign | None = None,
    ) -> None:
        """Takes a fleet that may know offsets already, and how far before the end it begins at the earliest."""
        self.caught_up = asyncio.Event()
        self._bootstrap, self._topic, self._kafka = bootstrap, topic, kafka
        self._fleet, self._since_ms, self._foreign = fleet, since_ms, foreign
        self._numbers = list(range(partitions))

    def add(self, number: int) -> None:
        """Reads one more partition, which was added meanwhile."""
        if number not in self._numbers:
            self._numbers.append(number)

    async def run(self) -> None:
        """Reads without an end. Brokers that are away are tried again. Raises Refused."""
        while True:
            try:
                async with reader(self._bootstrap.split(","), self._kafka.arguments(), INPUT_ISOLATION) as consumer:
                    await self._read(consumer)
            except (KafkaError, OSError, TimeoutError) as error:
                if isinstance(error, KafkaError):
                    refusal = kafka_refusal(self._bootstrap, self._kafka, error)
                    if refusal is not None:
                        raise refusal from error
                log.warning("pings are not read: %s; again in %g s", in_words(error), RETRY_S)
                await asyncio.sleep(RETRY_S)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        """Reads until a partition is added."""
        numbers = list(self._numbers)
        tps = [TopicPartition(self._topic, number) for number in numbers]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        await self._seek(consumer, tps, ends)
        merged = InOrder(numbers)
        while numbers == self._numbers:
            polled = await consumer.getmany(timeout_ms=POLL_MS, max_records=MOST_POLLED)
            for tp, records in polled.items():
                await self._parse(tp.partition, records, merged)
            ended = {tp.partition for tp in tps if await consumer.position(tp) >= ends[tp]}
            is_live = self.caught_up.is_set()
            await self._fold(merged, numbers if is_live else ended)
            self._pace(consumer, tps, merged)
            for tp in tps:
                if not merged.queues[tp.partition]:
                    self._fleet.offsets[tp.partition] = await consumer.position(tp)
            self._fleet.quiet_ms = self._quiet_ms(consumer, tps)
            if not is_live and len(ended) == len(tps) and not any(merged.queues.values()):
                self._fleet.caught_up = True
                self.caught_up.set()
                log.info("the fleet is known up to the end: %d trips are under way", self._fleet.trips)

    async def _seek(
        self, consumer: AIOKafkaConsumer, tps: list[TopicPartition], ends: Mapping[TopicPartition, int]
    ) -> None:
        begins = await consumer.beginning_offsets(tps)
        newest_ms = await _newest_ms(consumer, tps, begins, ends)
        asked = dict.fromkeys(tps, max(0, newest_ms - self._since_ms))
        since = await consumer.offsets_for_times(asked) if newest_ms > 0 else {}
        for tp in tps:
            at = since.get(tp)
            earliest = begins[tp] if newest_ms <= 0 else ends[tp] if at is None else at.offset
            known = self._fleet.offsets.get(tp.partition)
            # Beyond the end it is another log. After a failure this goes on where it was.
            offset = earliest if known is None or known > ends[tp] else max(known, begins[tp])
            if not self.caught_up.is_set():
                offset = max(offset, earliest)
            consumer.seek(tp, offset)
            self._fleet.offsets[tp.partition] = offset

    async def _parse(self, number: int, records: Records, merged: InOrder) -> None:
        for begin in range(0, len(records), AT_ONCE):
            for record in records[begin : begin + AT_ONCE]:
                found = parse(record, self._foreign)
                ping = found if isinstance(found, Ping) else None
                forgets = None if ping is not None else parse_forget(record)
                merged.add(number, Waiting(record.offset, record.timestamp_ms, ping, forgets))
            await asyncio.sleep(0)

    async def _fold(self, merged: InOrder, ended: Collection[int]) -> None:
        for count, (number, one) in enumerate(merged.take(ended), 1):
            if one.ping is not None:
                while self._fleet.lacks_index(one.ping):  # the feed may be replaced meanwhile
                    await asyncio.to_thread(self._fleet.make_index)
                self._fleet.fold(number, one.ping, one.published_ms)
            elif one.forgets is not None:
                self._fleet.forget(one.forgets)
            else:
                self._fleet.counts["reject"] += 1
            self._fleet.offsets[number] = one.offset + 1
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)

    def _pace(self, consumer: AIOKafkaConsumer, tps: list[TopicPartition], merged: InOrder) -> None:
        """Lets partitions that are ahead wait for the others."""
        paused = consumer.paused()
        for tp in tps:
            waiting = len(merged.queues[tp.partition])
            if waiting > MOST_WAITING and tp not in paused:
                consumer.pause(tp)
            elif waiting <= MOST_WAITING and tp in paused:
                consumer.resume(tp)

    def _quiet_ms(self, consumer: AIOKafkaConsumer, tps: list[TopicPartition]) -> int | None:
        """Returns a time when no partition had more than what is folded; None if that is unknown."""
        times = []
        for tp in tps:
            end, asked_ms = consumer.last_stable_offset(tp), consumer.last_poll_timestamp(tp)
            if end is None or asked_ms is None or self._fleet.offsets[tp.partition] < end:
                return None
            times.append(int(asked_ms))
        return min(times, default=None)


async def _newest_ms(
    consumer: AIOKafkaConsumer,
    tps: list[TopicPartition],
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> int:
    """Returns when the newest record was published, as the log has it; 0 if there is none."""
    waiting = {tp for tp in tps if ends[tp] > begins[tp]}
    for tp in waiting:
        consumer.seek(tp, max(begins[tp], ends[tp] - LAST_RECORDS))
    newest_ms, deadline_s = 0, asyncio.get_running_loop().time() + LAST_S
    while waiting and asyncio.get_running_loop().time() < deadline_s:
        for tp, records in (await consumer.getmany(*waiting, timeout_ms=POLL_MS)).items():
            newest_ms = max(newest_ms, int(records.timestamps_ms.max()))
            waiting.discard(tp)
        waiting = {tp for tp in waiting if await consumer.position(tp) < ends[tp]}
    return newest_ms
