"""Reads the times and entities of all rows of a file, to know in which order they are.

A file in the order of time, or with each entity's rows in the order of time, is given to the engine as it comes. Any
other has to be sorted first, and for that all of its rows are in memory.

Memory: 12 bytes for each row, and the names of the entities; of a file in neither order, some 400 bytes for each row.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from stream.adapters.files import RecordedRow
from stream.wire import MAX_TS_MS, MIN_TS_MS

NO_TIME: Final = -1  # before any time that a ping can have
NOBODY: Final = -1
TOLD_EVERY: Final = 4_096  # rows
BATCH_ROWS: Final = 16_384  # given to the engine together, as `pathcast replay` does

Order = Literal["time", "entity", "none"]
Read = Callable[[], Iterable[RecordedRow]]  # the rows of a file from its begin, in its order
Progress = Callable[[int], None]  # how many rows are done


@dataclass(frozen=True)
class Survey:
    """Holds the times and entities of the R rows of a file, in the file's order."""

    ts_ms: NDArray[np.int64]  # R; NO_TIME for a row without a time that a ping can have
    entity: NDArray[np.int32]  # R; an index of `names`, or NOBODY
    names: dict[str, int] = field(repr=False)
    order: Order  # by time; or by time for each entity; or neither

    def __len__(self) -> int:
        return len(self.ts_ms)

    def newest_ms(self) -> NDArray[np.int64]:
        """Returns the time of each entity's newest row."""
        rows = np.flatnonzero((self.entity >= 0) & (self.ts_ms != NO_TIME))
        newest = np.full(len(self.names), NO_TIME)
        np.maximum.at(newest, self.entity[rows], self.ts_ms[rows])
        return np.asarray(newest[newest != NO_TIME])


def survey(rows: Iterable[RecordedRow], progress: Progress = lambda rows: None) -> Survey:
    """Reads all rows once."""
    ts_ms, entity = array("q"), array("i")
    names: dict[str, int] = {}
    newest: list[int] = []  # by entity
    latest, by_time, by_entity = NO_TIME, True, True
    for number, row in enumerate(rows):
        ts = row.ts_ms if row.ts_ms is not None and MIN_TS_MS <= row.ts_ms <= MAX_TS_MS else NO_TIME
        code = NOBODY
        if row.key is not None:
            code = names.setdefault(row.key.decode("utf-8", "surrogateescape"), len(names))
            if code == len(newest):
                newest.append(NO_TIME)
        if ts != NO_TIME:
            by_time &= ts >= latest
            latest = max(latest, ts)
            if code != NOBODY:
                by_entity &= ts >= newest[code]
                newest[code] = max(newest[code], ts)
        ts_ms.append(ts)
        entity.append(code)
        if number % TOLD_EVERY == 0:
            progress(number)
    progress(len(ts_ms))
    order: Order = "time" if by_time else "entity" if by_entity else "none"
    return Survey(np.frombuffer(ts_ms, np.int64), np.frombuffer(entity, np.int32), names, order)


def batches(read: Read, found: Survey, most: int = BATCH_ROWS) -> Iterator[list[tuple[int, RecordedRow]]]:
    """Yields the rows with their numbers in the file, each entity's in the order of their times.

    Of a file in neither order, all rows are read before the first comes; rows of the same time keep the file's order,
    and a row without a time stays after the row before it.
    """
    coming: Iterator[tuple[int, RecordedRow]] = iter(enumerate(read()))
    if found.order == "none":
        at = np.maximum.accumulate(found.ts_ms) if (found.ts_ms == NO_TIME).all() else _carry_times(found.ts_ms)
        rows = list(coming)
        coming = ((number, rows[number][1]) for number in np.argsort(at, kind="stable").tolist())
    return iter(lambda: list(islice(coming, most)), [])


def _carry_times(ts_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the times, and for a row without one that of the row before it."""
    last = np.maximum.accumulate(np.where(ts_ms == NO_TIME, 0, np.arange(len(ts_ms))))
    return ts_ms[last]
