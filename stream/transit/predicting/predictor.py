"""Predicts arrivals: takes the pings of vehicles that name their trips, and answers for the stops ahead of each.

Fed ping by ping in the order of their times, asked at any moment. It has no clock, and the same pings and questions
give the same answers. It keeps the trips under way, and of the past two sums a link and the corrections' matrices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream.transit.predicting.asking import HORIZON_S, N_NUMBERS, OWN_LEANING_S, OWN_S, Question, Run, ask, start_run
from stream.transit.predicting.corrections import Corrections
from stream.transit.predicting.paces import SLACK_S, SLOWEST, Paces, match_links
from stream.transit.predicting.residuals import Residuals, select_telling
from stream.transit.schedule import Schedule

Floats = NDArray[np.float64]

LOST_S: Final = 600.0  # after such a silence a trip is over
ANSWERED_S: Final = 300.0  # a trip whose vehicle was silent for longer gets no answers
TIMED_GAP_S: Final = 180.0  # between two pings; farther apart they do not tell when the stops between were reached
LEARNT_GAP_S: Final = 121.0  # the same for what is learnt: answers are judged by times that are known well
LEARNT_AHEAD_S: Final = 1_800.0  # no rider asks for a bus that is farther off
LEARN_EVERY_S: Final = 120.0  # a question of each trip so often is kept until its answers are known
MANY_TRIPS: Final = 1_000  # under way at once; of more, each is asked more seldom what is learnt from
ENTITIES_KEPT_S: Final = 7_200.0


@dataclass(frozen=True)
class Arrivals:
    """When a trip reaches its stops ahead, as known at a moment: epoch seconds."""

    trip_id: str
    start_date: str
    sequence_A: NDArray[np.int64]
    arrival_A: Floats
    departure_A: Floats
    lo_A: Floats
    hi_A: Floats


class Predictor:
    """All trips of one feed that are under way, and what was learnt of those before."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.paces = Paces(schedule.n_links)
        self.corrections = Corrections(N_NUMBERS)
        self.residuals = Residuals(schedule.n_links)
        self.off_path = self.unknown_trip = 0  # pings that moved nothing
        self.runs: dict[tuple[str, str], Run] = {}  # by trip and entity
        self._on: dict[str, tuple[str, str]] = {}  # by entity: the newest of its runs
        self._own: dict[str, float] = {}
        self._late: dict[str, tuple[float, float]] = {}  # by entity: when a stop was last reached, and how late

    def observe(
        self, entity: str, trip_id: str, t_s: float, lat_deg: float, lon_deg: float, speed_mps: float = float("nan")
    ) -> None:
        """Takes a ping. One of an unknown trip, off its path, or older than the last, moves nothing."""
        run = self._run_of(entity, trip_id, t_s)
        if run is None:
            self.unknown_trip += 1
            return
        self._begin(run, t_s)
        run.seen_s = max(run.seen_s, t_s)
        before_s, before_m = run.progress.at_s, run.progress.along_m
        if not run.progress.observe(t_s, lat_deg, lon_deg):
            self.off_path += 1
            return
        run.speed_mps = speed_mps
        if before_s is not None:
            run.moved_m = (run.progress.along_m - before_m) * 120 / max(30.0, t_s - before_s)
            self._pass_stops(run, before_s, before_m)
        else:
            run.passed = int(np.searchsorted(run.pattern.reached_N, run.progress.along_m, side="right"))

    def answer(self, now_s: float) -> Iterator[Arrivals]:
        """Yields the arrivals of all trips under way, in the order in which they began."""
        self.forget(now_s)
        for run in self.runs.values():
            arrivals = self.answer_one(run, now_s)
            if arrivals is not None:
                yield arrivals

    def answer_one(self, run: Run, now_s: float) -> Arrivals | None:
        """Returns the arrivals of one trip; None if its vehicle was not seen for long, is on another trip, has left its
        path, or has no stop ahead."""
        if run.is_over or run.progress.at_s is None or now_s - run.progress.at_s > ANSWERED_S or run.progress.is_lost:
            return None
        question = ask(run, self.paces, self.residuals, now_s)
        if question is None:
            return None
        self._keep(run, question)
        return self._arrivals(run, question)

    def learn_from(self, other: Predictor) -> None:
        """Takes over what was learnt with another feed, for trips that begin from now on: the paces of links between
        the same stops, the corrections, and what is known of vehicles. Both go on to learn the latter two together."""
        self.corrections, self._own, self._late = other.corrections, other._own, other._late
        ours, theirs = match_links(other.schedule.link_stops(), self.schedule.link_stops())
        self.paces.take_over(other.paces, ours, theirs)
        self.residuals.take_over(other.residuals, ours, theirs)

    def _arrivals(self, run: Run, question: Question) -> Arrivals:
        best, low, high = self.corrections.correct(question.state, question.lead_A, question.numbers_AF)
        arrival = np.maximum.accumulate(best) + question.at_s
        first = question.first
        departure = np.where(run.trip.timepoint_N[first:], np.maximum(arrival, run.departure_N[first:]), arrival)
        lo, hi = np.minimum(low + question.at_s, arrival), np.maximum(high + question.at_s, arrival)
        sequence = run.trip.sequence_N[first:]
        return Arrivals(run.trip.trip_id, f"{run.day:%Y%m%d}", sequence, arrival, departure, lo, hi)

    def _run_of(self, entity: str, trip_id: str, t_s: float) -> Run | None:
        run = self.runs.get((trip_id, entity))
        if run is not None and t_s - run.seen_s <= LOST_S:
            return run
        trip = self.schedule.trips.get(trip_id)
        if trip is None:
            return None
        days = self.schedule.days
        day = days.nearest(trip.service_id, int(trip.departure_N[0]), int(trip.arrival_N[-1]), t_s)
        at_s, late_s = self._late.get(entity, (-np.inf, 0.0))
        late_before_s = late_s if t_s - at_s < 1800 else None
        run = start_run(trip, self.schedule.pattern(trip), day, days.start_s(day), entity, late_before_s)
        run.own_before = self._own.get(entity, 0.0) if late_before_s is not None else 0.0
        self.runs[trip_id, entity] = run
        return run

    def _begin(self, run: Run, t_s: float) -> None:
        """Ends the trip that the vehicle was on, if this is another one and the ping is not older than all of that."""
        key, on = (run.trip.trip_id, run.entity), self._on.get(run.entity)
        if on == key:
            return
        before = None if on is None else self.runs.get(on)
        run.is_over = before is not None and t_s < before.seen_s
        if not run.is_over:
            self._on[run.entity] = key
            if before is not None:
                before.is_over = True

    def _pass_stops(self, run: Run, before_s: float, before_m: float) -> None:
        """Tells when stops were reached between the last two pings, and learns from it."""
        now_s, now_m = run.progress.at_s, run.progress.along_m
        assert now_s is not None
        reached = run.pattern.reached_N
        first, last = run.passed, int(np.searchsorted(reached, now_m, side="right"))
        if last <= first:
            return
        run.passed = last
        if now_s - before_s > TIMED_GAP_S:
            run.passed_at_s = float("nan")
            return
        share = np.clip((reached[first:last] - before_m) / max(now_m - before_m, 1e-9), 0.0, 1.0)
        at = before_s + share * (now_s - before_s)
        self._late[run.entity] = (float(at[-1]), float(at[-1] - run.arrival_N[last - 1]))
        if now_s - before_s <= LEARNT_GAP_S:
            self._learn(run, first, at)
        self._add_paces(run, first, at, now_s)
        run.passed_at_s = float(at[-1])

    def _add_paces(self, run: Run, first: int, at: Floats, now_s: float) -> None:
        times = np.r_[run.passed_at_s, at]
        driven = np.diff(times)
        links = np.arange(first - 1, first - 1 + len(at))
        # The first link's time begins when the bus leaves, which nobody saw: from the stop's place on it is known.
        good = ~np.isnan(driven) & (links >= 1)
        links, driven = links[good], driven[good]
        if not len(links):
            return
        numbers, scheduled = run.pattern.links_L[links], run.scheduled_L[links]
        expected, longer, _ = self.paces.expected_s(numbers, scheduled, now_s)
        fade = np.exp(-driven.sum() / OWN_S)
        run.own_driven_s = run.own_driven_s * fade + float(np.minimum(driven, 3 * expected + 60).sum())
        run.own_expected_s = run.own_expected_s * fade + float(expected.sum())
        own = (run.own_driven_s - run.own_expected_s) / (run.own_expected_s + OWN_LEANING_S)
        self._own[run.entity] = min(max(own, -0.5), 1.0)
        capped = np.minimum(driven, SLOWEST * scheduled + SLACK_S)
        self.paces.all_links.add(float(capped.sum()), float(longer.sum()), now_s)
        _, once = np.unique(numbers, return_index=True)
        self.paces.add(numbers[once], driven[once], scheduled[once], now_s)

    def _keep(self, run: Run, question: Question) -> None:
        # Many trips teach enough with fewer questions of each, which take 6 KB apiece.
        every_s = LEARN_EVERY_S * max(1.0, len(self.runs) / MANY_TRIPS)
        if not run.questions or question.at_s - run.questions[-1].at_s >= every_s:
            while run.questions and question.at_s - run.questions[0].at_s > LEARNT_AHEAD_S:
                del run.questions[0]
            near = question.lead_A <= HORIZON_S
            short = question._replace(lead_A=question.lead_A[near], numbers_AF=question.numbers_AF[near])
            run.questions.append(short)

    def _learn(self, run: Run, first: int, at: Floats) -> None:
        """Compares what was answered of these stops with when they were reached."""
        found: tuple[list[Any], list[Any]] = ([], [])
        for question in run.questions:
            begin, end = max(first, question.first), min(first + len(at), question.first + len(question.lead_A))
            if begin < end:
                rows = slice(begin - question.first, end - question.first)
                truth = at[begin - first : end - first] - question.at_s
                links = run.pattern.links_L[np.arange(begin, end) - 1]
                found[question.state].append((question.lead_A[rows], question.numbers_AF[rows], truth, links))
        for state, parts in enumerate(found):
            if parts:
                lead, numbers, truth, links = (np.concatenate(column) for column in zip(*parts, strict=True))
                tells = select_telling(truth)
                if tells.any():
                    answered = self.corrections.correct(state, lead[tells], numbers[tells])[0]
                    place = run.route, run.entity, run.residual
                    self.residuals.add(links[tells], answered, truth[tells], float(at[-1]), *place)
                asked = (truth > 0) & (truth <= LEARNT_AHEAD_S)
                self.corrections.learn(state, lead[asked], numbers[asked], truth[asked])
        run.questions = [question for question in run.questions if question.at_s >= at[-1] - LEARNT_AHEAD_S]

    def forget_entity(self, entity: str) -> None:
        """Drops all that is kept of one vehicle."""
        for key in [key for key in self.runs if key[1] == entity]:
            del self.runs[key]
        for kept in (self._on, self._own, self._late, self.residuals.vehicles):
            kept.pop(entity, None)

    def forget(self, now_s: float) -> None:
        """Ends the trips whose vehicles were silent for long, and drops what was known of vehicles of hours ago."""
        over = [key for key, run in self.runs.items() if now_s - run.seen_s > LOST_S]
        for key in over:
            del self.runs[key]
            if self._on.get(key[1]) == key:
                del self._on[key[1]]
        if len(self._late) > 4 * len(self.runs) + 1_000:
            for entity in [one for one, seen in self._late.items() if now_s - seen[0] >= ENTITIES_KEPT_S]:
                del self._late[entity]
                self._own.pop(entity, None)
                self.residuals.vehicles.pop(entity, None)
