"""Plays a recording through the predictor: at each full minute it answers from the pings before that minute."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream.transit.predicting.predictor import ANSWERED_S, Arrivals, Predictor

NEAR_S: Final = 2_700.0  # stops farther ahead are not written: nobody asks so early, and they are most of the rows
BATCH_ROWS: Final = 200_000

SCHEMA: Final = pa.schema(
    [
        ("made_at", pa.int64()),
        ("trip_id", pa.string()),
        ("start_date", pa.string()),
        ("stop_sequence", pa.int32()),
        ("predicted_arrival", pa.int64()),
        ("predicted_departure", pa.int64()),
        ("lo", pa.int64()),
        ("hi", pa.int64()),
    ]
)


class TripPing(NamedTuple):
    """A ping of a vehicle that names its trip. Times in epoch seconds; a speed that is not known is NaN."""

    entity_id: str
    trip_id: str
    t_s: float
    lat_deg: float
    lon_deg: float
    speed_mps: float


def replay(predictor: Predictor, pings: Iterable[TripPing], every_s: int) -> Iterator[tuple[float, Arrivals]]:
    """Yields what was answered, and when: at each full `every_s` seconds, as long as there were pings shortly before.

    The pings are in the order of their times; those of the moment itself are known then.
    """
    due_s, newest_s = math.inf, -math.inf
    for ping in pings:
        while due_s < ping.t_s:
            for arrivals in predictor.answer(due_s):
                yield due_s, arrivals
            due_s = due_s + every_s if due_s - newest_s < ANSWERED_S else math.inf
        predictor.observe(*ping)
        newest_s = ping.t_s
        if due_s == math.inf:
            due_s = math.ceil(ping.t_s / every_s) * every_s
    if due_s < math.inf:
        yield from ((due_s, arrivals) for arrivals in predictor.answer(due_s))


class PredictionWriter:
    """Writes answers as rows of Parquet, a batch at a time."""

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self._file = pq.ParquetWriter(path, SCHEMA, compression="zstd")
        self._tables: list[pa.Table] = []
        self._waiting = 0

    def add(self, made_s: float, arrivals: Arrivals) -> None:
        """Adds a row for each stop that may be reached within NEAR_S."""
        near = int(np.searchsorted(np.maximum.accumulate(arrivals.arrival_A), made_s + NEAR_S))
        if near == 0:
            return
        columns: list[Any] = [
            np.full(near, round(made_s * 1000)),
            pa.repeat(arrivals.trip_id, near),
            pa.repeat(arrivals.start_date, near),
            arrivals.sequence_A[:near].astype(np.int32),
        ]
        times = (arrivals.arrival_A, arrivals.departure_A, arrivals.lo_A, arrivals.hi_A)
        columns += [np.rint(time[:near] * 1000).astype(np.int64) for time in times]
        self._tables.append(pa.Table.from_arrays([pa.array(column) for column in columns], schema=SCHEMA))
        self.rows, self._waiting = self.rows + near, self._waiting + near
        if self._waiting >= BATCH_ROWS:
            self._flush()

    def close(self) -> None:
        """Writes what is waiting, and ends the file."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._tables:
            self._file.write_table(pa.concat_tables(self._tables).combine_chunks())
        self._tables, self._waiting = [], 0
