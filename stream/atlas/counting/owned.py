"""Counts a partition that is ours, and writes what was counted to Redis, in steps that leave nothing out and count
nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Final

from model.atlas.days import Day, adding
from model.atlas.parts import Parts
from model.atlas.runs import gathered
from stream.atlas.growing import NoGrowth, PartitionGrowth
from stream.atlas.growing_days import GrowingDays
from stream.config.wording import place
from stream.kafka.log import Bounds
from stream.kafka.records.record_columns import Partition, Records
from stream.members.group_member import AnotherLog
from stream.store.sums_store import Held, Part, SumsLost, SumsStore
from stream.tracks.clean import Foreign

log: Final = logging.getLogger(__name__)

MOST_PARTS: Final = 8  # of a day in Redis, beside those that were added up; one more, and all are
PART_ROWS: Final = 1_000_000  # of sums, some 45 MB: a day with more has more than one part when it is added up


class Owned:
    """One partition that is ours, with what was counted since the last write."""

    def __init__(
        self,
        store: SumsStore,
        partition: Partition,
        held: Held,
        growth: PartitionGrowth,
        foreign: Foreign | None = None,
    ) -> None:
        self._store = store
        self._held = held
        self._growth = growth
        self._foreign = foreign
        self._fresh: dict[int, Parts[Day]] = {}
        self._joined: dict[int, int] = {}  # by day, how many parts it had when they were added up
        self.partition = partition
        # That of the next record to count; None: the first that there is. Its user may set it to a later one if all
        # records before that are counted.
        self.next_offset = held.next_offset

    @classmethod
    async def taken_over(
        cls,
        store: SumsStore,
        partition: Partition,
        log_bounds: Bounds,
        *,
        without: Collection[str] = (),
        anew: bool = False,
        foreign: Foreign | None = None,
    ) -> Owned:
        """Claims a partition, whose log has these bounds. What Redis has lost, or another program left, is counted anew
        from the log; if `anew`, all is. Of the entities `without`, nothing is counted. `foreign` reads
        records that are no pings of ours.

        Raises Fenced.
        """
        name = f"{partition[0]}/{partition[1]}"
        try:
            held, raw = await store.claim(partition)
            growth = PartitionGrowth(without)
            if raw is not None and not anew:
                growth = await asyncio.to_thread(PartitionGrowth.loads, raw, without)
            if (held.next_offset or 0) > log_bounds.end:
                raise AnotherLog(f"{name} was counted up to {held.next_offset}, and ends at {log_bounds.end}")
        except (SumsLost, NoGrowth, AnotherLog) as error:
            log.warning("%s: %s is counted anew, from the first record that there is", error, name)
            anew, growth = True, PartitionGrowth(without)
            if isinstance(error, SumsLost):
                held = error.held
        if anew:
            held = await store.forget(partition, held)
        if held.next_offset is not None and held.next_offset < log_bounds.begin:
            lost = log_bounds.begin - held.next_offset
            log.warning("retention took %d records of %s before they were counted", lost, name)
        return cls(store, partition, held, growth, foreign)

    @property
    def fresh_rows(self) -> int:
        """Returns how much was counted since the last write."""
        return sum(len(parts) for parts in self._fresh.values())

    async def add(self, records: Records) -> None:
        """Counts the next records. Raises AnotherLog."""
        if self.next_offset is not None and records.first_offset < self.next_offset:
            raise AnotherLog(f"{place(self.partition)} goes on at {records.first_offset} and not at {self.next_offset}")
        for day, found in await asyncio.to_thread(lambda: list(self._growth.add(records, self._foreign))):
            self._fresh.setdefault(day, adding()).add(found)
        self.next_offset = records.next_offset

    async def write(self, retention_days: int) -> bool:
        """Writes what was counted, up to `next_offset`. Keeps the newest `retention_days` days that there are, and
        deletes those before them: one ping with a false time counts for one of them. Returns False if nothing is new.

        After an error other than Fenced and SumsLost it may be called again. Raises SumsLost if what Redis has of a day
        is not what was written, and as `SumsStore.put`.
        """
        next_offset = self.next_offset
        if next_offset is None or next_offset == self._held.next_offset:
            return False
        growth = await asyncio.to_thread(self._growth.dumps)
        parts = {day: await self._part(day, fresh) for day, fresh in self._fresh.items()}
        days = {*self._held.parts, *parts}
        gone = sorted(days)[:-retention_days]
        kept = {day: part for day, part in parts.items() if day not in gone}
        self._held = await self._store.put(self.partition, self._held, next_offset, growth, kept, gone)
        self._fresh.clear()
        return True

    async def _part(self, day: int, fresh: Parts[Day]) -> Part:
        if self._held.parts.get(day, 0) - self._joined.get(day, 0) < MOST_PARTS:
            return Part(await asyncio.to_thread(lambda: fresh.total().dumps()))
        before = await self._store.parts(self.partition, day)
        if len(before) != self._held.parts[day]:
            raise SumsLost(self.partition, self._held)
        try:
            first, *more = await asyncio.to_thread(_joined, before, fresh.total())
        except ValueError as error:
            raise SumsLost(self.partition, self._held, f"Redis has damaged some ({error})") from error
        self._joined[day] = 1 + len(more)
        return Part(first, instead=True, more=tuple(more))


def _joined(before: list[bytes], fresh: Day) -> list[bytes]:
    """Returns parts of a day and what is new as one part, or as several if it is large: so not all of a day has to be
    in memory.
    """
    days = GrowingDays()
    for one in (*map(Day.loads, before), fresh):
        days.add([(0, one)])
    parts, whose = list[bytes](), days.whose(0)
    for sums in gathered(days.run(0), PART_ROWS):
        parts.append(whose.plus(Day.of_sums(sums)).dumps())
        whose = Day.none()
    return parts or [whose.dumps()]
