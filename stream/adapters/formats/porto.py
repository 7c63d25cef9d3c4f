"""Reads Porto's taxis (ECML/PKDD 2015): train.csv, one trip a row.

    TRIP_ID, ..., TAXI_ID, TIMESTAMP (s UTC, of the first point), ..., MISSING_DATA, POLYLINE [[lon, lat], ...]

Longitude comes first, and points are 15 s apart. The entity is TAXI_ID unchanged. Each trip is a trajectory, identified
by its taxi and its start, like TRIP_ID: a trip that the file has twice becomes one, and its second points are counted
as repeated. A trip marked MISSING_DATA lacks points, and nobody knows where, so its times are wrong from some point on:
it is left out. `missing_data`, `empty_trip` and `unreadable_row` count trips; the other reasons count points.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stream.adapters import text
from stream.adapters.table_builder import END_S, Piece, Progress, TableBuilder
from stream.adapters.tables import Table

STEP_MS: Final = 15_000
PAIRS: Final = r"^\[(\[[^][,]+,[^][,]+\](, ?\[[^][,]+,[^][,]+\])*)?\]$"
COLUMNS: Final = ("TAXI_ID", "TIMESTAMP", "MISSING_DATA", "POLYLINE")
UNREADABLE: Final = np.full((1, 2), np.nan)  # stands for an unreadable trip: one point without a position


def read(files: Sequence[Path], progress: Progress) -> Table:
    """Reads the files. If none can be read, raises ValueError, which names a file and what is wrong with it."""
    found = TableBuilder()

    def add(file: Path, within: Progress) -> None:
        present = text.header(file)
        missing = [name for name in COLUMNS if name not in present]
        if missing:
            raise ValueError(f"{file}, line 1: no column {', '.join(missing)}; its columns are {', '.join(present)}")
        text.gather(found, file, COLUMNS, partial(_make_piece, found=found), within, named=True)

    found.each(files, progress, add)
    return found.table()


def _make_piece(trips: Any, *, found: TableBuilder) -> Piece:
    """Returns the points of the trips that have any, and one row without a position for each unreadable trip."""
    marked = np.asarray(pc.equal(pc.utf8_lower(trips["MISSING_DATA"]), "true").to_numpy(zero_copy_only=False), bool)
    found.dropped["missing_data"] += int(marked.sum())
    trips = trips.filter(pa.array(~marked))
    points, lon, lat = _split_points(trips["POLYLINE"])
    found.dropped["empty_trip"] += int((points == 0).sum())
    start_s = text.numbers(trips["TIMESTAMP"])
    is_time = np.abs(start_s) < END_S  # false for NaN
    start_ms = np.where(is_time, (np.where(is_time, start_s, 0.0) * 1000).astype(np.int64), text.NO_TIME)
    trip = np.repeat(np.arange(len(points)), points)
    nth = np.arange(len(trip)) - np.repeat(np.cumsum(points) - points, points)
    begins = start_ms[trip]
    ts_ms = np.where(begins == text.NO_TIME, text.NO_TIME, begins + STEP_MS * nth)
    return Piece(trips["TAXI_ID"].take(pa.array(trip)), ts_ms, lat, lon, trajectory=begins)


def _split_points(polylines: Any) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns the number of points of each trip, and all longitudes and latitudes. An unreadable trip is one point of
    NaN."""
    if pc.all(pc.match_substring_regex(polylines, PAIRS)).as_py():
        points = np.asarray(pc.count_substring(polylines, "[").to_numpy(zero_copy_only=False), np.int64) - 1
        bare = polylines.filter(pa.array(points > 0))
        for other in ("[", "]", " "):
            bare = pc.replace_substring(bare, other, "")
        try:
            degrees = pc.split_pattern(bare, ",").flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
            return points, degrees[0::2], degrees[1::2]
        except pa.ArrowInvalid:
            pass  # a cell is not a number: reading trip by trip shows which one
    return _split_one_by_one(polylines)


def _split_one_by_one(polylines: Any) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    trips = [_parse_polyline(cell) for cell in polylines.to_pylist()]
    degrees = np.concatenate([np.empty((0, 2)), *trips])
    return np.array([len(trip) for trip in trips], np.int64), degrees[:, 0], degrees[:, 1]


def _parse_polyline(cell: str) -> NDArray[np.float64]:
    try:
        points = np.array(json.loads(cell), np.float64)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return UNREADABLE
    if points.size == 0:
        return np.empty((0, 2))
    return points if points.ndim == 2 and points.shape[1] == 2 else UNREADABLE
