"""Vehicles that name no trip: whose trip is found is on it, and who is on none gets none."""

from __future__ import annotations

from collections import Counter
from functools import cache

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trips_rig import PARTITIONS, Topic, new_fleet, pings, play, schedule, unit

from stream.transit.assigning import Assigner
from stream.transit.assigning.assigner import OWNED_S, Found
from stream.wire import Ping


def find_all(some: tuple[Ping, ...], assigner: Assigner | None = None) -> list[Found | None]:
    """Returns what is found for each of these pings, which name no trip."""
    fresh = Assigner(schedule()) if assigner is None else assigner
    return [fresh.find(one.entity_id, one.ts / 1000, one.lat, one.lon) for one in some]


@cache
def found_of_all() -> tuple[Found | None, ...]:
    return tuple(find_all(pings()))


def test_a_trip_that_is_found_is_nearly_always_the_true_one() -> None:
    """The feed has no shapes: buses are beside the straight lines between stops for half of the way."""
    said = Counter(
        "none" if found is None else "right" if found.trip_id == ping.trip_id else "wrong"
        for ping, found in zip(pings(), found_of_all(), strict=True)
        if ping.trip_id in schedule().trips
    )
    assert said["right"] > 0.25 * said.total(), said
    assert said["wrong"] < 0.08 * said["right"], said
    assert all(found.assigned for found in found_of_all() if found is not None)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, len(pings())))
def test_what_comes_later_changes_nothing(count: int) -> None:
    assert find_all(pings()[:count]) == list(found_of_all()[:count])


def test_two_vehicles_are_not_on_one_trip_at_the_same_time() -> None:
    on: dict[str, tuple[str, float]] = {}
    shared = 0
    for ping, found in zip(pings(), found_of_all(), strict=True):
        if found is None:
            continue
        entity, t_s = on.get(found.trip_id, (ping.entity_id, 0.0))
        shared += entity != ping.entity_id and ping.ts / 1000 - t_s < OWNED_S
        on[found.trip_id] = ping.entity_id, ping.ts / 1000
    assert shared < 0.01 * len(pings()), "but for the moment in which one turns out to be another"


@pytest.mark.parametrize("north_deg", [0.02, 1.0])
def test_who_drives_elsewhere_is_on_no_trip(north_deg: float) -> None:
    """At 1 degree there is no path at all; at 0.02 some streets of other routes are near."""
    assigner = Assigner(schedule())
    moved = [assigner.find(one.entity_id, one.ts / 1000, one.lat + north_deg, one.lon) for one in pings()]
    assert sum(found is not None for found in moved) <= 0.01 * len(moved)


def test_at_another_time_of_the_day_nothing_is_found() -> None:
    assigner = Assigner(schedule())
    nights = [assigner.find(one.entity_id, one.ts / 1000 - 14_400, one.lat, one.lon) for one in pings()]
    assert sum(found is not None for found in nights) <= 0.02 * len(nights)


def test_a_named_trip_is_taken_as_it_is_and_its_vehicle_keeps_others_off_it() -> None:
    assigner = Assigner(schedule())
    first = next(ping for ping, found in zip(pings(), found_of_all(), strict=True) if found is not None)
    named = assigner.find("named", first.ts / 1000, first.lat, first.lon, trip_id="anything")
    assert named == Found("anything", False)


def test_records_of_vehicles_without_names_say_that_their_trip_was_found() -> None:
    fleet, topic = new_fleet(), Topic()
    units = {number: unit(topic, number, fleet) for number in range(PARTITIONS)}
    bare = [Ping(entity_id=one.entity_id, ts=one.ts, lat=one.lat, lon=one.lon) for one in pings()]
    play(fleet, units, topic, bare)
    records = topic.all_values().values()
    true = {one.entity_id: one.trip_id for one in pings()}
    assert len(records) > 5
    assert all(one.assigned for one in records)
    right = sum(one.trip_id == true[one.entity_id] for one in records)
    assert right >= 0.8 * len(records), (right, len(records))


def test_a_vehicle_comes_back_to_a_trip_that_it_has_lost() -> None:
    """A trip that was given up was held for one that is over, and the vehicle was on none for the rest of its way."""
    assigner = Assigner(schedule())
    own = tuple(one for one in pings() if (one.entity_id, one.trip_id) == ("8927", "1680518"))
    trip = Found("1680518", True)
    assert find_all(own[:12], assigner)[-1] == trip
    beside = tuple(msgspec.structs.replace(one, lat=one.lat + 0.01) for one in own[12:15])
    assert find_all(beside, assigner)[-1] is None
    assert trip in find_all(own[15:25], assigner)
