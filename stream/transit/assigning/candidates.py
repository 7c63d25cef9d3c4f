"""Tells which trips pass near a place at a time: a grid of the paths, and for each path the times of its trips.

The grid is made once, without placing stops, which takes long; paths are made when a vehicle comes near.

Letters: T trips of one path on one day, in the order of their departure; N stops.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from datetime import date
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.transit.schedule import Pattern, Schedule, Trip

Floats = NDArray[np.float64]

CELL_DEG: Final = 0.004  # some 440 m: a ping looks at its own cell and those around
SPACING_DEG: Final = CELL_DEG / 2  # of points along a path that are put into cells
EARLY_S: Final = 1_500.0  # a trip is looked for that long before it begins,
LATE_S: Final = 3_600.0  # and that long after it should have ended
TABLES_KEPT: Final = 2_048  # times of the trips of one path on one day, that were asked for last


class Service(NamedTuple):
    """One trip on one day."""

    trip_id: str
    day: date


class Table(NamedTuple):
    """The trips of one path on one day."""

    services_T: list[Service]
    departure_TN: Floats  # epoch seconds
    arrival_TN: Floats
    last_T: Floats  # the arrival at the end


class Near(NamedTuple):
    """The trips of one path that may be under way, and what they are late at a place along it, in seconds."""

    services_T: list[Service]
    late_T: Floats
    ahead_T: Floats  # seconds until departure; 0 and less: it has left


class Candidates:
    """All paths of one feed, and their trips by day."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._trips: list[list[str]] = []  # by path, in the order of departure
        self._routes: list[str] = []  # by path
        self._examples: list[Trip] = []  # by path, one of its trips, as making one takes time
        self._cells: dict[tuple[int, int], list[int]] = defaultdict(list)
        self._tables: OrderedDict[tuple[int, date], Table] = OrderedDict()
        self._blocks: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
        self.path_of: dict[str, int] = {}  # by trip
        self._read()

    def _read(self) -> None:
        numbers: dict[tuple[str, str, tuple[str, ...]], int] = {}
        begins: list[list[tuple[float, str]]] = []
        for trip in self.schedule.trips.values():
            key = (trip.route_id, trip.shape_id, trip.stops_N)
            if key not in numbers:
                numbers[key] = len(begins)
                begins.append([])
                self._routes.append(trip.route_id)
                self._examples.append(trip)
                for cell in _cells_along(self.schedule.outline(trip)):
                    self._cells[cell].append(numbers[key])
            self.path_of[trip.trip_id] = numbers[key]
            begins[numbers[key]].append((float(trip.departure_N[0]), trip.trip_id))
            if trip.block_id:
                self._blocks[trip.service_id, trip.block_id].append((float(trip.departure_N[0]), trip.trip_id))
        self._trips = [[trip_id for _, trip_id in sorted(each)] for each in begins]
        for block in self._blocks.values():
            block.sort()
        self.routes = frozenset(self._routes)

    def paths_near(self, lat_deg: float, lon_deg: float, route_id: str | None = None) -> list[int]:
        """Returns the paths that come near a place, of one route if it is given and the feed has it."""
        row, column = int(np.floor(lat_deg / CELL_DEG)), int(np.floor(lon_deg / CELL_DEG))
        found = {path for i in (-1, 0, 1) for j in (-1, 0, 1) for path in self._cells.get((row + i, column + j), ())}
        if route_id is not None and route_id in self.routes:
            found = {path for path in found if self._routes[path] == route_id}
        return sorted(found)

    def fits_route(self, path: int, route_id: str | None) -> bool:
        """Returns whether a path is of a route, or the feed does not know the route."""
        return route_id is None or route_id not in self.routes or self._routes[path] == route_id

    def pattern(self, path: int) -> Pattern:
        """Returns the stops of a path along it."""
        return self.schedule.pattern(self._examples[path])

    def runs_near(self, path: int, at_s: float) -> bool:
        """Returns whether some trip of a path may be under way."""
        return any(first < last for _, first, last in self._slices(path, at_s))

    def near(self, path: int, along_m: float, at_s: float) -> Near:
        """Returns the trips of a path that may be under way, and how late each is at `along_m` of it."""
        pattern = self.pattern(path)
        reached_N = pattern.reached_N
        at = min(max(int(np.searchsorted(reached_N, along_m, side="right")), 1), len(reached_N) - 1)
        share = pattern.share(along_m, at)
        services: list[Service] = []
        late, ahead = [], []
        for table, first, last in self._slices(path, at_s):
            departure_TN, arrival_TN = table.departure_TN[first:last], table.arrival_TN[first:last]
            planned = departure_TN[:, at - 1] + share * (arrival_TN[:, at] - departure_TN[:, at - 1])
            services += table.services_T[first:last]
            late.append(at_s - planned)
            ahead.append(departure_TN[:, 0] - at_s)
        empty = np.zeros(0)
        return Near(services, np.concatenate(late or [empty]), np.concatenate(ahead or [empty]))

    def after(self, service: Service) -> Service | None:
        """Returns what the same block serves next on that day."""
        trip = self.schedule.trips[service.trip_id]
        block = self._blocks.get((trip.service_id, trip.block_id), [])
        at = next((n for n, (_, trip_id) in enumerate(block) if trip_id == service.trip_id), len(block))
        return Service(block[at + 1][1], service.day) if at + 1 < len(block) else None

    def _slices(self, path: int, at_s: float) -> list[tuple[Table, int, int]]:
        found = []
        for day in self.schedule.days.around(at_s):
            table = self._table(path, day)
            if len(table.services_T):
                last = int(np.searchsorted(table.departure_TN[:, 0], at_s + EARLY_S, side="right"))
                first = int(np.searchsorted(table.last_T, at_s - LATE_S))
                if first < last:
                    found.append((table, first, last))
        return found

    def _table(self, path: int, day: date) -> Table:
        key = (path, day)
        found = self._tables.pop(key, None)
        if found is None:
            days, trips = self.schedule.days, self.schedule.trips
            start_s = days.start_s(day)
            running = [trip for trip in (trips[one] for one in self._trips[path]) if days.runs(trip.service_id, day)]
            width = len(running[0].departure_N) if running else 0
            found = Table(
                [Service(trip.trip_id, day) for trip in running],
                np.array([trip.departure_N for trip in running]).reshape(len(running), width) + start_s,
                np.array([trip.arrival_N for trip in running]).reshape(len(running), width) + start_s,
                np.maximum.accumulate(np.array([trip.arrival_N[-1] + start_s for trip in running])),
            )
        self._tables[key] = found
        if len(self._tables) > TABLES_KEPT:
            self._tables.popitem(last=False)
        return found


def _cells_along(points_P2: Floats) -> set[tuple[int, int]]:
    """Returns the cells that a line passes."""
    step = np.abs(np.diff(points_P2, axis=0)).max(axis=1, initial=0.0)
    parts = np.maximum(1, np.ceil(step / SPACING_DEG)).astype(int)
    at = np.concatenate([start + np.arange(n) / n for start, n in enumerate(parts)] + [[float(len(parts))]])
    vertices = np.arange(len(points_P2))
    cells = [np.floor(np.interp(at, vertices, points_P2[:, axis]) / CELL_DEG).astype(int).tolist() for axis in (0, 1)]
    return set(zip(*cells, strict=True))
