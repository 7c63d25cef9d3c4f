"""Makes the numbers of one answer: what is known at a moment of one trip, by the schedule and by buses before.

Letters: N stops of the trip, L links, A stops ahead, F numbers of each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.transit.matching import Progress
from stream.transit.predicting.paces import LEAST_S, Paces
from stream.transit.predicting.residuals import N_MEANS, FadingMean, Residuals
from stream.transit.schedule import Pattern, Trip

Floats = NDArray[np.float64]

STARTED_M: Final = 60.0  # along the path: a bus that waits at its terminal moves less
MOST_S: Final = 600.0  # of delay, earliness, or difference: numbers beyond it are no better known
AT_STOP_M: Final = 60.0  # beyond where a stop counts as reached: a bus so near may still stand at it
USUAL_MPS: Final = 7.0  # of a city bus between stops, dwell left out
OWN_S: Final = 900.0  # how long the vehicle's own pace is remembered
OWN_LEANING_S: Final = 240.0  # seconds at the expected pace that it leans on
N_OWN: Final = 20  # numbers that are made here
N_NUMBERS: Final = N_OWN + N_MEANS
HORIZON_S: Final = 2_400.0  # of answers that are learnt from: the longest lead, and then some


@dataclass(slots=True)
class Run:
    """One trip under way: what has been seen of it."""

    trip: Trip
    pattern: Pattern
    day: date
    arrival_N: Floats  # epoch seconds of the schedule
    departure_N: Floats
    scheduled_L: Floats  # seconds of each link
    progress: Progress
    entity: str
    late_before_s: float | None  # how late the vehicle's trip before was, where that is known
    seen_s: float = -np.inf  # the newest ping, on the path or not
    own_before: float = 0.0  # the share by which the vehicle was slower than expected, on its trip before
    speed_mps: float = float("nan")
    passed: int = 0  # stops that were reached
    passed_at_s: float = float("nan")  # when the newest of them was
    own_driven_s: float = 0.0
    own_expected_s: float = 0.0
    moved_m: float = float("nan")  # between the last two pings
    is_over: bool = False  # its vehicle began another trip
    residual: FadingMean = field(default_factory=FadingMean)  # what answers of this trip left over
    questions: list[Question] = field(default_factory=list)

    @property
    def route(self) -> str:
        """Returns the route and its direction, which share what is known."""
        return f"{self.trip.route_id} {self.trip.direction_id}"

    @property
    def started(self) -> bool:
        """Returns whether it has left its first stop."""
        return bool(self.progress.along_m > self.pattern.reached_N[0] + STARTED_M)


class Question(NamedTuple):
    """What was known of a trip at a moment, of its stops from `first` on."""

    at_s: float
    state: int
    first: int
    lead_A: Floats
    numbers_AF: Floats


def start_run(trip: Trip, pattern: Pattern, day: date, start_s: float, entity: str, late_before_s: float | None) -> Run:
    """Returns a trip of which nothing was seen."""
    arrival_N, departure_N = trip.arrival_N + start_s, trip.departure_N + start_s
    scheduled_L = np.diff(arrival_N)
    scheduled_L[0] = arrival_N[1] - departure_N[0]
    scheduled_L = np.maximum(LEAST_S, scheduled_L)
    progress = Progress(pattern.path)
    return Run(trip, pattern, day, arrival_N, departure_N, scheduled_L, progress, entity, late_before_s)


def ask(run: Run, paces: Paces, residuals: Residuals, now_s: float) -> Question | None:
    """Returns what is known now of the stops ahead, or None if there are none."""
    reached_N, along_m = run.pattern.reached_N, run.progress.along_m
    if run.progress.at_s is None:
        return None
    following = run.pattern.following(along_m)
    if following >= len(reached_N):
        return None
    started = run.started
    first_link = following - 1
    scheduled = run.scheduled_L[first_link:]
    ways = np.vstack([paces.expected_s(run.pattern.links_L[first_link:], scheduled, now_s), scheduled])
    age_s = now_s - run.progress.at_s
    before_m = reached_N[first_link]
    share = run.pattern.share(along_m, following) if started else 0.0
    ways[:, 0] *= 1.0 - share
    ahead = np.cumsum(ways, axis=1)  # seconds from the last ping on, or from departure
    if started:
        planned_s = run.departure_N[first_link] + share * (run.arrival_N[following] - run.departure_N[first_link])
        delay_s = run.progress.at_s - planned_s
        lead = ahead[0] - age_s
    else:
        delay_s = now_s - run.departure_N[0]
        lead = ahead[0] + max(0.0, -delay_s)
    eta = lead + now_s
    held = np.where(run.trip.timepoint_N[following:], np.maximum(0.0, run.departure_N[following:] - eta), 0.0)
    wait = np.maximum.accumulate(np.r_[0.0, held[:-1]])
    slack = np.maximum(0.0, run.departure_N[following:-1] - eta[:-1])
    here = started and run.trip.timepoint_N[first_link] and along_m < before_m + AT_STOP_M
    holding_s = min(max(0.0, run.departure_N[first_link] - now_s), MOST_S) if here else 0.0
    numbers = np.empty((len(lead), N_NUMBERS))
    numbers[:, 0] = 1.0
    numbers[:, 1] = min(max(delay_s, 0.0), MOST_S) / 100
    numbers[:, 2] = min(max(-delay_s, 0.0), MOST_S) / 100
    numbers[:, 3] = np.minimum(wait, MOST_S) / 100
    numbers[:, 4:7] = np.clip(ahead[1:] - ahead[0], -MOST_S, MOST_S).T / 100
    numbers[:, 7] = (age_s - 60.0) / 60
    own = 0.0 if not started else run.own_driven_s - run.own_expected_s
    numbers[:, 8] = 3 * min(max(own / (run.own_expected_s + OWN_LEANING_S), -0.5), 1.0)
    numbers[:, 9:13] = _last_seen(run, started, delay_s)
    numbers[:, 13] = holding_s / 100
    numbers[:, 14] = 5 * min(max(paces.all_links.difference(now_s), -0.3), 0.3)
    numbers[:, 19] = np.minimum(np.maximum.accumulate(np.r_[0.0, slack]), MOST_S) / 100
    way_s = (reached_N[following:] - along_m) / USUAL_MPS
    numbers[:, 15] = np.clip(way_s - lead, -MOST_S, MOST_S) / 100
    numbers[:, 16] = np.clip(np.arange(1, len(lead) + 1) * 60.0 - lead, -MOST_S, MOST_S) / 100
    numbers[:, 17] = 3 * run.own_before
    numbers[:, 18] = (
        min(paces.silence_s(run.pattern.links_L[min(following, len(run.pattern.links_L) - 1)], now_s), 3_600.0) / 1_200
        - 1
    )
    links_A = run.pattern.links_L[first_link:]
    numbers[:, N_OWN:] = residuals.means(links_A, now_s, run.route, run.entity, run.residual) / 100
    return Question(now_s, int(started), following, lead, numbers)


def _last_seen(run: Run, started: bool, delay_s: float) -> tuple[float, float, float, float]:
    """Returns what the last ping adds: speed and whether there is one, and the way since the ping before, in 500 m;
    before departure, how late the trip before was."""
    known = not np.isnan(run.speed_mps)
    if started:
        moved = 0.0 if np.isnan(run.moved_m) else min(run.moved_m, 2_000.0) / 500 - 1
        return min(run.speed_mps, 20.0) / 5 - 1 if known else 0.0, float(known and run.speed_mps < 1), moved, 0.0
    late = run.late_before_s or 0.0
    gone = run.progress.along_m / STARTED_M
    return float(known and run.speed_mps > 1), min(max(late, 0.0), MOST_S) / 100, gone, float(-60 < delay_s < 120)
