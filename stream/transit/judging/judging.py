"""Puts the questions of riders to the predictor and to simple methods, and scores all of them by what happened.

At each full minute of a ride, from its first ping on and while its last is not older than five minutes: when does it
reach each stop ahead that it truly reaches within half an hour? All answer the same questions, from what was known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from stream.transit.judging.methods import METHODS, Methods
from stream.transit.judging.scores import compare, score
from stream.transit.judging.truth import Ride, find_rides
from stream.transit.predicting.predictor import ANSWERED_S, Arrivals, Predictor
from stream.transit.replaying import TripPing, replay
from stream.transit.schedule import Schedule

OURS: Final = "pathcast"
EVERY_S: Final = 60
FARTHEST_S: Final = 1_800.0

Answers = dict[tuple[str, str], dict[float, Arrivals]]  # by trip and service day, and then by the moment


def judge(schedule: Schedule, pings: Sequence[TripPing], progress: Callable[[int], None]) -> dict[str, Any]:
    """Returns the scores of the predictor and of the methods on a recording, as JSON takes them.

    Args:
        pings: in the order of their times, with the trips that they name.
        progress: is told how many of the pings are played.

    Raises ValueError if no stop of the feed was seen to be reached.
    """
    answers = _play(schedule, pings, progress)
    rides = find_rides(schedule, pings)
    methods = Methods(rides)
    leads: list[float] = []
    of_ride: list[int] = []
    held: list[bool] = []
    errors: dict[str, list[float]] = {name: [] for name in (OURS, *METHODS)}
    for number, ride in enumerate(rides):
        for now_s in moments(ride):
            asked = np.flatnonzero((ride.reached_N > now_s) & (ride.reached_N <= now_s + FARTHEST_S))
            if not len(asked):
                continue
            truth = ride.reached_N[asked]
            leads += (truth - now_s).tolist()
            of_ride += [number] * len(asked)
            for name, times in methods.answer(ride, now_s, asked).items():
                errors[name] += (truth - times).tolist()
            arrivals = answers.get(ride.name, {}).get(now_s)
            for stop, at_s in zip(asked.tolist(), truth.tolist(), strict=True):
                told = None if arrivals is None else _find_stop(arrivals, int(ride.trip.sequence_N[stop]))
                errors[OURS].append(float("nan") if told is None else at_s - max(now_s, told[0]))
                held.append(told is not None and told[1] <= at_s <= told[2])
    if not leads:
        raise ValueError("no vehicle was seen to reach a stop of the feed: is it the feed of these days?")
    lead_Q, ride_Q, holds_Q = np.array(leads), np.array(of_ride), np.array(held)
    error_Q = {name: np.array(some) for name, some in errors.items()}
    return {
        "rides": len(rides),
        "questions": len(leads),
        "methods": {
            name: score(lead_Q, some, holds_Q if name == OURS else None, ride_Q) for name, some in error_Q.items()
        },
        "paired": {name: compare(lead_Q, error_Q[OURS], error_Q[name], ride_Q) for name in METHODS},
    }


def moments(ride: Ride) -> list[float]:
    """Returns the full minutes at which a ride is asked about."""
    if np.isnan(ride.reached_N).all():
        return []
    every = np.arange(np.ceil(ride.t_K[0] / EVERY_S) * EVERY_S, np.nanmax(ride.reached_N), EVERY_S)
    newest = np.searchsorted(ride.t_K, every, side="right") - 1
    return [float(one) for one in every[every - ride.t_K[newest] <= ANSWERED_S]]


def _play(schedule: Schedule, pings: Sequence[TripPing], progress: Callable[[int], None]) -> Answers:
    def counted() -> Any:
        for number, ping in enumerate(pings):
            if number % 1024 == 0:
                progress(number)
            yield ping

    answers: Answers = defaultdict(dict)
    for made_s, arrivals in replay(Predictor(schedule), counted(), EVERY_S):
        answers[arrivals.trip_id, arrivals.start_date][made_s] = arrivals
    return answers


def _find_stop(arrivals: Arrivals, sequence: int) -> tuple[float, float, float] | None:
    """Returns the arrival at a stop, and the ends of its interval; None if nothing is said of it."""
    at = int(np.searchsorted(arrivals.sequence_A, sequence))
    if at >= len(arrivals.sequence_A) or arrivals.sequence_A[at] != sequence:
        return None
    return float(arrivals.arrival_A[at]), float(arrivals.lo_A[at]), float(arrivals.hi_A[at])
