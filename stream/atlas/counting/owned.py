"""Counts a partition that is ours, and writes what was counted to Redis, in steps that leave nothing out and count
nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from model.atlas.days import Day, adding
from model.atlas.parts import Parts
from model.atlas.runs import gathered
from stream.atlas.growing import NoGrowth, PartitionGrowth
from stream.atlas.growing_days import GrowingDays
from stream.kafka.log import Seen, Start
from stream.kafka.records.record_columns import Partition, Records
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
        self.seen = Seen.of(held.seen)

    @classmethod
    async def taken_over(
        cls,
        store: SumsStore,
        partition: Partition,
        start_of: Callable[[int | None, Seen], Awaitable[Start]],
        *,
        without: Collection[str] = (),
        anew: bool = False,
        foreign: Foreign | None = None,
    ) -> tuple[Owned, Start]:
        """Claims a partition, and asks `start_of` where its log goes on. What Redis has lost, or another program left,
        is counted anew from the log; if `anew`, all is. Of the entities `without`, nothing is counted. `foreign` reads
        records that are no pings of ours.

        After a cut it counts on from there, and what was counted of records that are gone stays: days that retention
        has deleted are nowhere else. If nobody can tell where the cut is, all is counted anew.

        Raises Fenced, and as `start_of`.
        """
        name, growth, raw = f"{partition[0]}/{partition[1]}", PartitionGrowth(without), None
        try:
            held, raw = await store.claim(partition)
            if raw is not None and not anew:
                growth = await asyncio.to_thread(PartitionGrowth.loads, raw, without)
        except (SumsLost, NoGrowth) as error:
            log.warning("%s: %s is counted anew, from the first record that there is", error, name)
            anew = True
            if isinstance(error, SumsLost):
                held = error.held
        start = await start_of(held.next_offset, Seen.of(held.seen))
        if anew or start.is_guess:
            held, growth = await store.forget(partition, held), PartitionGrowth(without)
            start = start._replace(offset=start.log.begin, seen=start.seen._replace(read=start.log.begin))
        elif start.is_cut:
            growth.go_back(start.offset)
            raw = await asyncio.to_thread(growth.dumps)
            held = await store.put(partition, held, start.offset, raw, {}, seen=start.seen.text)
        return cls(store, partition, held, growth, foreign), start

    @property
    def fresh_rows(self) -> int:
        """Returns how much was counted since the last write."""
        return sum(len(parts) for parts in self._fresh.values())

    async def add(self, records: Records) -> None:
        """Counts the next records."""
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
        seen = self.seen.text
        self._held = await self._store.put(self.partition, self._held, next_offset, growth, kept, gone, seen)
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
