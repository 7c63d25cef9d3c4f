"""Arrivals of a morning in Austin: from the past alone, the same each time, in order, and better than the schedule."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from stream.transit.predicting import corrections
from stream.transit.predicting.corrections import Corrections
from stream.transit.predicting.paces import MEMORIES_S, Paces
from stream.transit.predicting.predictor import LOST_S, Arrivals, Predictor
from stream.transit.predicting.remembering import dump_runs, restore_runs
from stream.transit.predicting.residuals import LINK_S, MOST_S, USUAL_S, FadingMean, Residuals
from stream.transit.replaying import TripPing, replay
from stream.transit.schedule import Schedule, read_schedule
from stream.transit.schedule.days import day_of

FIXTURE = Path(__file__).with_name("austin.zip")


@cache
def schedule() -> Schedule:
    return read_schedule(FIXTURE)


@cache
def pings() -> tuple[TripPing, ...]:
    """Returns the first half of the fixture's pings in the order of their times: two hours."""
    with zipfile.ZipFile(FIXTURE) as file:
        table = pq.read_table(io.BytesIO(file.read("pings.parquet")))
    rows = sorted(zip(*(table[name].to_pylist() for name in ("t", "entity_id", "trip_id", "lat", "lon")), strict=True))
    return tuple(
        TripPing(entity, trip, t / 1000, lat, lon, float("nan")) for t, entity, trip, lat, lon in rows[: len(rows) // 2]
    )


def answers(some: tuple[TripPing, ...]) -> Iterator[tuple[float, Arrivals]]:
    return replay(Predictor(schedule()), some, 60)


def flat(made: tuple[float, Arrivals]) -> tuple[object, ...]:
    made_s, one = made
    return made_s, one.trip_id, one.sequence_A.tolist(), one.arrival_A.tolist(), one.lo_A.tolist(), one.hi_A.tolist()


@cache
def all_answers() -> tuple[tuple[float, Arrivals], ...]:
    return tuple(answers(pings()))


def test_answers_come_from_the_past_alone_and_are_the_same_each_time() -> None:
    """A recording that ends earlier gives the same answers until then, to the last bit."""
    some = pings()[: len(pings()) // 3]
    until_s = some[-1].t_s
    short = [flat(one) for one in answers(some) if one[0] < until_s]
    whole = [flat(one) for one in all_answers() if one[0] < until_s]
    assert len(short) > 500
    assert short == whole


def test_arrivals_are_in_order_inside_their_intervals_and_never_in_the_past() -> None:
    for made_s, one in all_answers():
        assert (np.diff(one.arrival_A) >= 0).all()
        assert (one.arrival_A >= made_s).all()
        assert ((one.lo_A <= one.arrival_A) & (one.arrival_A <= one.hi_A) & (one.departure_A >= one.arrival_A)).all()


def test_no_bus_is_told_to_leave_a_timepoint_before_its_time() -> None:
    held = 0
    for _, one in all_answers():
        trip = schedule().trips[one.trip_id]
        first = len(trip.sequence_N) - len(one.sequence_A)
        departs = trip.departure_N[first:] + _start_s(one.start_date)
        here = trip.timepoint_N[first:]
        assert (one.departure_A[here] >= departs[here] - 1e-6).all()
        held += int((one.departure_A > one.arrival_A).sum())
    assert held


def test_errors_are_a_fifth_smaller_than_those_of_the_schedule() -> None:
    """Of stops between 6 and 15 minutes ahead, in the second of two hours."""
    reached = _reached()
    ours, planned = [], []
    middle_s = pings()[len(pings()) // 2].t_s
    for made_s, one in all_answers():
        trip = schedule().trips[one.trip_id]
        arrival = trip.arrival_N[len(trip.sequence_N) - len(one.sequence_A) :]
        start_s = _start_s(one.start_date)
        for sequence, told_s, plan_s in zip(one.sequence_A.tolist(), one.arrival_A, arrival + start_s, strict=True):
            truth_s = reached.get((one.trip_id, sequence))
            if truth_s is not None and made_s > middle_s and 360 <= truth_s - made_s < 900:
                ours.append(abs(truth_s - told_s))
                planned.append(abs(truth_s - plan_s))
    assert len(ours) > 2_000
    assert np.mean(ours) < 0.8 * np.mean(planned)


def _start_s(day: str) -> int:
    return schedule().days.start_s(day_of(day))


@cache
def _reached() -> dict[tuple[str, int], float]:
    """Returns when each stop was reached, between pings at most two minutes apart: another reading than the product's,
    as it looks for each stop's nearest ping, and takes stops alone that a ping is near."""
    found: dict[tuple[str, int], float] = {}
    by_trip: dict[str, list[TripPing]] = {}
    for ping in pings():
        by_trip.setdefault(ping.trip_id, []).append(ping)
    for trip_id, of_trip in by_trip.items():
        trip = schedule().trips.get(trip_id)
        if trip is None:
            continue
        pattern = schedule().pattern(trip)
        for ping in of_trip:
            for place in pattern.path.places(ping.lat_deg, ping.lon_deg, most=1):
                stop = int(np.argmin(np.abs(pattern.reached_N - place.along_m)))
                if stop and abs(pattern.reached_N[stop] - place.along_m) < 60:
                    found.setdefault((trip_id, int(trip.sequence_N[stop])), ping.t_s)
    return found


def test_pings_of_unknown_trips_and_beside_the_path_are_counted_and_move_nothing() -> None:
    predictor = Predictor(schedule())
    first = pings()[0]
    predictor.observe("bus", "no such trip", first.t_s, first.lat_deg, first.lon_deg)
    predictor.observe("bus", first.trip_id, first.t_s, 0.0, 0.0)
    assert (predictor.unknown_trip, predictor.off_path) == (1, 1)
    assert not list(predictor.answer(first.t_s))


def _is_on_path(ping: TripPing) -> bool:
    trip = schedule().trips.get(ping.trip_id)
    return trip is not None and bool(schedule().pattern(trip).path.places(ping.lat_deg, ping.lon_deg))


def test_trips_that_fell_silent_are_forgotten() -> None:
    predictor = Predictor(schedule())
    for ping in pings()[:500]:
        predictor.observe(*ping)
    last_s = pings()[499].t_s
    assert list(predictor.answer(last_s))
    assert not list(predictor.answer(last_s + LOST_S + 1))
    assert not predictor.runs


@pytest.mark.parametrize("restarts", [False, True])
def test_another_trip_ends_the_one_before_and_a_late_ping_does_not_bring_it_back(restarts: bool) -> None:
    """A late ping moves nothing, also after a restart; a newer one of the first trip is on that again."""
    predictor = Predictor(schedule())
    found = {ping.trip_id: ping for ping in reversed(pings()[:500]) if _is_on_path(ping)}
    first, second = list(found.values())[:2]
    at_s = first.t_s

    def told(ping: TripPing, t_s: float) -> list[str]:
        predictor.observe("bus", ping.trip_id, t_s, ping.lat_deg, ping.lon_deg)
        return [one.trip_id for one in predictor.answer(at_s + 60)]

    assert told(first, at_s) == [first.trip_id]
    assert told(second, at_s + 30) == [second.trip_id]
    if restarts:
        restored = Predictor(schedule())
        restore_runs(restored, dump_runs(predictor))
        predictor = restored
    assert told(first, at_s + 20) == [second.trip_id]
    assert told(first, at_s + 40) == [first.trip_id]


def test_paces_lean_on_the_schedule_and_follow_what_is_driven() -> None:
    paces, links, scheduled = Paces(2), np.array([0, 1]), np.array([60.0, 60.0])
    assert paces.expected_s(links, scheduled, 0.0) == pytest.approx(60)
    for n in range(10):
        paces.add(links[:1], np.array([120.0]), scheduled[:1], 60.0 * n)
    expected = paces.expected_s(links, scheduled, 600.0)
    assert ((expected[:, 0] > 100) & (expected[:, 0] < 120)).all()
    assert expected[:, 1] == pytest.approx(60)
    later = paces.expected_s(links, scheduled, 600.0 + 10 * MEMORIES_S[0])
    assert later[0, 0] == pytest.approx(later[1, 0], rel=0.01), "the short memory is gone, and leans on the longer"


def test_residuals_tell_the_link_the_route_the_vehicle_and_the_trip_that_are_slower_than_was_answered() -> None:
    """Link 0 takes 60 s more than is answered, in ten minutes; link 1 was never driven."""
    residuals, trip = Residuals(2), FadingMean()
    ahead_s = np.full(20, USUAL_S)
    for n in range(10):
        residuals.add(np.zeros(20, int), ahead_s - 60, ahead_s, 60.0 * n, "7 0", "slow", trip)
    link_lately, link_weeks, route, vehicle, of_trip = residuals.means(np.array([0, 1]), 600.0, "7 0", "slow", trip).T
    assert [mean[0] for mean in (link_lately, link_weeks, route, vehicle, of_trip)] == pytest.approx([60] * 5, rel=0.25)
    assert (link_lately[1], link_weeks[1]) == (0, 0)
    other = residuals.means(np.array([0, 1]), 600.0, "7 1", "another", FadingMean())
    assert (other[:, 2:] == 0).all()
    later = residuals.means(np.array([0]), 600.0 + 20 * LINK_S[0], "7 0", "slow", trip)[0]
    assert later[0] < 0.01 < 50 < later[1], "the short memory is gone, and the long one is not"
    residuals.add(np.ones(1, int), np.array([1e6]), np.array([USUAL_S]), 9e4, "7 0", "slow", trip)
    assert residuals.means(np.array([1]), 9e4, "7 0", "slow", trip)[0, 0] >= -MOST_S, "one odd answer counts little"


def test_what_answers_left_over_of_a_vehicle_goes_with_it() -> None:
    predictor = Predictor(schedule())
    for _ in replay(predictor, pings(), 60):
        pass
    vehicle = next(iter(predictor.residuals.vehicles))
    predictor.forget_entity(vehicle)
    assert vehicle not in predictor.residuals.vehicles
    assert predictor.residuals.routes


def test_corrections_learn_an_error_and_how_wide_intervals_have_to_be() -> None:
    """Buses that come 40 s later than is thought, give or take: seed 3."""
    rng, learnt = np.random.default_rng(3), Corrections(2)
    numbers = np.c_[np.ones(500), np.zeros(500)]
    for _ in range(60):
        lead = rng.uniform(30, 1_200, 500)
        learnt.learn(1, lead, numbers, lead + 40 + rng.normal(0, 30, 500))
    lead = rng.uniform(60, 1_100, 500)
    truth = lead + 40 + rng.normal(0, 30, 500)
    best, low, high = learnt.correct(1, lead, numbers)
    assert np.median(truth - best) == pytest.approx(0, abs=12)
    assert np.mean((low <= truth) & (truth <= high)) == pytest.approx(0.9, abs=0.06)
    untouched = learnt.correct(0, lead, numbers)[0]
    assert untouched == pytest.approx(lead, abs=0.3 * corrections.CELL_S + 60)
