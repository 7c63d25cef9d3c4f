"""A GTFS feed as arrays: its trips, the patterns of stops that they share, and the links between stops.

All calls of all trips lie in a few columns, and the object of a trip is made when it is asked for: a national feed has
200,000 trips and millions of calls, and few of them are under way at once.

Letters: N stops of a trip, of which the first is a departure and the last an arrival; L = N - 1 links; T trips; C calls
of all trips, those of a trip one after the other; P points of all shapes; D stops of the feed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.transit.schedule.days import ServiceDays
from stream.transit.schedule.paths import Path

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REACHED_M: Final = 20.0  # a stop is reached that long before its place on the path: the length of a bus and its error
MOST_EXACT: Final = 0.5  # a feed with more times of whole minutes than this does not show its timepoints by them
PATTERNS_KEPT: Final = 4_096  # that were asked for last, some 25 KB each; those of trips under way are held by these


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
