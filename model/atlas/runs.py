"""Adds up sums of which not all can be in memory: they come and go as runs.

A run is sums cut into blocks, whose rows rise from block to block. All rows of a key are in one block, so that what is
done to the buckets of a key can be done block by block. Runs are merged by reading a block of each at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from model.atlas.sums import BUCKETS, Sums

BLOCK_ROWS: Final = 4_096  # some 0.6 MB: small enough to hold one of each run, large enough to add up quickly
_LAST_BUCKET: Final = BUCKETS - 1
Run = Iterable[Sums]


def in_blocks(sums: Sums, rows: int) -> Iterator[Sums]:
    """Yields sums as a run, in blocks of so many rows, and up to BUCKETS - 1 more that belong to the last key."""
    begin = 0
    while begin < len(sums):
        end = min(begin + rows, len(sums))
        end = int(np.searchsorted(sums.row, sums.row[end - 1] | _LAST_BUCKET, side="right"))
        yield sums.at(slice(begin, end))
        begin = end


def merged(runs: Iterable[Run]) -> Iterator[Sums]:
    """Yields what runs are together, as one run. In memory is a block of each."""
    heads = [head for head in map(_Head, runs) if head.block is not None]
    while heads:
        upto = min(head.last_row for head in heads) | _LAST_BUCKET
        yield Sums.total([head.taken(upto) for head in heads])
        heads = [head for head in heads if head.block is not None]


def gathered(run: Run, rows: int) -> Iterator[Sums]:
    """Yields a run as `in_blocks` does its sums: merging leaves smaller blocks, and larger ones."""
    some, many = list[Sums](), 0
    for block in run:
        some.append(block)
        many += len(block)
        if many >= rows:
            *whole, last = in_blocks(Sums.total(some), rows)
            yield from whole
            some, many = [last], len(last)
    yield from in_blocks(Sums.total(some), rows)


class _Head:
    """Holds the next block of a run that is merged with others."""

    def __init__(self, run: Run) -> None:
        self._coming = iter(run)
        self.block = self._next()  # None: it has ended

    @property
    def last_row(self) -> int:
        assert self.block is not None
        return int(self.block.row[-1])

    def taken(self, upto: int) -> Sums:
        """Takes the rows of the block up to this one."""
        assert self.block is not None
        end = int(np.searchsorted(self.block.row, upto, side="right"))
        found = self.block.at(slice(0, end))
        self.block = self.block.at(slice(end, None)) if end < len(self.block) else self._next()
        return found

    def _next(self) -> Sums | None:
        return next((block for block in self._coming if len(block)), None)
