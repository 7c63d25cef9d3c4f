"""Keeps days while they grow: the newest of what they have in memory, the rest in a temporary file that has no name, so
that nothing of it stays when the process ends.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from model.atlas.days import Day, PartialSums, adding
from model.atlas.passages import Ids, Passages

MOST: Final = 1_000_000  # passages in memory, of 145 bytes


class GrowingDays:
    """Days by their numbers since 1970, UTC, to which more can be added."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._fresh: dict[int, PartialSums[Day]] = {}
        self._whose: dict[int, Day] = {}  # of what is in the file
        self._stored: dict[int, list[tuple[int, int]]] = {}  # where parts of a day begin in the file, and their bytes
        file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this
        weakref.finalize(self, file.close)
        self._file, self._end = file.fileno(), 0

    def __iter__(self) -> Iterator[int]:
        return iter(sorted({*self._fresh, *self._whose}))

    @property
    def passages(self) -> int:
        """How many passages are in memory."""
        return sum(map(len, self._fresh.values()))

    def add(self, days: Iterable[tuple[int, Day]]) -> None:
        """Adds what is new. Raises OSError if the disk is full."""
        for number, day in days:
            self._fresh.setdefault(number, adding()).add(day)
            while self.passages > self._most:
                self._store(max(self._fresh, key=lambda number: len(self._fresh[number])))

    def add_all(self, others: GrowingDays) -> None:
        """Adds what others have, as those of another partition: what each is to forget concerns only what was added to
        it itself."""
        self.add((number, others.day(number)) for number in others)

    def forget(self, ids: Ids) -> None:
        """Leaves out what was added of these entities. What is added later counts."""
        for number in list(self) if len(ids) else ():
            if np.isin(ids, self.whose(number).ids).any():
                day = self.day(number).without(ids)
                for known in (self._fresh, self._whose, self._stored):
                    known.pop(number, None)
                self.add([(number, day)])

    def _store(self, number: int) -> None:
        day = self._fresh.pop(number).total()
        raw = day.dumps()
        os.pwrite(self._file, raw, self._end)
        self._stored.setdefault(number, []).append((self._end, len(raw)))
        self._end += len(raw)
        self._whose[number] = self._whose.get(number, Day.none()).plus(without_passages(day))

    def whose(self, number: int) -> Day:
        """Returns whose pings are in a day, without its passages."""
        fresh = self._fresh[number].total() if number in self._fresh else Day.none()
        return self._whose.get(number, Day.none()).plus(without_passages(fresh))

    def day(self, number: int) -> Day:
        """Returns a day with all that was added."""
        parts = [Day.loads(os.pread(self._file, size, begin)) for begin, size in self._stored.get(number, ())]
        return Day.total([*parts, *([self._fresh[number].total()] if number in self._fresh else [])])


def without_passages(day: Day) -> Day:
    """Returns the same with its questions, and with no passages."""
    return replace(day, passages=Passages.none())
