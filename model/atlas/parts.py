"""Adds many large things up with few additions: each is added to those before it as soon as it is as large."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class PartialSums(Generic[T]):
    """A sum of large things, in parts. Each has less than half the size of the one before it, so that one that is
    added is part of a few additions only, and twice the memory of the whole is enough.
    """

    def __init__(self, total: Callable[[Sequence[T]], T], size: Callable[[T], int]) -> None:
        self._total = total
        self._size = size
        self._parts: list[T] = []

    def add(self, part: T) -> None:
        self._parts.append(part)
        while len(self._parts) > 1 and 2 * self._size(self._parts[-1]) >= self._size(self._parts[-2]):
            self._parts[-2:] = [self._total(self._parts[-2:])]

    def __len__(self) -> int:
        return sum(map(self._size, self._parts))

    def total(self) -> T:
        """Returns what all parts are together, and keeps that as the only one."""
        if len(self._parts) != 1:
            self._parts[:] = [self._total(self._parts)]
        return self._parts[0]
