"""The judge of arrivals: what happened, what is asked, and scores that tell a good answer from a bad one.

The command is that of stream/transit/README.md.
"""

from __future__ import annotations

import io
import json
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pathcast_process import pathcast
from trips_rig import AUSTIN, schedule

from stream.transit.judging.judging import OURS, judge, moments
from stream.transit.judging.methods import METHODS, SCHEDULE, Methods
from stream.transit.judging.scores import BOUNDS_S, LEADS_S, compare, score
from stream.transit.judging.truth import Ride, find_rides
from stream.transit.replaying import TripPing


@cache
def report() -> dict[str, Any]:
    with zipfile.ZipFile(AUSTIN) as fixture:
        table = pq.read_table(io.BytesIO(fixture.read("pings.parquet")))
    columns = (table[name].to_pylist() for name in ("t", "entity_id", "trip_id", "lat", "lon"))
    morning = [
        TripPing(one, trip, t / 1000, y, x, float("nan")) for t, one, trip, y, x in sorted(zip(*columns, strict=True))
    ]
    return judge(schedule(), morning, lambda _: None)


def glide(late_s: float = 120.0, every_s: float = 30.0, entity: str = "a") -> tuple[Ride, list[TripPing]]:
    """Returns a ride that goes from stop to stop at an even speed, each time so late, and its pings."""
    trip = next(iter(schedule().trips.values()))
    pattern, start_s = (
        schedule().pattern(trip),
        schedule().days.start_s(schedule().days.nearest(trip.service_id, 0, 0, 1.4818e9)),
    )
    t = np.arange(trip.departure_N[0] + late_s, trip.arrival_N[-1] + late_s, every_s)
    lat, lon = np.array([schedule().stops[one][:2] for one in trip.stops_N]).T
    at = [np.interp(t, trip.arrival_N + late_s, values) for values in (lat, lon)]
    some = [TripPing(entity, trip.trip_id, start_s + s, y, x, float("nan")) for s, y, x in zip(t, *at, strict=True)]
    (ride,) = find_rides(schedule(), some)
    assert len(pattern.reached_N) == len(ride.reached_N)
    return ride, some


def test_a_stop_is_reached_when_the_pings_pass_it() -> None:
    ride, _ = glide(late_s=120.0)
    late = (ride.reached_N - ride.scheduled_N)[1:-1]
    assert np.isnan(ride.reached_N[0]), "a departure"
    assert np.nanmax(np.abs(late - 120.0)) < 30.0, "20 m before the stop"


def test_pings_too_far_apart_do_not_tell_when_a_stop_was_reached() -> None:
    ride, _ = glide(every_s=400.0)
    assert np.isnan(ride.reached_N).all()
    assert moments(ride) == []


def test_of_two_vehicles_on_one_trip_the_one_with_most_pings_counts_and_a_jump_is_left_out() -> None:
    (_, many), (_, few) = glide(entity="many"), glide(entity="few", every_s=60.0)
    wrong = many[10]._replace(lat_deg=many[-1].lat_deg, lon_deg=many[-1].lon_deg)
    (ride,) = find_rides(schedule(), sorted([*many[:10], wrong, *many[11:], *few], key=lambda one: one.t_s))
    assert ride.entity == "many"
    assert wrong.t_s not in ride.t_K, "else all stops would be reached by then"


def test_the_schedule_with_the_delay_is_right_about_a_bus_that_stays_as_late() -> None:
    ride, _ = glide(late_s=120.0)
    now_s = float(ride.t_K[len(ride.t_K) // 2])
    asked = np.flatnonzero(ride.reached_N > now_s)
    answers = Methods([]).answer(ride, now_s, asked)
    errors = {name: np.abs(ride.reached_N[asked] - times).max() for name, times in answers.items()}
    assert errors["with delay"] < 45.0 < 75.0 < errors[SCHEDULE]
    assert errors["earlier buses"] < 45.0, "of which there are none: it takes the schedule from here on"


def test_a_method_knows_of_earlier_buses_only_what_had_come_by_then() -> None:
    first, _ = glide(late_s=0.0)
    later, _ = glide(late_s=600.0)
    now_s, asked = float(later.t_K[5]), np.array([len(later.reached_N) - 1])
    knowing, early = Methods([first]), float(first.known_N[1])
    assert (
        knowing.answer(later, now_s, asked)["earlier buses"] != Methods([]).answer(later, now_s, asked)["earlier buses"]
    )
    before = later.t_K[later.t_K < early]
    assert not len(before) or knowing.answer(later, float(before[0]), asked).keys() == set(METHODS)


def test_the_predictor_is_nearer_than_each_method_on_a_real_morning() -> None:
    said = report()
    assert said["questions"] > 5_000
    for name in METHODS:
        assert said["methods"][OURS]["benchmark"] > said["methods"][name]["benchmark"] + 0.03
        more = [lead["more_s"] for lead in said["paired"][name]]
        assert said["paired"][name][0]["low_s"] > 0, name
        assert all(one > 0 for one in more), (name, more)
    assert all(lead["held_90"] > 0.8 for lead in said["methods"][OURS]["leads"])


@given(st.lists(st.tuples(st.floats(1, 1_799), st.floats(-600, 600)), min_size=1, max_size=60))
def test_an_answer_is_accurate_within_the_bounds_and_nowhere_else(questions: list[tuple[float, float]]) -> None:
    lead, error = np.array(questions).T
    said = score(lead, error, None, np.arange(len(lead)))
    for share, (begin, end, early, late) in zip(said["accurate"], BOUNDS_S, strict=True):
        inside = [-early <= e <= late for at, e in questions if begin <= at < end]
        assert share == (pytest.approx(np.mean(inside)) if inside else None)
    worse = compare(lead, error, error + np.sign(error) * 10.0, np.zeros(len(lead), np.int64))
    for (begin, end), one in zip(LEADS_S, worse, strict=True):
        moved = [10.0 * bool(e) for at, e in questions if begin <= at < end]
        assert one["n"] == len(moved)
        assert not moved or one["more_s"] == pytest.approx(np.mean(moved))


def test_what_is_not_answered_counts_as_inaccurate() -> None:
    lead, ride = np.full(4, 60.0), np.arange(4)
    said = score(lead, np.array([0.0, 0.0, np.nan, np.nan]), None, ride)
    assert (said["accurate"][0], said["answered"], said["leads"][0]["n"]) == (0.5, 0.5, 2)


def test_the_command_judges_a_recording_and_says_what_is_wrong_with_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(AUSTIN) as fixture:
        recorded = Path(fixture.extract("pings.parquet", tmp_path))
    asked = ("evaluate", "--data", str(recorded), "--task", "transit")
    told = pathcast(*asked, "--gtfs", str(AUSTIN), "--json")
    assert told.returncode == 0, told.stderr
    (said,) = json.loads(told.stdout)["data"]
    assert said["methods"].keys() == {OURS, *METHODS}
    assert said["methods"][OURS]["benchmark"] > 0.7
    shown = pathcast(*asked, "--gtfs", str(AUSTIN)).stdout.decode()
    assert "mean error more than pathcast's" in shown
    assert "…" not in shown, "nothing is cut off at 80 columns"
    assert "--task transit needs the schedule" in pathcast(*asked).stderr.decode()
    other = ("evaluate", "--data", str(recorded), "--gtfs", str(AUSTIN))
    assert "--gtfs is for --task transit" in pathcast(*other).stderr.decode()
