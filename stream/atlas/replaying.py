"""Walks recorded pings in the order of their times, while an atlas grows: from each full hour on, a version answers
that is made of what was known before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.api import Atlas, Predictor
from model.atlas.version import dumps
from stream.adapters.files import RecordedRow
from stream.atlas.building import Builder, Built, Rules
from stream.kafka.records.columns import I64
from stream.kafka.records.record_columns import Records
from stream.wire import MAX_TS_MS, MIN_TS_MS

NO_SPAN: Final = 0  # of rows before the first that has a time


@dataclass(frozen=True)
class One:
    """A `stream.engine.asks.AtlasChoice`: one version for all pings, or none."""

    atlas: Atlas | None = None

    @property
    def atlases(self) -> Sequence[Atlas]:
        return () if self.atlas is None else (self.atlas,)

    def of(self, number: int, offsets: I64) -> tuple[I64, NDArray[np.bool_]]:
        return np.full(len(offsets), -1 if self.atlas is None else 0), np.zeros(len(offsets), np.bool_)


class Growing:
    """An atlas of pings that come in the order of their times."""

    def __init__(self, every_ms: int, rules: Rules, predictor: Predictor | None = None) -> None:
        self._every_ms = every_ms
        self._rules = rules
        self._predictor = predictor
        self._builder = Builder()
        self.versions = 0
        self.choice = One()  # what the rows ask that were yielded last

    def batches(self, rows: Iterable[RecordedRow], most: int) -> Iterator[list[RecordedRow]]:
        """Yields the rows in their order, at most so many at a time, and all of a batch ask one version. Before the
        next, the records of each are to be added.
        """
        last = NO_SPAN
        for span, batch in _by_span(rows, self._every_ms, most):
            if NO_SPAN < last < span:
                self.choice = One(atlas_of(self._builder.built(), self._rules, self._predictor))
                self.versions += 1
            last = span
            yield batch

    def add(self, records: Records) -> None:
        self._builder.add(records)


def bytes_of(built: Built, rules: Rules, predictor: Predictor | None = None) -> bytes:
    """Returns the bytes of an atlas file, as `pathcast train atlas` writes it."""
    return dumps(*built.published(rules, predictor))


def atlas_of(built: Built, rules: Rules, predictor: Predictor | None = None) -> Atlas:
    """Returns the same as a version."""
    return Atlas.of(bytes_of(built, rules, predictor))


def _by_span(rows: Iterable[RecordedRow], every_ms: int, most: int) -> Iterator[tuple[int, list[RecordedRow]]]:
    """Yields the rows in their order, at most so many at a time, and in which span of `every_ms` since 1970 they are.

    A row without a time, or with one that no ping can have, is in the span of the row before.
    """
    span, batch = NO_SPAN, list[RecordedRow]()
    for row in rows:
        now = max(_span(row.ts_ms, every_ms), span)
        if batch and (now != span or len(batch) == most):
            yield span, batch
            batch = []
        span = now
        batch.append(row)
    if batch:
        yield span, batch


def _span(ts_ms: int | None, every_ms: int) -> int:
    return NO_SPAN if ts_ms is None or not MIN_TS_MS <= ts_ms <= MAX_TS_MS else ts_ms // every_ms
