"""Counts a partition that is ours, and writes what was counted to Redis, in steps that leave nothing out and count
nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import numpy as np

from model.atlas.days import Day, PartialSums, adding
from model.atlas.passages import Ids
from stream.atlas.growing import Grown, NoGrowth, PartitionGrowth
from stream.config import failpoints
from stream.kafka.log import Seen, Start
from stream.kafka.records.record_columns import Partition, Records
from stream.store.days_store import DayPart, DaysLost, DaysStore, Held
from stream.tracks.clean import Foreign

log: Final = logging.getLogger(__name__)

MOST_PARTS: Final = 8  # of a day in Redis, beside those that were added up; one more, and all are
NOBODY: Final = np.empty(0, np.uint64)


class Owned:
    """One partition that is ours, with what was counted since the last write."""

    def __init__(
        self,
        store: DaysStore,
        partition: Partition,
        held: Held,
        growth: PartitionGrowth,
        foreign: Foreign | None = None,
    ) -> None:
        self._store = store
        self._held = held
        self._growth = growth
        self._foreign = foreign
        self._fresh: dict[int, PartialSums[Day]] = {}
        self._forgotten: Ids = NOBODY  # entities of which Redis may still have something
        self.partition = partition
        # That of the next record to count; None: the first that there is. Its user may set it to a later one if all
        # records before that are counted.
        self.next_offset = held.next_offset
        self.seen = Seen.of(held.seen)

    @classmethod
    async def take_over(
        cls,
        store: DaysStore,
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
        except (DaysLost, NoGrowth) as error:
            log.warning("%s: %s is counted anew, from the first record that there is", error, name)
            anew = True
            if isinstance(error, DaysLost):
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
    def has_pings(self) -> bool:
        """Returns whether any ping is counted."""
        return bool(self._fresh or self._held.parts)

    @property
    def forgotten(self) -> Ids:
        """Returns the entities that are to be forgotten before the next write."""
        return self._forgotten

    @property
    def fresh_passages(self) -> int:
        """Returns how many passages were found since the last write."""
        return sum(len(parts) for parts in self._fresh.values())

    async def add(self, records: Records) -> None:
        """Counts the next records."""
        for grown in await asyncio.to_thread(lambda: list(self._growth.add(records, self._foreign))):
            self._forget(grown)
            for day, found in grown.days:
                self._fresh.setdefault(day, adding()).add(found)
        self.next_offset = records.next_offset

    def _forget(self, grown: Grown) -> None:
        if not len(grown.forgotten):
            return
        self._forgotten = np.union1d(self._forgotten, grown.forgotten)
        for day, parts in self._fresh.items():
            self._fresh[day] = adding()
            self._fresh[day].add(parts.total().without(grown.forgotten))

    async def write(self, retention_days: int) -> bool:
        """Writes what was counted, up to `next_offset`. Keeps the newest `retention_days` days that there are, and
        deletes those before them: one ping with a false time counts for one of them. Returns False if nothing is new.

        After an error other than Fenced and DaysLost it may be called again. Raises DaysLost if what Redis has of a day
        is not what was written, and as `DaysStore.put`.
        """
        next_offset = self.next_offset
        if next_offset is None or next_offset == self._held.next_offset:
            return False
        await self._forget_stored()
        growth = await asyncio.to_thread(self._growth.dumps)
        parts = {day: await self._part(day, fresh) for day, fresh in self._fresh.items()}
        days = {*self._held.parts, *parts}
        gone = sorted(days)[:-retention_days]
        kept = {day: part for day, part in parts.items() if day not in gone}
        seen = self.seen.text
        self._held = await self._store.put(self.partition, self._held, next_offset, growth, kept, gone, seen)
        failpoints.reach("after_days")
        self._fresh.clear()
        return True

    async def _forget_stored(self) -> None:
        """Takes out of Redis what is to be forgotten, day by day, as all days may be more than fits into memory. The
        offset stays before the records that ask for it: after a crash they are found again.
        """
        if len(self._forgotten):
            self._held = await forget_days(self._store, self.partition, self._held, self._forgotten)
        self._forgotten = NOBODY

    async def _part(self, day: int, fresh: PartialSums[Day]) -> DayPart:
        joins = self._held.parts.get(day, 0) >= MOST_PARTS
        before = await self._read_day(day) if joins else Day.none()
        return DayPart(await asyncio.to_thread(lambda: before.plus(fresh.total()).dumps()), instead=joins)

    async def _read_day(self, day: int) -> Day:
        return await read_day(self._store, self.partition, self._held, day)


async def read_day(store: DaysStore, partition: Partition, held: Held, day: int) -> Day:
    """Returns a day as Redis has it. Raises DaysLost."""
    before = await store.parts(partition, day)
    if len(before) != held.parts[day]:
        raise DaysLost(partition, held)
    try:
        return await asyncio.to_thread(lambda: Day.total(map(Day.loads, before)))
    except ValueError as error:
        raise DaysLost(partition, held, f"Redis has damaged some ({error})") from error


async def forget_days(store: DaysStore, partition: Partition, held: Held, ids: Ids) -> Held:
    """Takes entities out of the days of a partition that is ours, and returns what is held then. Raises DaysLost, and
    as `DaysStore.put`."""
    if held.next_offset is None:
        return held
    if (growth := await store.growth(partition)) is None:
        raise DaysLost(partition, held)
    now = held
    for day in held.parts:
        whole = await read_day(store, partition, held, day)
        if np.isin(ids, whole.ids).any():
            part = DayPart(await asyncio.to_thread(whole.without(ids).dumps), instead=True)
            now = await store.put(partition, now, held.next_offset, growth, {day: part}, (), held.seen)
    return now
