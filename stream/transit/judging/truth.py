"""Tells when each trip of a recording reached its stops: from all of its pings, those that came later, too.

Letters: K pings of a trip, N stops of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.transit.matching import ERROR_M, PER_M, way_cost
from stream.transit.replaying import TripPing
from stream.transit.schedule import Pattern, Schedule, Trip
from stream.transit.schedule.paths import Path, Place

Floats = NDArray[np.float64]

TIMED_GAP_S: Final = 120.0  # between the pings before and after a stop; farther apart they do not tell when it was
LEFT_OUT: Final = 6.0  # the cost of taking a ping for a wrong one
MOST_LEFT_OUT: Final = 4  # in a row
LEAST_PINGS: Final = 3
APART_S: Final = 10_800.0  # pings of one trip that are farther apart are of two days


@dataclass(frozen=True, eq=False)
class Ride:
    """One run of a trip on one day, and what is known of it afterwards."""

    trip: Trip
    pattern: Pattern
    day: date
    entity: str
    scheduled_N: Floats  # epoch seconds of arrival
    departure_N: Floats
    t_K: Floats  # of pings on the path
    along_K: Floats  # metres along it, never back
    reached_N: Floats  # epoch seconds; NaN: nobody knows, as of the first stop, which is a departure
    known_N: Floats  # when the ping after that came

    @property
    def name(self) -> tuple[str, str]:
        """Returns the trip and its service day."""
        return self.trip.trip_id, f"{self.day:%Y%m%d}"


def find_rides(schedule: Schedule, pings: Iterable[TripPing]) -> list[Ride]:
    """Returns the rides of a recording in the order of their first pings. Of several vehicles that name one trip of a
    day, the one with most pings counts."""
    by_vehicle: dict[tuple[str, str], list[TripPing]] = defaultdict(list)
    for ping in pings:
        if ping.trip_id in schedule.trips:
            by_vehicle[ping.entity_id, ping.trip_id].append(ping)
    best: dict[tuple[str, date], list[TripPing]] = {}
    for (_, trip_id), of_trip in by_vehicle.items():
        of_trip.sort(key=lambda ping: ping.t_s)
        cuts = [n for n in range(1, len(of_trip)) if of_trip[n].t_s - of_trip[n - 1].t_s > APART_S]
        for begin, end in zip([0, *cuts], [*cuts, len(of_trip)], strict=True):
            some, trip = of_trip[begin:end], schedule.trips[trip_id]
            middle_s = some[len(some) // 2].t_s
            ends = int(trip.departure_N[0]), int(trip.arrival_N[-1])
            day = schedule.days.nearest(trip.service_id, *ends, middle_s)
            if len(some) > len(best.get((trip_id, day), ())):
                best[trip_id, day] = some
    rides = [_ride(schedule, schedule.trips[trip_id], day, some) for (trip_id, day), some in best.items()]
    return sorted((one for one in rides if one is not None), key=lambda one: (one.t_K[0], one.name))


def _ride(schedule: Schedule, trip: Trip, day: date, pings: list[TripPing]) -> Ride | None:
    pattern, start_s = schedule.pattern(trip), schedule.days.start_s(day)
    t_K, along_K = follow_path(pattern.path, pings)
    if len(t_K) < LEAST_PINGS:
        return None
    along_K = np.maximum.accumulate(along_K)
    reached = np.full(len(pattern.reached_N), np.nan)
    known = np.full(len(reached), np.nan)
    for stop in range(1, len(reached)):
        at_m = pattern.reached_N[stop]
        after = int(np.searchsorted(along_K, at_m))
        if not 0 < after < len(along_K) or t_K[after] - t_K[after - 1] > TIMED_GAP_S:
            continue
        share = (at_m - along_K[after - 1]) / (along_K[after] - along_K[after - 1])
        reached[stop] = t_K[after - 1] + share * (t_K[after] - t_K[after - 1])
        known[stop] = t_K[after]
    scheduled, departure = trip.arrival_N + start_s, trip.departure_N + start_s
    return Ride(trip, pattern, day, pings[0].entity_id, scheduled, departure, t_K, along_K, reached, known)


def follow_path(path: Path, pings: list[TripPing]) -> tuple[Floats, Floats]:
    """Returns the times of the pings that lie on a path, and the metres along it that fit best together (Viterbi)."""
    seen = [(ping.t_s, places) for ping in pings if (places := path.places(ping.lat_deg, ping.lon_deg))]
    costs: list[list[float]] = []
    backs: list[list[tuple[int, int] | None]] = []
    for number, (t_s, places) in enumerate(seen):
        cost, back = [], []
        for place in places:
            ways = [(LEFT_OUT * number + PER_M * place.along_m, None), *_ways(seen, costs, number, t_s, place)]
            least, whence = min(ways, key=lambda way: way[0])
            cost.append(least + 0.5 * (place.off_m / ERROR_M) ** 2)
            back.append(whence)
        costs.append(cost)
        backs.append(back)
    if not seen:
        return np.empty(0), np.empty(0)
    last = min(range(len(seen)), key=lambda number: min(costs[number]) + LEFT_OUT * (len(seen) - 1 - number))
    at: tuple[int, int] | None = (last, int(np.argmin(costs[last])))
    chosen: list[tuple[float, float]] = []
    while at is not None:
        number, place_number = at
        chosen.append((seen[number][0], seen[number][1][place_number].along_m))
        at = backs[number][place_number]
    times, along = zip(*reversed(chosen), strict=True)
    return np.array(times), np.array(along)


def _ways(
    seen: list[tuple[float, list[Place]]], costs: list[list[float]], number: int, t_s: float, place: Place
) -> Iterable[tuple[float, tuple[int, int] | None]]:
    """Yields what it costs to come to a place from each place of the pings before, and which that is."""
    for before in range(max(0, number - MOST_LEFT_OUT), number):
        left_out = LEFT_OUT * (number - before - 1)
        gap_s = t_s - seen[before][0]
        for n, other in enumerate(seen[before][1]):
            yield costs[before][n] + left_out + way_cost(place.along_m - other.along_m, gap_s), (before, n)
