"""Brings in what a fleet drove before: a recording is read once beside the stream, and its days lie in Redis beside
those of the partitions, as days of a partition that the topic does not have. So each later version has them, too.

They are there or not as a whole: what is known of the log beside them (`Held.seen`) is set by the last write, and says
which recording it was. The owner of partition 0 alone writes them, and takes out of them who is to be forgotten.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from model.atlas.passages import Ids
from stream.adapters.files import STDIN
from stream.adapters.recorded import Recording, recording
from stream.atlas.counting.owned import NOBODY, forget_days
from stream.atlas.growing import NoGrowth, PartitionGrowth
from stream.config.wording import counted
from stream.kafka.records.record_columns import Partition
from stream.store.days_store import DayPart, DaysLost, DaysStore
from stream.tracks.clean import parse

if TYPE_CHECKING:
    from stream.atlas.counting.settings import RunSettings
    from stream.atlas.growing_days import GrowingDays

log: Final = logging.getLogger(__name__)

TOPIC: Final = "topic"  # in the place of a recording: what the pings topic has
HISTORY: Final = -1  # the number of the partition that the topic does not have
FIRST_ROWS: Final = 1_000  # by which it is told whether a file has pings
TOLD_EVERY: Final = 500_000  # rows, between two lines of the log


@dataclass(frozen=True)
class History:
    """Names what the first version is made of: a recording, or the topic up to its present end."""

    source: str  # as it was given
    recording: Recording | None  # None: the topic
    columns: str | None = None
    zone: str | None = None

    @classmethod
    def of(cls, given: str, columns: str | None, zone: str | None = None) -> History:
        """Returns what `topic`, or anything that `pathcast feed` takes, names. Of a file the first rows are read.

        Raises ValueError if it is wrong or has no pings, FileNotFoundError.
        """
        if given == TOPIC:
            if columns is not None or zone is not None:
                raise ValueError("columns and time zones are for a recording, and not for the topic")
            return cls(given, None)
        if given == STDIN:
            raise ValueError("standard input cannot be read again after a restart: give a file")
        found = recording(given, columns, zone=zone)
        if not found.has_pings(parse, FIRST_ROWS):
            raise ValueError(f"{found.path}: it has no rows")
        return cls(given, found, columns, zone)

    @property
    def is_archive(self) -> bool:
        return self.recording is not None and self.recording.archive is not None and bool(self.recording.archive.pings)

    def name(self, without: frozenset[str]) -> str:
        """Returns by what it is known whether Redis has it: its name, size and time, and how it is read."""
        path = Path(self.source)
        size = (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else ()
        what = path.name, size, self.columns, self.zone, sorted(without)
        return blake2b(repr(what).encode(), digest_size=16).hexdigest()


class HistoryReader:
    """Reads a history, and writes what was found to Redis."""

    def __init__(self, history: History, store: DaysStore, settings: RunSettings) -> None:
        self._history, self._store, self._settings = history, store, settings
        self._partition = settings.topics.pings, HISTORY
        self._reading: asyncio.Future[GrowingDays | None] | None = None
        self._forgotten: Ids = NOBODY
        self._is_closed = False

    @property
    def is_topic(self) -> bool:
        return self._history.recording is None

    def forget(self, ids: Ids) -> None:
        """Leaves these entities out of what is being read."""
        self._forgotten = np.union1d(self._forgotten, ids)

    async def read(self, partitions: Collection[int]) -> bool | None:
        """Goes on with it, without waiting, given the numbers of the topic's partitions. Returns None while it is read;
        then whether Redis has it anew: not if it was there, or if it is left out. Raises Fenced, and as
        `DaysStore.put`."""
        name = self._history.name(self._settings.without)
        if self._reading is None:
            known = (await self._store.read_held(self._partition)).seen
            if known == name and await has_history(self._store, self._partition):
                log.info("history: %s is known already", self._history.source)
                return False
            if self._history.is_archive and await self._is_counted(partitions):
                log.info("history: %s is left out: what was counted of the topic is there", self._history.source)
                return False
            self._reading = asyncio.ensure_future(asyncio.to_thread(self._read_days))
        if not self._reading.done():
            return None
        if (days := self._reading.result()) is None:
            return False
        await asyncio.to_thread(days.forget, self._forgotten)
        await write_history(self._store, self._partition, days, name, self._settings.retention_days)
        return True

    def close(self) -> None:
        """Lets the thread end that reads, at its next rows."""
        self._is_closed = True

    async def _is_counted(self, partitions: Collection[int]) -> bool:
        """Returns whether Redis has days of the topic itself: an archive is written from it, and would count twice."""
        topic = self._partition[0]
        return any([(await self._store.read_held((topic, number))).parts for number in partitions])

    def _read_days(self) -> GrowingDays | None:
        """Returns the days of the recording; None if they cannot be read, for which the stream is not to end."""
        from stream.atlas.building import of_rows

        assert self._history.recording is not None
        told = 0

        def tell(rows: int) -> None:
            nonlocal told
            if self._is_closed:
                raise InterruptedError("it is not read to its end")
            if rows - told >= TOLD_EVERY:
                told = rows
                log.info("history: %s rows of %s are read", f"{rows:,}", self._history.source)

        try:
            rows = self._history.recording.in_order()
            log.info("history: reading %s of %s", counted(len(rows), "row"), self._history.source)
            built = of_rows(rows, tell, self._settings.without)
        except (ValueError, OSError) as error:
            if self._is_closed:
                return None
            log.error("history: %s cannot be read, and versions are made without it: %s", self._history.source, error)
            return None
        pings = sum(built.days.whose(day).pings for day in built.days)
        so_far = counted(pings, "ping"), self._history.source, counted(built.left_out, "record")
        log.log(logging.INFO if pings else logging.ERROR, "history: %s of %s, %s left out", *so_far)
        return built.days


async def write_history(
    store: DaysStore, partition: Partition, days: GrowingDays, name: str, retention_days: int
) -> None:
    """Puts days in the place of those of a history before. Raises as `DaysStore.put`."""
    try:
        held, _ = await store.claim(partition)
    except DaysLost as error:
        held = error.held
    held = await store.forget(partition, held)
    growth = PartitionGrowth().dumps()
    for number in sorted(days)[-retention_days:]:
        day = await asyncio.to_thread(days.day, number)
        raw = await asyncio.to_thread(day.dumps)
        held = await store.put(partition, held, 1, growth, {number: DayPart(raw)})
    await store.put(partition, held, 1, growth, {}, seen=name)


async def has_history(store: DaysStore, partition: Partition) -> bool:
    """Returns whether Redis has the whole of a history that this program can read."""
    held, growth = await store.read_held(partition), await store.growth(partition)
    if not held.seen or growth is None:
        return False
    try:
        await asyncio.to_thread(partial(PartitionGrowth.loads, growth))
    except NoGrowth as error:
        log.warning("the history is left out: %s; give --atlas-history again", error)
        return False
    return True


async def forget_in_history(store: DaysStore, topic: str, ids: Ids) -> None:
    """Takes entities out of what Redis has of a history; what is damaged is discarded. Raises as `DaysStore.put`."""
    partition = topic, HISTORY
    if not (await store.read_held(partition)).parts:
        return
    try:
        held, _ = await store.claim(partition)
        await forget_days(store, partition, held, ids)
    except DaysLost as error:
        log.warning("%s: the history is discarded; give --atlas-history again", error)
        await store.discard(partition)
