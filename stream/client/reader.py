"""Reads one topic with aiokafka: committed records only, through outages, alone or as a member of a group.

Alone it keeps its own positions, so that it goes on where it was after any outage. In a group the committed offsets
decide. It hands records out in batches and commits nothing by itself: who asks says what is done.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaConnectionError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from msgspec import DecodeError

from stream.client.connecting import (
    AWAY,
    NEWS_S,
    TopicAddress,
    find_partitions,
    find_starts,
    position_of,
    start_consumer,
    stop,
)
from stream.client.filter import Kind, RecordFilter, Since
from stream.config.security import HIDDEN, Protocol, check_access, in_words, kafka_refusal

log: Final = logging.getLogger("stream.client")

T = TypeVar("T")
POLL_RECORDS: Final = 1_000
CHECK_S: Final = 5.0  # without a record for so long, we ask whether the broker is there
ANSWER_S: Final = 10.0  # a broker that has not answered by then is away
END_S: Final = 0.2  # of one poll, where the end of the topic is near, and may be a record that nobody sees
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 15.0
AVRO: Final = b"\x00"  # the first byte of a record that a schema registry's serializer wrote


class Received(NamedTuple, Generic[T]):
    record: T
    partition: int
    offset: int
    timestamp_ms: int  # when it was published


class Batch(NamedTuple, Generic[T]):
    """Holds the records that one poll brought."""

    records: list[Received[T]]
    passed: dict[int, int]  # the offset to go on at, by partition, once all these records are done
    turn: int  # of the reader at that time: if it has changed since, these partitions may be another member's


class Reader(ConsumerRebalanceListener, Generic[T]):  # type: ignore[misc]  # aiokafka has no types
    """Reads records of one kind. Use it in one event loop, and close it."""

    def __init__(
        self, where: TopicAddress, kind: Kind[T], *, wanted: RecordFilter, since: Since, follow: bool, connect_s: float
    ) -> None:
        """`since` counts where there is no committed offset. Without `follow`, `at_end` becomes true at the end that
        the topic has now. `connect_s` bounds the first connection; later ones are tried for ever."""
        self._where = where
        self._kind = kind
        self._wanted = wanted
        self._since = since
        self._follow = follow
        self._connect_s = connect_s
        self._consumer: AIOKafkaConsumer | None = None
        self._positions: dict[TopicPartition, int] = {}  # where to go on, without a group
        self._not_before_ms: dict[TopicPartition, int] = {}  # where `since` is a time
        self._ends: dict[TopicPartition, int] | None = None  # without `follow`
        self._joined = False  # in a group: we were told our partitions
        self._connected_once = False
        self._away_s: float | None = None  # when Kafka was found to be away
        self._pause_s = FIRST_PAUSE_S
        self._checked_s = 0.0
        self._received_s = 0.0
        self._done: dict[int, int] = {}  # what `done` was told and is not committed, by partition
        self.turn = 0
        self.at_end = False
        self.unreadable = 0  # records that are none of this kind

    @property
    def away(self) -> bool:
        return self._away_s is not None

    @property
    def in_group(self) -> bool:
        return self._where.group is not None

    def stop_at_end(self) -> None:
        """Lets `at_end` become true at the end that the topic has at the next poll."""
        self._follow = False

    async def poll(self, wait_s: float, most: int = POLL_RECORDS) -> Batch[T]:
        """Returns what has come, after `wait_s` at the latest, be it nothing.

        Raises:
            ConnectionError: Kafka did not answer at the first connection.
            Refused: it denies access.
            ValueError: there is no such topic, or its records are Avro.
        """
        until_s = time.monotonic() + wait_s
        while True:
            left_s = max(0.0, until_s - time.monotonic())
            try:
                batch = await self._poll(left_s, most)
            except AWAY as error:
                await self._lose(error, left_s)
                batch = Batch([], {}, self.turn)
            if batch.passed or self.at_end or time.monotonic() >= until_s:
                return batch

    async def _poll(self, wait_s: float, most: int) -> Batch[T]:
        """Returns what has come, also sooner than after `wait_s`. Nothing is awaited once records are taken from the
        consumer, which would not give them again."""
        consumer = self._consumer or await self._connect()
        await self._check(consumer)
        if self._ends is None and not self._follow:
            async with asyncio.timeout(ANSWER_S):
                self._ends = await consumer.end_offsets(await self._partitions(consumer))
        self.at_end = self._is_at_end(consumer)
        if self.at_end:
            return Batch([], {}, self.turn)
        wait_s = min(wait_s, CHECK_S if self._follow else END_S)
        try:
            polled = await consumer.getmany(timeout_ms=int(1000 * wait_s), max_records=most)
        except OffsetOutOfRangeError as error:
            await self._go_to_beginning(consumer, error.args[0])
            polled = {}
        except NoOffsetForPartitionError as error:  # the group has none
            polled, tp = {}, error.args[0]
            start = await self._starts(consumer, [tp], self._since)
            consumer.seek(tp, start[tp])
        return self._batch(polled)

    def done(self, passed: Mapping[int, int]) -> None:
        """Notes up to which offsets records are done, for the next `commit`."""
        self._done.update(passed)

    async def commit(self) -> None:
        """Commits what is done, if there is a group. A failure is logged: those records will come again."""
        if self._where.group is None or self._consumer is None:
            return
        ours = {tp.partition: tp for tp in self._consumer.assignment()}
        offsets = {ours[number]: offset for number, offset in self._done.items() if number in ours}
        if not offsets:
            return
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._consumer.commit(offsets)
            self._done = {number: offset for number, offset in self._done.items() if number not in ours}
        except (CommitFailedError, IllegalStateError, *AWAY) as error:
            self._refuse(error)
            log.warning(
                "offsets of group %s are not committed (%s); records come again", self._where.group, in_words(error)
            )

    async def close(self) -> None:
        """Leaves the group and ends the connections. `commit` first."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop(consumer)

    # -- records

    def _batch(self, polled: Mapping[TopicPartition, Iterable[Any]]) -> Batch[T]:
        records, passed = [], {}
        for tp, raw in polled.items():
            for one in raw:
                passed[tp.partition] = one.offset + 1
                if (record := self._parse(tp, one)) is not None:
                    records.append(Received(record, tp.partition, one.offset, one.timestamp))
            if tp.partition in passed:
                self._positions[tp] = passed[tp.partition]
                self._received_s = time.monotonic()
        return Batch(records, passed, self.turn)

    def _parse(self, tp: TopicPartition, raw: Any) -> T | None:
        """Returns the record, None if it is not wanted or none of this kind."""
        if raw.value is None or not self._wanted.takes_key(raw.key):
            return None
        if raw.timestamp < self._not_before_ms.get(tp, raw.timestamp):
            return None
        try:
            record = self._kind.loads(raw.value)
        except DecodeError as error:
            if raw.value.startswith(AVRO):
                raise ValueError(
                    f"{tp.topic} has Avro records, and this client reads JSON: read them with the schema registry's "
                    "own client, or let the workers publish JSON"
                ) from None
            self.unreadable += 1
            if self.unreadable == 1:
                log.warning(
                    "%s/%d, offset %d is no %s (%s); such records are left out", *tp, raw.offset, self._kind.name, error
                )
            return None
        return record if self._wanted.takes_places(self._kind.places(record)) else None

    # -- connection

    async def _connect(self) -> AIOKafkaConsumer:
        try:
            async with asyncio.timeout(ANSWER_S):
                consumer = await start_consumer(self._where)
        except KafkaConnectionError:  # aiokafka raises it whatever the brokers answered
            await asyncio.to_thread(check_access, self._where.bootstrap, self._where.security)
            raise
        try:
            async with asyncio.timeout(ANSWER_S):
                tps = await self._partitions(consumer)
                if self._where.group is None:
                    await self._assign(consumer, tps)
                else:
                    self._joined = False
                    consumer.subscribe([self._where.topic], listener=self)
        except BaseException:
            await stop(consumer)
            raise
        if self._away_s is not None and self._connected_once:
            away_s = time.monotonic() - self._away_s
            log.warning("Kafka at %s answers again after %.0f s", self._where.bootstrap, away_s)
        self._away_s, self._pause_s, self._connected_once = None, FIRST_PAUSE_S, True
        self._checked_s = time.monotonic()
        self._consumer = consumer
        return consumer

    async def _partitions(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        """Raises ValueError if there is no such topic, and never was one for us."""
        topic = self._where.topic
        tps = await find_partitions(consumer, topic)
        if not tps and self._connected_once:
            raise KafkaConnectionError(f"topic {topic} is gone")
        if not tps:
            hidden = HIDDEN * (self._where.security.protocol is not Protocol.PLAINTEXT)
            raise ValueError(
                f"there is no topic {topic} at {self._where.bootstrap}: start a worker, or check the prefix{hidden}"
            )
        return tps

    async def _assign(self, consumer: AIOKafkaConsumer, tps: Collection[TopicPartition]) -> None:
        fresh = [tp for tp in tps if tp not in self._positions]
        # A partition that came later was not there at `since`, and all that it has is new.
        since = Since(beginning=True) if self._connected_once else self._since
        self._positions |= await self._starts(consumer, fresh, since)
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, self._positions[tp])

    async def _starts(
        self, consumer: AIOKafkaConsumer, tps: Collection[TopicPartition], since: Since
    ) -> dict[TopicPartition, int]:
        if since.time_ms is not None:
            self._not_before_ms |= dict.fromkeys(tps, since.time_ms)
        return await find_starts(consumer, tps, since)

    async def _go_to_beginning(self, consumer: AIOKafkaConsumer, lost: Mapping[TopicPartition, int]) -> None:
        for tp, offset in (await consumer.beginning_offsets(list(lost))).items():
            log.warning("%s/%d no longer has offset %d: going on at %d, the oldest", *tp, lost[tp], offset)
            self._positions[tp] = offset
            consumer.seek(tp, offset)

    async def _check(self, consumer: AIOKafkaConsumer) -> None:
        """Notices, from time to time, that the broker is away or that there are new partitions."""
        now_s = time.monotonic()
        if now_s - self._checked_s < (NEWS_S if now_s - self._received_s < CHECK_S else CHECK_S):
            return
        async with asyncio.timeout(ANSWER_S):
            tps = await self._partitions(consumer)
            if self._where.group is None and set(tps) - consumer.assignment():
                await self._assign(consumer, tps)
        self._checked_s = time.monotonic()

    def _is_at_end(self, consumer: AIOKafkaConsumer) -> bool:
        if self._ends is None or (self._where.group is not None and not self._joined):
            return False
        return all(position_of(consumer, tp) >= self._ends.get(tp, 0) for tp in consumer.assignment())

    async def _lose(self, error: Exception, left_s: float) -> None:
        """Notes an outage and waits before the next attempt. Raises what waiting does not mend."""
        self._refuse(error)
        await self.close()
        self.turn += 1
        self._done.clear()  # the group gives these records again, from where it stands then
        now_s = time.monotonic()
        if self._away_s is None:
            self._away_s = now_s
            if self._connected_once:
                log.warning("Kafka at %s is away (%s); it is tried again", self._where.bootstrap, in_words(error))
        if not self._connected_once and now_s - self._away_s >= self._connect_s:
            raise ConnectionError(
                f"no Kafka broker answers at {self._where.bootstrap} ({in_words(error)}): is it up, and is the address "
                "right?"
            ) from error
        await asyncio.sleep(min(self._pause_s, left_s))
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _refuse(self, error: BaseException) -> None:
        refusal = kafka_refusal(self._where.bootstrap, self._where.security, error)
        if refusal is not None:
            raise refusal from error

    # -- the group

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._joined = False
        if revoked:
            self.turn += 1
            await self.commit()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._joined = True
        self._done.clear()  # another member may have come farther meanwhile
