"""Keeps days while they grow, most of them compressed: a recording goes on with the newest, and so does a topic."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Final

from model.atlas.days import Day
from model.atlas.parts import Parts

OPEN: Final = 2  # days that are not compressed: that of a time, and the one before or after it


class Days(Mapping[int, Day]):
    """Days by their numbers since 1970, UTC, which rise. Not all have to be in memory."""

    @abstractmethod
    def whose(self, number: int) -> Day:
        """Returns whose pings are in a day, without its sums."""


class GrowingDays(Days):
    """Days to which more can be added."""

    def __init__(self) -> None:
        self._open: dict[int, Parts[Day]] = {}  # the one that was added to last is last
        self._packed: dict[int, bytes] = {}

    def add(self, days: Mapping[int, Day]) -> None:
        for number, day in days.items():
            parts = self._open.pop(number) if number in self._open else adding(self._packed.pop(number, None))
            parts.add(day)
            self._open[number] = parts
        while len(self._open) > OPEN:
            number = next(iter(self._open))
            self._packed[number] = self._open.pop(number).total().dumps()

    def __iter__(self) -> Iterator[int]:
        return iter(sorted({*self._open, *self._packed}))

    def __len__(self) -> int:
        return len(self._open) + len(self._packed)

    def __getitem__(self, number: int) -> Day:
        return self._open[number].total() if number in self._open else Day.loads(self._packed[number])

    def whose(self, number: int) -> Day:
        if number in self._open:
            return self._open[number].total().without_sums()
        return Day.loads(self._packed[number], sums=False)


def adding(raw: bytes | None = None) -> Parts[Day]:
    """Returns a day that more can be added to, and that begins with these bytes."""
    parts = Parts(Day.total, lambda day: len(day.sums) + len(day.ids))
    if raw is not None:
        parts.add(Day.loads(raw))
    return parts
