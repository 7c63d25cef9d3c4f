"""Reads a GTFS feed into arrays: its trips, the patterns of stops that they share, and the links between stops.

Letters: N stops of a trip, of which the first is a departure and the last an arrival; L = N - 1 links.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as File
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from stream.transit.days import ServiceDays, days_of
from stream.transit.paths import Path

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEEDED: Final = ("agency.txt", "stops.txt", "trips.txt", "stop_times.txt")
REACHED_M: Final = 20.0  # a stop is reached that long before its place on the path: the length of a bus and its error
MOST_EXACT: Final = 0.5  # a feed with more times of whole minutes than this does not show its timepoints by them


@dataclass(frozen=True)
class Pattern:
    """The stops of some trips, and their path."""

    path: Path
    reached_N: Floats  # metres along the path at which each stop counts as reached
    links_L: Ints  # of the feed


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


class Schedule:
    """One feed. Patterns are made when they are first asked for, as most need a search for their stops."""

    def __init__(
        self,
        days: ServiceDays,
        trips: dict[str, Trip],
        stops: dict[str, tuple[float, float]],
        shapes: dict[str, list[tuple[int, float, float]]],
    ) -> None:
        self.days, self.trips = days, trips
        self._stops, self._shapes = stops, shapes
        self._patterns: dict[tuple[str, tuple[str, ...]], Pattern] = {}
        pairs = dict.fromkeys(
            pair for trip in trips.values() for pair in zip(trip.stops_N, trip.stops_N[1:], strict=False)
        )
        self._links = {pair: number for number, pair in enumerate(pairs)}

    @property
    def n_links(self) -> int:
        """Returns how many pairs of stops some trip serves one after the other."""
        return len(self._links)

    def pattern(self, trip: Trip) -> Pattern:
        """Returns the stops of a trip along its path: its shape, or straight lines between stops if it has none."""
        key = (trip.shape_id, trip.stops_N)
        if key not in self._patterns:
            lat_N, lon_N = np.array([self._stops[stop] for stop in trip.stops_N]).T
            points = sorted(self._shapes.get(trip.shape_id, ()))
            path = Path([p[1] for p in points], [p[2] for p in points]) if len(points) > 1 else Path(lat_N, lon_N)
            along_N, _ = path.place_stops(lat_N, lon_N)
            reached_N = np.maximum(along_N - REACHED_M, 0.0)
            links = [self._links[pair] for pair in zip(trip.stops_N, trip.stops_N[1:], strict=False)]
            self._patterns[key] = Pattern(path, reached_N, np.array(links))
        return self._patterns[key]


def read_schedule(file: str | File) -> Schedule:
    """Reads a zip with a GTFS feed, whose files may lie in one folder of it.

    Raises FileNotFoundError if there is none, ValueError in one line that names the file for what is no feed.
    """
    if not File(file).is_file():
        raise FileNotFoundError(f"{file}: no such file")
    try:
        with zipfile.ZipFile(file) as feed:
            return _read(feed, str(file))
    except zipfile.BadZipFile:
        raise ValueError(f"{file}: not a zip, and a GTFS feed is one") from None


def _read(feed: zipfile.ZipFile, file: str) -> Schedule:
    members = {name.rsplit("/", 1)[-1]: name for name in feed.namelist()}
    absent = [name for name in NEEDED if name not in members]
    if absent:
        raise ValueError(f"{file}: no GTFS feed, as {', '.join(absent)} is not in it")

    def rows(name: str) -> Iterator[dict[str, str]]:
        if name in members:
            with feed.open(members[name]) as raw:
                yield from csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""))

    try:
        zone = ZoneInfo(next(rows("agency.txt"))["agency_timezone"])
        running = days_of(list(rows("calendar.txt")), list(rows("calendar_dates.txt")))
        stops = {
            row["stop_id"]: (float(row["stop_lat"]), float(row["stop_lon"]))
            for row in rows("stops.txt")
            if row.get("stop_lat")
        }
        shapes: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
        for row in rows("shapes.txt"):
            point = (int(row["shape_pt_sequence"]), float(row["shape_pt_lat"]), float(row["shape_pt_lon"]))
            shapes[row["shape_id"]].append(point)
        trips = _trips(list(rows("trips.txt")), rows("stop_times.txt"), stops)
    except (KeyError, StopIteration, TypeError, ValueError) as error:
        raise ValueError(f"{file}: a broken GTFS feed: {type(error).__name__}: {error}") from error
    if not trips:
        raise ValueError(f"{file}: no trip of the feed has two stops with times")
    return Schedule(ServiceDays(zone, running), trips, stops, shapes)


def _trips(
    rows: list[dict[str, str]], times: Iterator[dict[str, str]], stops: dict[str, tuple[float, float]]
) -> dict[str, Trip]:
    """Returns the trips that have two stops with places and times."""
    known = {row["trip_id"] for row in rows}
    by_trip: dict[str, list[tuple[int, str, float, float, str]]] = defaultdict(list)
    for row in times:
        if row["trip_id"] in known and row["stop_id"] in stops:
            arrival, departure = _seconds(row.get("arrival_time")), _seconds(row.get("departure_time"))
            arrival, departure = (
                (departure if np.isnan(arrival) else arrival),
                (arrival if np.isnan(departure) else departure),
            )
            stop = (int(row["stop_sequence"]), row["stop_id"], arrival, departure, row.get("timepoint") or "")
            by_trip[row["trip_id"]].append(stop)
    whole = [stop[3] % 60 == 0 for each in by_trip.values() for stop in each]
    guess = bool(whole) and sum(whole) < MOST_EXACT * len(whole)
    found = {}
    for row in rows:
        stops_of = sorted(by_trip.get(row["trip_id"], []))
        if len(stops_of) > 1 and sum(not np.isnan(stop[2]) for stop in stops_of) > 1:
            found[row["trip_id"]] = _trip(row, stops_of, guess)
    return found


def _trip(row: dict[str, str], stops: list[tuple[int, str, float, float, str]], guess: bool) -> Trip:
    """Makes a trip. `guess`: timepoints that the feed does not name are the stops with times of whole minutes."""
    sequence, ids, arrivals, departures, marks = zip(*stops, strict=True)
    arrival_N, departure_N = np.array(arrivals), np.array(departures)
    exact = ~np.isnan(arrival_N)
    at = np.arange(len(ids))
    arrival_N = np.interp(at, at[exact], arrival_N[exact])
    departure_N = np.maximum(np.interp(at, at[exact], departure_N[exact]), arrival_N)
    named = any(marks)
    timepoint_N = np.array([mark == "1" for mark in marks]) if named else exact & (guess & (departure_N % 60 == 0))
    return Trip(
        row["trip_id"],
        row["service_id"],
        row.get("block_id") or "",
        row.get("shape_id") or "",
        tuple(ids),
        np.array(sequence),
        arrival_N,
        departure_N,
        timepoint_N,
    )


def _seconds(text: str | None) -> float:
    """Returns the seconds of H:MM:SS, which may pass 24 hours; NaN for an empty field."""
    if text is None or not text.strip():
        return float("nan")
    hours, minutes, seconds = text.strip().split(":")
    return int(hours) * 3600.0 + int(minutes) * 60.0 + int(seconds)
