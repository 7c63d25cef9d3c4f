"""Removes an entity from the compacted topic of newest forecasts.

A null value removes the key at the next compaction, and every reader at once. `pathcast beside latest` writes the
entity again for each of its forecasts and gap fills that it has not read yet. So the null value is written when the
workers have forgotten the entity, and that group has read all that they had written until then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from kafka import TopicPartition
from kafka.admin import OffsetSpec

from stream.commands.forget import pings
from stream.commands.forget.findings import Finding, Outcome
from stream.config.settings import Settings
from stream.kafka import admin
from stream.kafka.log import Bounds, Partition
from stream.kafka.reading import to_end

PLACE: Final = "newest forecasts"
LOOK_S: Final = 0.5  # between two looks at what is committed: `beside latest` commits once a second by default


@dataclass(frozen=True)
class Newest:
    """The topic, and the group of the members that write it."""

    settings: Settings  # of the workers
    group: str
    partitions: int

    async def look(self, entity_id: str) -> Finding:
        """Returns where the entity has a value. Raises ConnectionError, Refused."""
        return _finding(Outcome.FOUND, self._topic, await self._holding(entity_id))

    async def removed(self, entity_id: str, wait_s: float, *, told: bool) -> Finding:
        """Writes a null value where the entity has one, when nobody will write it again, or after `wait_s`.

        `told` is whether the workers have forgotten it: else they may still write forecasts. Raises ConnectionError,
        Refused, KafkaError, and ValueError if a right is missing.
        """
        later = await self._written_later(wait_s) if told else "workers that have not forgotten it may write it again"
        numbers = await self._holding(entity_id)
        if numbers:
            await pings.send(self.settings.bootstrap, self._topic, numbers, entity_id, (), self.settings.kafka)
        if later:
            return _finding(Outcome.WAITS, self._topic, numbers, f"{later}. Give the command again")
        return _finding(Outcome.REMOVED, self._topic, numbers, "earlier values stay until the topic is compacted")

    @property
    def _topic(self) -> str:
        return self.settings.topics.latest

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
        with admin.connected(self.settings.bootstrap, self.settings.kafka) as client:
            inputs = [
                TopicPartition(name, number)
                for name in (self.settings.topics.forecasts, self.settings.topics.gapfills)
                for number in range(_partitions(client, name))
            ]
            ends = _bounds(client, inputs)
            places = [TopicPartition(*place) for place, (begin, end) in ends.items() if begin < end]
            committed = partial(_committed, client, self.group, places)
            if self._is_unused(client) and not committed():
                return ""  # `beside latest` does not run here
            left = await unread(ends, committed, time.monotonic() + wait_s)
        if not left:
            return ""
        where = ", ".join(map(str, left))
        return f"partition {where}: `latest` (group {self.group}) has not read all forecasts, and may write it again"

    def _is_unused(self, client: Any) -> bool:
        """Returns whether nobody ever wrote the topic."""
        own = _bounds(client, [TopicPartition(self._topic, number) for number in range(self.partitions)])
        return all(one.end == 0 for one in own.values())


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


def hidden(topic: str) -> str:
    """Returns what is said of a topic that we may not see."""
    return f"no right to see whether there is a topic {topic}: has this user what deploy/SECURITY.md lists?"


def _partitions(client: Any, topic: str) -> int:
    """Returns how many partitions a topic has; 0 if there is none. Raises ValueError if we may not know."""
    (found,) = admin.describe(client, [topic])
    if found.partitions is None and admin.is_hidden(client, topic):
        raise ValueError(hidden(topic))
    return found.partitions or 0


def _bounds(client: Any, places: list[TopicPartition]) -> dict[Partition, Bounds]:
    """Returns the bounds of these logs, with what open transactions have written."""
    begins, ends = (
        client.list_partition_offsets(dict.fromkeys(places, spec)) if places else {}
        for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST)
    )
    return {(tp.topic, tp.partition): Bounds(begins[tp].offset, ends[tp].offset) for tp in places}


def _committed(client: Any, group: str, places: list[TopicPartition]) -> dict[Partition, int]:
    found = client.list_group_offsets({group: places})[group] if places else {}
    return {(tp.topic, tp.partition): one.offset for tp, one in found.items() if one.offset >= 0}


def _finding(outcome: Outcome, topic: str, numbers: list[int], note: str = "") -> Finding:
    """Returns the finding of these partitions; if there are none, there was nothing to remove."""
    if numbers:
        return Finding(PLACE, outcome, f"in {topic}, partition {', '.join(map(str, numbers))}", note)
    waits = outcome is Outcome.WAITS
    return Finding(PLACE, outcome if waits else Outcome.ABSENT, f"nothing in {topic}", note if waits else "")
