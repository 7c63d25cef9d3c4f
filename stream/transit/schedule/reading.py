"""Reads the zip of a GTFS feed into a `Schedule`, column by column.

Letters: T trips; C calls of all trips, those of a trip one after the other; P points of all shapes.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path as File
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from stream.transit.schedule.days import WEEKDAYS, ServiceDays, days_of
from stream.transit.schedule.feed import Calls, Schedule, Stop, Trips

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEEDED: Final = ("agency.txt", "stops.txt", "trips.txt", "stop_times.txt")
_CODES: Final = pa.dictionary(pa.int32(), pa.string())  # texts that occur often, each stored once
_BLOCK_BYTES: Final = 1 << 23


def read_schedule(file: str | File) -> Schedule:
    """Reads a zip with a GTFS feed, whose files may lie in one folder of it.

    Raises FileNotFoundError if there is none, ValueError in one line that names the file for what is no feed.
    """
    if not File(file).is_file():
        raise FileNotFoundError(f"{file}: no such file")
    try:
        with zipfile.ZipFile(file) as feed:
            return _read(_Tables(feed, str(file)))
    except zipfile.BadZipFile:
        raise ValueError(f"{file}: not a zip, and a GTFS feed is one") from None


class _Tables:
    """The files of a feed as tables. All columns are texts, but for those that are asked for as another type."""

    def __init__(self, feed: zipfile.ZipFile, file: str) -> None:
        self.file = file
        self._feed = feed
        self._members = {name.rsplit("/", 1)[-1]: name for name in feed.namelist()}
        absent = [name for name in NEEDED if name not in self._members]
        if absent:
            raise ValueError(f"{file}: no GTFS feed, as {', '.join(absent)} is not in it")

    def read(self, name: str, needed: Mapping[str, Any], others: Mapping[str, Any] | None = None) -> pa.Table:
        """Returns some columns of a file; without rows, if it is not there. Raises ValueError if it lacks a needed one.

        Columns of `others` that it lacks are null.
        """
        types = {**needed, **(others or {})}
        empty = pa.schema(list(types.items())).empty_table()
        if name not in self._members or not self._feed.getinfo(self._members[name]).file_size:
            return empty
        with self._feed.open(self._members[name]) as raw:
            found = pacsv.read_csv(
                raw,
                pacsv.ReadOptions(block_size=_BLOCK_BYTES),
                pacsv.ParseOptions(newlines_in_values=name in ("agency.txt", "stops.txt", "trips.txt")),
                pacsv.ConvertOptions(column_types=types, include_columns=list(types), include_missing_columns=True),
            )
        # A column that the file lacks is of nulls, and so is one of numbers that are all empty.
        lacking = [one for one in needed if len(found) and found[one].null_count == len(found)]
        if lacking:
            raise ValueError(f"{name} has no {lacking[0]}")
        return found.unify_dictionaries().combine_chunks()

    def rows(self, name: str, *columns: str) -> list[dict[str, str]]:
        return [dict(row) for row in self.read(name, dict.fromkeys(columns, pa.string())).to_pylist()]


def _read(tables: _Tables) -> Schedule:
    try:
        agencies = tables.rows("agency.txt", "agency_timezone")
        if not agencies:
            raise ValueError("agency.txt names no agency")  # told as all else that is broken
        zone = ZoneInfo(agencies[0]["agency_timezone"])
        running = days_of(
            tables.rows("calendar.txt", "service_id", *WEEKDAYS, "start_date", "end_date"),
            tables.rows("calendar_dates.txt", "service_id", "date", "exception_type"),
        )
        stops = _stops(tables)
        trips, pairs = _trips(tables, list(stops))
        shapes = _shapes(tables)
    except (KeyError, TypeError, ValueError) as error:  # Arrow's errors of what is no CSV are ValueErrors
        told = " ".join(str(error).split())
        raise ValueError(f"{tables.file}: a broken GTFS feed: {type(error).__name__}: {told}") from error
    if not trips:
        raise ValueError(f"{tables.file}: no trip of the feed has two stops with times")
    return Schedule(ServiceDays(zone, running), trips, stops, shapes, pairs)


def _stops(tables: _Tables) -> dict[str, Stop]:
    """Returns the stops that have a place."""
    places = {"stop_lat": pa.float64(), "stop_lon": pa.float64()}
    found = tables.read("stops.txt", {"stop_id": pa.string(), **places}, {"stop_name": pa.string()})
    columns = (found[name].to_pylist() for name in ("stop_id", "stop_lat", "stop_lon", "stop_name"))
    return {
        stop_id: Stop(lat, lon, name or None)
        for stop_id, lat, lon, name in zip(*columns, strict=True)
        if lat is not None and lon is not None
    }


def _shapes(tables: _Tables) -> dict[str, Floats]:
    types = {"shape_pt_sequence": pa.int64(), "shape_pt_lat": pa.float64(), "shape_pt_lon": pa.float64()}
    found = tables.read("shapes.txt", {"shape_id": _CODES, **types})
    if not len(found):
        return {}
    codes, ids = _codes(found["shape_id"])
    order = _order(codes, found["shape_pt_sequence"].to_numpy())
    points_P2 = np.column_stack([found["shape_pt_lat"].to_numpy(), found["shape_pt_lon"].to_numpy()])[order]
    ends = np.searchsorted(codes[order], np.arange(len(ids) + 1))
    return {one: points_P2[ends[number] : ends[number + 1]] for number, one in enumerate(ids)}


def _trips(tables: _Tables, stop_ids: list[str]) -> tuple[Trips, Ints]:
    """Returns the trips that have two stops with places and times, and the pairs of stops of their links."""
    needed = {"trip_id": pa.string(), "service_id": _CODES}
    others = dict.fromkeys(("route_id", "block_id", "shape_id", "direction_id", "trip_headsign"), _CODES)
    table = tables.read("trips.txt", needed, others)
    ids = table["trip_id"].to_pylist()
    numbers = {trip_id: number for number, trip_id in enumerate(ids)}
    trip_C, calls = _calls(tables, numbers, {stop_id: number for number, stop_id in enumerate(stop_ids)})
    count_T = np.bincount(trip_C, minlength=len(ids))
    timed_T = np.bincount(trip_C, weights=~np.isnan(calls.arrival_C), minlength=len(ids))
    good_T = (count_T > 1) & (timed_T > 1)
    kept_C = good_T[trip_C]
    columns: Any = (calls.stop_C, calls.sequence_C, calls.arrival_C, calls.departure_C, calls.mark_C)
    if not kept_C.all():
        columns, trip_C = tuple(one[kept_C] for one in columns), trip_C[kept_C]
    rows: dict[str, Sequence[Any]] = {"trip_id": [ids[number] for number in np.flatnonzero(good_T)]}
    for name in (*needed, *others):
        if name not in rows:
            codes, texts = _codes(table[name])
            rows[name] = [texts[code] if code >= 0 else "" for code in codes[good_T].tolist()]
    starts = np.concatenate([[0], np.cumsum(count_T[good_T])])
    stop_C = columns[0].astype(np.int64)
    pairs = np.unique((stop_C[:-1] * len(stop_ids) + stop_C[1:])[trip_C[:-1] == trip_C[1:]])
    return Trips(rows, Calls(starts, *columns), stop_ids), pairs


def _calls(tables: _Tables, trips: Mapping[str, int], stops: Mapping[str, int]) -> tuple[Ints, Calls]:
    """Returns the calls of known trips at stops with a place, in the order of the trips and of their stops; and the
    number of each call's trip. `starts` is still empty."""
    needed = {"trip_id": _CODES, "stop_id": _CODES, "stop_sequence": pa.int32()}
    table = tables.read(
        "stop_times.txt", needed, dict.fromkeys(("arrival_time", "departure_time", "timepoint"), _CODES)
    )

    def number(name: str, numbers: Mapping[str, int]) -> Ints:
        codes, texts = _codes(table[name])
        return np.array([*(numbers.get(text, -1) for text in texts), -1])[codes]

    def seconds(name: str) -> Floats:
        codes, texts = _codes(table[name])
        return np.array([*map(_seconds, texts), np.nan])[codes]

    trip_C, stop_C, sequence_C = number("trip_id", trips), number("stop_id", stops), table["stop_sequence"].to_numpy()
    kept = np.flatnonzero((trip_C >= 0) & (stop_C >= 0))
    order = kept[_order(trip_C[kept], sequence_C[kept])]
    arrival_C, departure_C = seconds("arrival_time")[order], seconds("departure_time")[order]
    arrival_C = np.where(np.isnan(arrival_C), departure_C, arrival_C)
    departure_C = np.where(np.isnan(departure_C), arrival_C, departure_C)
    codes, texts = _codes(table["timepoint"])
    mark_C = np.array([*(int(text == "1") if text else -1 for text in texts), -1], np.int8)[codes[order]]
    columns = stop_C[order].astype(np.int32), sequence_C[order].astype(np.int32), arrival_C, departure_C, mark_C
    return trip_C[order], Calls(np.zeros(0, np.int64), *columns)


def _codes(column: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    """Returns a column of texts as indices of its texts, and these; -1 is null."""
    chunk = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not len(chunk):
        return np.zeros(0, np.int64), []
    return chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64), chunk.dictionary.to_pylist()


def _order(first: Ints, second: NDArray[Any]) -> Ints:
    """Returns the order by two columns, in which most feeds are already."""
    step = np.diff(first)
    if bool(((step > 0) | ((step == 0) & (np.diff(second) >= 0))).all()):
        return np.arange(len(first))
    return np.lexsort((second, first))


def _seconds(text: str) -> float:
    """Returns the seconds of H:MM:SS, which may pass 24 hours; NaN for an empty field."""
    if not text.strip():
        return float("nan")
    hours, minutes, seconds = text.strip().split(":")
    return int(hours) * 3600.0 + int(minutes) * 60.0 + int(seconds)
