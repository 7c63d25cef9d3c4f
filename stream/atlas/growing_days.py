"""Keeps days while they grow: their newest sums in memory, the others in a temporary file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from model.atlas.days import Day, adding
from model.atlas.parts import Parts
from model.atlas.runs import BLOCK_ROWS, Run, in_blocks, merged
from model.atlas.sums import Sums
from stream.atlas.run_file import RunFile, StoredRuns

MOST_ROWS: Final = 1_000_000  # of sums in memory, of 148 bytes; to add them up takes three times as much


class Days(Mapping[int, Day]):
    """Days by their numbers since 1970, UTC, which rise. Not all have to be in memory."""

    @abstractmethod
    def whose(self, number: int) -> Day:
        """Returns whose pings are in a day, without its sums."""

    @abstractmethod
    def run(self, number: int) -> Run:
        """Returns the sums of a day, block by block."""

    def __getitem__(self, number: int) -> Day:
        return self.whose(number).plus(Day.of_sums(Sums.total(self.run(number))))


class GrowingDays(Days):
    """Days to which more can be added."""

    def __init__(self, most_rows: int = MOST_ROWS) -> None:
        self._most_rows = most_rows
        self._fresh: dict[int, Parts[Day]] = {}
        self._whose: dict[int, Day] = {}  # of the days that are in the file
        self._stored: dict[int, StoredRuns] = {}
        self._file: RunFile | None = None

    @property
    def rows(self) -> int:
        """How many rows of sums are in memory; some were added up twice."""
        return sum(map(len, self._fresh.values()))

    def add(self, days: Iterable[tuple[int, Day]]) -> None:
        """Adds what is new. Raises OSError if the disk is full."""
        for number, day in days:
            self._fresh.setdefault(number, adding()).add(day)
            while self.rows > self._most_rows:
                self._store(max(self._fresh, key=lambda number: len(self._fresh[number])))

    def _store(self, number: int) -> None:
        if self._file is None:
            self._file = RunFile()
        fresh = self._fresh.pop(number).total()
        self._whose[number] = self._whose.get(number, Day.none()).plus(fresh.without_sums())
        self._stored.setdefault(number, StoredRuns(self._file)).add(in_blocks(fresh.sums, BLOCK_ROWS))

    def __iter__(self) -> Iterator[int]:
        return iter(sorted({*self._fresh, *self._whose}))

    def __len__(self) -> int:
        return len({*self._fresh, *self._whose})

    def whose(self, number: int) -> Day:
        fresh = self._fresh[number].total().without_sums() if number in self._fresh else Day.none()
        return self._whose.get(number, Day.none()).plus(fresh)

    def run(self, number: int) -> Run:
        runs = list(self._stored[number].runs()) if number in self._stored else []
        if number in self._fresh:
            runs.append(in_blocks(self._fresh[number].total().sums, BLOCK_ROWS))
        return merged(runs)
