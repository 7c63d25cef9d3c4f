"""Keeps runs of sums in a temporary file that has no name, so that nothing of it stays when the process ends.

Only the process that wrote a block reads it, and it knows the block's place and forms: four columns, one after the
other. Rows are differences to the row before, and squares what they are above those of equal outcomes (`days`). Each
column has the smallest integers that hold all its values: some 55 bytes a row instead of 148, ten times faster than by
compression.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas.days import columns_of, sums_of
from model.atlas.runs import Run, gathered, merged
from model.atlas.sums import Sums

MERGED: Final = 8  # runs of a size become one: a row is written once more whenever there is eight times as much
_KINDS: Final = tuple(np.dtype(kind) for kind in ("i1", "i2", "i4", "i8"))


class Block(NamedTuple):
    """Where a block lies."""

    begin: int
    rows: int
    kinds: tuple[np.dtype[Any], ...]  # of its columns


class RunFile:
    """A temporary file of runs. Raises OSError if the disk is full."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this
        weakref.finalize(self, self._file.close)
        self._end = 0

    def write(self, run: Run) -> list[Block]:
        """Writes a run, and returns where it is."""
        blocks = [self._write(block) for block in gathered(run)]
        self._file.flush()
        return blocks

    def read(self, blocks: list[Block]) -> Iterator[Sums]:
        """Yields a run that was written."""
        for block in blocks:
            yield self._read(block)

    def _write(self, sums: Sums) -> Block:
        columns = [_narrow(column) for column in columns_of(sums)]
        block = Block(self._end, len(sums), tuple(column.dtype for column in columns))
        for column in columns:
            self._end += self._file.write(column.data)
        return block

    def _read(self, block: Block) -> Sums:
        columns, begin = [], block.begin
        for none, kind in zip(columns_of(Sums.none()), block.kinds, strict=True):
            shape = block.rows, *none.shape[1:]
            size = kind.itemsize * int(np.prod(shape))
            raw = os.pread(self._file.fileno(), size, begin)
            columns.append(np.frombuffer(raw, kind).reshape(shape))
            begin += size
        return sums_of(*columns)


class StoredRuns:
    """The runs of one day in a file: fewer than MERGED of each size, each size MERGED times the one before."""

    def __init__(self, file: RunFile) -> None:
        self._file = file
        self._sizes: list[list[list[Block]]] = []

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
    kind = next(one for one in _KINDS if np.iinfo(one).min <= low and high <= np.iinfo(one).max)
    return np.ascontiguousarray(column.astype(kind))
