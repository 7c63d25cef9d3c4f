"""Keeps runs of sums in a temporary file that has no name, so that nothing of it stays when the process ends.

A run lies in one piece, block after block. Of a block:

    offset  size  what
    0       4     R, its rows
    4       4     the bytes of a number in each of the four columns
    8       ...   the columns, one after the other: row [R], n [R, H], off_cm [R, H, 2], off_cm2 [R, H]

Rows are differences to the row before, and squares what they are above those of equal outcomes (`days.columns_of`).
Each column has the smallest integers that hold all its values: some 90 bytes a row instead of 148, in a tenth of the
time of compression, which would make it 45. Only the process that wrote it reads it. What was merged stays, unread.
"""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas.days import columns_of, sums_of
from model.atlas.runs import BLOCK_ROWS, Run, gathered, merged
from model.atlas.sums import Sums

MERGED: Final = 8  # runs of a size become one: a row is written once more whenever there is eight times as much
_HEAD: Final = np.dtype([("rows", "u4"), ("sizes", "u1", 4)])
_KINDS: Final = {size: np.dtype(f"i{size}") for size in (1, 2, 4, 8)}


class Place(NamedTuple):
    """Where a run lies."""

    begin: int
    end: int


class RunFile:
    """A temporary file of runs. Raises OSError if the disk is full."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this
        weakref.finalize(self, self._file.close)
        self._end = 0

    def write(self, run: Run) -> Place:
        """Writes a run, and returns where it is."""
        begin = self._end
        for block in gathered(run, BLOCK_ROWS):
            self._write(block)
        self._file.flush()
        return Place(begin, self._end)

    def read(self, place: Place) -> Iterator[Sums]:
        """Yields the run that was written there."""
        begin = place.begin
        while begin < place.end:
            block, begin = self._read(begin)
            yield block

    def _write(self, sums: Sums) -> None:
        columns = [_narrow(column) for column in columns_of(sums)]
        head = np.array([(len(sums), [column.itemsize for column in columns])], _HEAD)
        for part in (head, *columns):
            self._end += self._file.write(part.data)

    def _read(self, begin: int) -> tuple[Sums, int]:
        """Returns the block that begins there, and where it ends."""
        (head,) = np.frombuffer(os.pread(self._file.fileno(), _HEAD.itemsize, begin), _HEAD)
        begin += _HEAD.itemsize
        columns = []
        for none, size in zip(columns_of(Sums.none()), head["sizes"].tolist(), strict=True):
            shape = int(head["rows"]), *none.shape[1:]
            raw = os.pread(self._file.fileno(), size * math.prod(shape), begin)
            columns.append(np.frombuffer(raw, _KINDS[size]).reshape(shape))
            begin += len(raw)
        return sums_of(*columns), begin


class StoredRuns:
    """The runs of one day in a file: fewer than MERGED of each size, each size MERGED times the one before."""

    def __init__(self, file: RunFile) -> None:
        self._file = file
        self._sizes: list[list[Place]] = []

    def add(self, run: Run, size: int = 0) -> None:
        """Writes one more."""
        if size == len(self._sizes):
            self._sizes.append([])
        self._sizes[size].append(self._file.write(run))
        if len(self._sizes[size]) == MERGED:
            small, self._sizes[size] = self._sizes[size], []
            self.add(merged(map(self._file.read, small)), size + 1)

    def runs(self) -> Iterator[Run]:
        """Yields all runs there are."""
        for some in self._sizes:
            yield from map(self._file.read, some)


def _narrow(column: NDArray[Any]) -> NDArray[Any]:
    """Returns the column with the smallest integers that hold all its values."""
    low, high = int(column.min()), int(column.max())
    kind = next(one for one in _KINDS.values() if np.iinfo(one).min <= low and high <= np.iinfo(one).max)
    return np.ascontiguousarray(column.astype(kind))
