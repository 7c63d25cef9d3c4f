"""Reads a GTFS feed into arrays: its trips, the patterns of stops that they share, and the links between stops.

All calls of all trips lie in a few columns, and the object of a trip is made when it is asked for: a national feed has
200,000 trips and millions of calls, and few of them are under way at once.

Letters: N stops of a trip, of which the first is a departure and the last an arrival; L = N - 1 links; T trips; C calls
of all trips, those of a trip one after the other; P points of all shapes; D stops of the feed.
"""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from stream.transit.days import WEEKDAYS, ServiceDays, days_of
from stream.transit.paths import Path

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEEDED: Final = ("agency.txt", "stops.txt", "trips.txt", "stop_times.txt")
REACHED_M: Final = 20.0  # a stop is reached that long before its place on the path: the length of a bus and its error
MOST_EXACT: Final = 0.5  # a feed with more times of whole minutes than this does not show its timepoints by them
PATTERNS_KEPT: Final = 4_096  # that were asked for last, some 25 KB each; those of trips under way are held by these
_CODES: Final = pa.dictionary(pa.int32(), pa.string())  # texts that occur often, each stored once
_BLOCK_BYTES: Final = 1 << 23


class Stop(NamedTuple):
    """A stop of the feed."""

    lat_deg: float
    lon_deg: float
    name: str | None


@dataclass(frozen=True)
class Pattern:
    """The stops of some trips, and their path."""

    path: Path
    reached_N: Floats  # metres along the path at which each stop counts as reached
    links_L: Ints  # of the feed

    def following(self, along_m: float) -> int:
        """Returns the first stop that is not reached at a place along the path. At its begin that is the second one."""
        return max(1, int(np.searchsorted(self.reached_N, along_m + 1e-6)))

    def share(self, along_m: float, following: int) -> float:
        """Returns how much of the link to the stop `following` lies behind a place, 0 to 1; 0 behind the last stop."""
        if following >= len(self.reached_N) or self.reached_N[following] <= self.reached_N[following - 1]:
            return 0.0
        before_m, after_m = self.reached_N[following - 1], self.reached_N[following]
        return float(min(1.0, max(0.0, (along_m - before_m) / (after_m - before_m))))


@dataclass(frozen=True)
class Trip:
    """One trip of the schedule; seconds are of its service day's clock."""

    trip_id: str
    service_id: str
    block_id: str
    shape_id: str
    stops_N: tuple[str, ...]
    sequence_N: Ints
    arrival_N: Floats
    departure_N: Floats
    timepoint_N: NDArray[np.bool_]
    route_id: str = ""
    direction_id: int | None = None
    headsign: str | None = None


@dataclass(frozen=True, eq=False)
class Calls:
    """The calls of all trips at stops, in columns."""

    starts: Ints  # [T + 1]: where the calls of each trip begin
    stop_C: NDArray[np.int32]  # the number of the stop
    sequence_C: NDArray[np.int32]
    arrival_C: Floats  # NaN: the feed does not have it
    departure_C: Floats
    mark_C: NDArray[np.int8]  # timepoint: 1 or 0 as the feed has it; -1: it does not say


class Trips(Mapping[str, Trip]):
    """The trips of a feed by id. Each is made when it is asked for."""

    def __init__(self, rows: Mapping[str, Sequence[Any]], calls: Calls, stop_ids: Sequence[str]) -> None:
        """Takes the columns of trips.txt, of trips that have calls."""
        self._rows, self._calls, self._stop_ids = rows, calls, stop_ids
        self._numbers = {trip_id: number for number, trip_id in enumerate(rows["trip_id"])}
        whole = int((calls.arrival_C % 60 == 0).sum())
        self._guess = 0 < whole < MOST_EXACT * len(calls.arrival_C)

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __contains__(self, trip_id: object) -> bool:
        return trip_id in self._numbers

    def __getitem__(self, trip_id: str) -> Trip:
        number, calls = self._numbers[trip_id], self._calls
        each = slice(calls.starts[number], calls.starts[number + 1])
        arrival_N, departure_N, mark_N = calls.arrival_C[each], calls.departure_C[each], calls.mark_C[each]
        exact = ~np.isnan(arrival_N)
        at = np.arange(len(arrival_N))
        if not exact.all():
            arrival_N = np.interp(at, at[exact], arrival_N[exact])
            departure_N = np.interp(at, at[exact], departure_N[exact])
        departure_N = np.maximum(departure_N, arrival_N)
        # Timepoints that the feed does not name are the stops with times of whole minutes.
        timepoint_N = mark_N == 1 if (mark_N >= 0).any() else exact & (self._guess & (departure_N % 60 == 0))
        service_id, block_id, shape_id, route_id, direction, headsign = (
            self._rows[name][number]
            for name in ("service_id", "block_id", "shape_id", "route_id", "direction_id", "trip_headsign")
        )
        return Trip(
            trip_id,
            service_id,
            block_id,
            shape_id,
            tuple([self._stop_ids[one] for one in calls.stop_C[each].tolist()]),
            calls.sequence_C[each].astype(np.int64),
            arrival_N,
            departure_N,
            timepoint_N,
            route_id,
            int(direction) if direction in ("0", "1") else None,
            headsign or None,
        )


class Schedule:
    """One feed. Patterns are made when they are first asked for, as most need a search for their stops."""

    def __init__(
        self,
        days: ServiceDays,
        trips: Trips,
        stops: Mapping[str, Stop],
        shapes: Mapping[str, Floats],
        pairs: Ints,
    ) -> None:
        """Takes shapes as [P, 2] degrees, and `pairs`, the sorted numbers of all pairs of stops that some trip serves
        one after the other: first * D + second."""
        self.days, self.trips, self.stops = days, trips, stops
        self._shapes, self._pairs = shapes, pairs
        self._numbers = {stop_id: number for number, stop_id in enumerate(stops)}
        self._patterns: OrderedDict[tuple[str, tuple[str, ...]], Pattern] = OrderedDict()

    @property
    def n_links(self) -> int:
        """Returns how many pairs of stops some trip serves one after the other."""
        return len(self._pairs)

    def link_stops(self) -> list[tuple[str, str]]:
        """Returns the stops of each link, in the order of the links' numbers."""
        ids = list(self.stops)
        return [(ids[one // len(ids)], ids[one % len(ids)]) for one in self._pairs.tolist()]

    def outline(self, trip: Trip) -> Floats:
        """Returns the points of a trip's path, [P, 2] degrees, without placing its stops, which takes long."""
        points = self._shapes.get(trip.shape_id)
        if points is not None and len(points) > 1:
            return points
        return np.array([self.stops[stop][:2] for stop in trip.stops_N])

    def pattern(self, trip: Trip) -> Pattern:
        """Returns the stops of a trip along its path: its shape, or straight lines between stops if it has none."""
        key = (trip.shape_id, trip.stops_N)
        found = self._patterns.pop(key, None) or self._make_pattern(trip)
        self._patterns[key] = found
        if len(self._patterns) > PATTERNS_KEPT:
            self._patterns.popitem(last=False)
        return found

    def _make_pattern(self, trip: Trip) -> Pattern:
        lat_N, lon_N = np.array([self.stops[stop][:2] for stop in trip.stops_N]).T
        path = Path(*self.outline(trip).T)
        along_N, _ = path.place_stops(lat_N, lon_N)
        numbers = np.array([self._numbers[stop] for stop in trip.stops_N])
        links_L = np.searchsorted(self._pairs, numbers[:-1] * len(self.stops) + numbers[1:])
        return Pattern(path, np.maximum(along_N - REACHED_M, 0.0), links_L)


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
