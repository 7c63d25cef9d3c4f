"""What simple methods answer of the stops ahead of a ride, from what was known at a moment. Epoch seconds.

Letters: A stops that are asked for, by their numbers in the trip; L links.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.transit.judging.truth import Ride
from stream.transit.predicting.asking import STARTED_M
from stream.transit.predicting.paces import LEAST_S

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SCHEDULE: Final = "schedule"
DELAY: Final = "with delay"  # the schedule, as late as it is now
EARLIER: Final = "earlier buses"  # as TheTransitClock
METHODS: Final = (SCHEDULE, DELAY, EARLIER)


class _Past(NamedTuple):
    """How long earlier buses of a day took from stop to stop, in the order in which that was known."""

    known_s: list[float]
    took_s: list[float]
    sums_s: list[float]  # of all until then


class Methods:
    """The methods, with what is known of earlier rides. TheTransitClock's default is half the time that the last
    vehicle took, and half the mean of its day."""

    def __init__(self, rides: Iterable[Ride]) -> None:
        took: dict[tuple[date, str, int], list[tuple[float, float]]] = defaultdict(list)
        for ride in rides:
            times = np.diff(ride.reached_N)
            for link in np.flatnonzero(~np.isnan(times)):
                key = ride.day, ride.trip.route_id, int(ride.pattern.links_L[link])
                took[key].append((float(ride.known_N[link + 1]), float(times[link])))
        self._past: dict[tuple[date, str, int], _Past] = {}
        for key, pairs in took.items():
            known, times_s = zip(*sorted(pairs), strict=True)
            self._past[key] = _Past(list(known), list(times_s), np.cumsum(times_s).tolist())

    def answer(self, ride: Ride, now_s: float, asked_A: Ints) -> dict[str, Floats]:
        """Returns the arrivals at stops of each method, none before the moment itself. It was heard of before."""
        newest = int(np.searchsorted(ride.t_K, now_s, side="right")) - 1
        at_s, at_m = ride.t_K[newest], ride.along_K[newest]
        pattern, planned = ride.pattern, ride.scheduled_N
        following = pattern.following(at_m)
        started = at_m > pattern.reached_N[0] + STARTED_M
        share = pattern.share(at_m, following) if started else 0.0
        if started and following < len(planned):
            before = ride.departure_N[following - 1]
            delay_s = at_s - (before + share * (planned[following] - before))
        else:
            delay_s = max(0.0, now_s - ride.departure_N[0])
        links_s = self._links_s(ride, now_s, following)
        if started:
            begin, links_s[following - 1] = at_s, (1 - share) * links_s[following - 1]
        else:
            begin = max(now_s, ride.departure_N[0])
        ahead = np.full(len(planned), now_s)
        ahead[following:] = begin + np.cumsum(links_s[following - 1 :])
        answers = {SCHEDULE: planned[asked_A], DELAY: planned[asked_A] + delay_s, EARLIER: ahead[asked_A]}
        return {name: np.maximum(now_s, times) for name, times in answers.items()}

    def _links_s(self, ride: Ride, now_s: float, following: int) -> Floats:
        """Returns the seconds of each link by earlier buses; where none passed, the schedule's, as much slower as the
        others are."""
        planned_L = np.diff(ride.scheduled_N)
        planned_L[0] = ride.scheduled_N[1] - ride.departure_N[0]
        planned_L = np.maximum(LEAST_S, planned_L)
        links = planned_L.copy()
        unknown, known = [], []
        for link in range(following - 1, len(links)):
            past = self._past.get((ride.day, ride.trip.route_id, int(ride.pattern.links_L[link])))
            count = 0 if past is None else bisect_right(past.known_s, now_s)
            if past is None or not count:
                unknown.append(link)
                continue
            links[link] = (past.took_s[count - 1] + past.sums_s[count - 1] / count) / 2
            known.append(link)
        if known and unknown:
            links[unknown] *= min(2.0, max(0.5, float(links[known].sum() / planned_L[known].sum())))
        return links
