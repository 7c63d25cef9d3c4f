"""Kafka: asks the workers to forget an entity, and removes it from the compacted topic of newest forecasts.

There a null value removes the key at the next compaction, and every reader at once. `pathcast beside latest` writes the
entity again for each of its forecasts and gap fills that it has not read yet. So the null value is written when the
workers have forgotten the entity, and that group has read all that they had written until then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as AioTopicPartition
from aiokafka.errors import KafkaError
from kafka import TopicPartition
from kafka.admin import OffsetSpec

from stream.commands.forget.findings import Finding, Outcome
from stream.config.security import kafka_refusal
from stream.config.settings import Settings
from stream.kafka import admin
from stream.kafka.log import Bounds, Partition
from stream.kafka.reading import INPUT_ISOLATION, reader, to_end
from stream.wire.record import FORGET_HEADERS

WORKERS: Final = "workers' memory"
NEWEST: Final = "newest forecasts"
LOOK_S: Final = 0.5  # between two looks at what is committed: `beside latest` commits once a second by default
TIMEOUT_MS: Final = 30_000

Headers = Sequence[tuple[str, bytes]]


async def tell_workers(settings: Settings, partitions: Sequence[int], entity_id: str) -> Mapping[int, int]:
    """Writes the record that asks to forget the entity into these partitions of the pings topic, and returns its offset
    in each. Raises ConnectionError, Refused."""
    return await _send(settings, settings.topics.pings, partitions, entity_id, FORGET_HEADERS)


async def has_committed(settings: Settings, number: int) -> bool:
    """Returns whether the workers' group has committed anything of this partition of the pings topic. Raises
    ConnectionError, Refused, TimeoutError."""
    servers, access = settings.bootstrap.split(","), settings.kafka.arguments()
    place = AioTopicPartition(settings.topics.pings, number)
    try:
        async with (
            asyncio.timeout(TIMEOUT_MS / 1000),
            reader(servers, access, INPUT_ISOLATION, settings.group) as consumer,
        ):
            return await consumer.committed(place) is not None
    except KafkaError as error:
        refusal = kafka_refusal(settings.bootstrap, settings.kafka, error)
        what = f"what group {settings.group} has committed is not known"
        raise refusal or ConnectionError(f"Kafka at {settings.bootstrap}: {what}: {error!r}") from error


async def _send(
    settings: Settings, topic: str, partitions: Sequence[int], entity_id: str, headers: Headers
) -> dict[int, int]:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap.split(","),
        **settings.kafka.arguments(),
        acks="all",
        enable_idempotence=True,
        request_timeout_ms=TIMEOUT_MS,
    )
    key, offsets = entity_id.encode(), {}
    try:
        await producer.start()
        for number in partitions:
            sent = await producer.send_and_wait(topic, None, key=key, partition=number, headers=list(headers))
            offsets[number] = sent.offset
    except KafkaError as error:
        refusal = kafka_refusal(settings.bootstrap, settings.kafka, error)
        raise refusal or ConnectionError(f"{topic} at {settings.bootstrap} was not written: {error!r}") from error
    finally:
        await producer.stop()
    return offsets


@dataclass(frozen=True)
class Newest:
    """The topic of newest forecasts, and the group of the members that write it."""

    settings: Settings  # of the workers
    group: str
    partitions: int

    async def look(self, entity_id: str) -> Finding:
        """Returns where the entity has a value. Raises ConnectionError, Refused."""
        return self._finding(Outcome.FOUND, await self._holding(entity_id))

    async def remove(self, entity_id: str, wait_s: float, *, told: bool) -> Finding:
        """Writes a null value where the entity has one, when nobody will write it again, or after `wait_s`.

        `told` is whether the workers have forgotten it: else they may still write forecasts. Raises ConnectionError,
        Refused, KafkaError, and ValueError if a right is missing.
        """
        later = await self._written_later(wait_s) if told else "workers that have not forgotten it may write it again"
        numbers = await self._holding(entity_id)
        if numbers:
            await _send(self.settings, self._topic, numbers, entity_id, ())
        if later:
            return self._finding(Outcome.WAITS, numbers, f"{later}. Give the command again")
        return self._finding(Outcome.REMOVED, numbers, "earlier values stay until the topic is compacted")

    @property
    def _topic(self) -> str:
        return self.settings.topics.latest

    def _finding(self, outcome: Outcome, numbers: Sequence[int], note: str = "") -> Finding:
        if numbers:
            return Finding(NEWEST, outcome, f"in {self._topic}, partition {', '.join(map(str, numbers))}", note)
        if outcome is Outcome.WAITS:
            return Finding(NEWEST, outcome, f"nothing in {self._topic}", note)
        return Finding(NEWEST, Outcome.ABSENT, f"nothing in {self._topic}")

    async def _holding(self, entity_id: str) -> list[int]:
        """Returns the partitions in which the entity has a value. It reads the topic."""
        has = {}
        async for chunk in to_end(self.settings.bootstrap, self._topic, self.settings.kafka):
            for row, key in enumerate(chunk.records.keys.each()):
                if key == entity_id.encode():
                    has[chunk.number] = bool(chunk.records.values.lengths[row] >= 0)
        return sorted(number for number, has_value in has.items() if has_value)

    async def _written_later(self, wait_s: float) -> str:
        """Waits until the group has read all that there is now. Returns what it has not read after `wait_s`; empty if
        it has read all."""
        topics = self.settings.topics
        with admin.connect(self.settings.bootstrap, self.settings.kafka) as client:
            counts = {name: _partitions(client, name) for name in (topics.forecasts, topics.gapfills)}
            ends = _bounds(client, counts)
            places = [TopicPartition(*place) for place, (begin, end) in ends.items() if begin < end]
            committed = partial(_committed, client, self.group, places)
            own = _bounds(client, {self._topic: self.partitions})
            if all(one.end == 0 for one in own.values()) and not committed():
                return ""  # nobody ever wrote the topic: `beside latest` does not run here
            left = await unread(ends, committed, time.monotonic() + wait_s)
        if not left:
            return ""
        where = ", ".join(map(str, left))
        return f"partition {where}: `latest` (group {self.group}) has not read all forecasts, and may write it again"


async def unread(
    ends: Mapping[Partition, Bounds], committed: Callable[[], Mapping[Partition, int]], until_s: float
) -> list[int]:
    """Returns the partitions of which the group has not read all before these ends, as soon as there is none, or at
    `until_s` by the monotonic clock."""
    while True:
        read = committed()
        left = {place[1] for place, (begin, end) in ends.items() if begin < end and read.get(place, begin) < end}
        if not left or time.monotonic() >= until_s:
            return sorted(left)
        await asyncio.sleep(LOOK_S)


def hidden(topic: str) -> ValueError:
    """Returns the error of a topic that we may not see."""
    return ValueError(f"no right to see whether there is a topic {topic}: has this user what deploy/SECURITY.md lists?")


def _partitions(client: Any, topic: str) -> int:
    """Returns how many partitions a topic has; 0 if there is none. Raises ValueError if we may not know."""
    (described,) = admin.describe(client, [topic])
    if described.partitions is None and admin.is_hidden(client, topic):
        raise hidden(topic)
    return described.partitions or 0


def _bounds(client: Any, counts: Mapping[str, int]) -> dict[Partition, Bounds]:
    """Returns the bounds of so many logs of topics, with what open transactions have written."""
    places = [TopicPartition(name, number) for name, count in counts.items() for number in range(count)]
    begins, ends = (
        client.list_partition_offsets(dict.fromkeys(places, spec)) if places else {}
        for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST)
    )
    return {(tp.topic, tp.partition): Bounds(begins[tp].offset, ends[tp].offset) for tp in places}


def _committed(client: Any, group: str, places: list[TopicPartition]) -> dict[Partition, int]:
    offsets = client.list_group_offsets({group: places})[group] if places else {}
    return {(tp.topic, tp.partition): one.offset for tp, one in offsets.items() if one.offset >= 0}
