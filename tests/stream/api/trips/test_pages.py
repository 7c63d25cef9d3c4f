"""Trips under way over HTTP: the newest record of each, in the four forms, and nothing of what is over."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import pytest
from api_rig import SECRET
from google.transit import gtfs_realtime_pb2 as pb
from realtime_rig import FEED, record_of, under_way

from stream.api.trips.table import SILENT_MS, TripTable
from stream.transit.schedule import read_schedule
from stream.wire.trips import TripUnderWay


@cache
def trips() -> list[TripUnderWay]:
    schedule = read_schedule(FEED)
    made = [
        under_way(schedule, schedule.trips[one], entity_id=f"bus-{n}") for n, one in enumerate(list(schedule.trips)[:3])
    ]
    ts = max(one.ts for one in made)
    return [msgspec.structs.replace(one, ts=ts, ping_ts=ts) for one in made]


def ended(trip: TripUnderWay) -> Any:
    return record_of(trip)._replace(value=None)


async def test_a_feed_has_the_newest_of_each_trip_until_it_ends(serve: Any) -> None:
    table = TripTable()
    async with serve(trips=table, token=SECRET) as api:
        bearer = {"Authorization": f"Bearer {SECRET}"}

        async def ask(path: str, **headers: str) -> tuple[int, Any, bytes]:
            async with api.client.get(f"{api.base}/gtfs-rt/{path}", headers=bearer | headers) as said:
                return said.status, said.headers, await said.read()

        assert (await api.get("/gtfs-rt/trip-updates.pb"))[0] == 401
        status, _, body = await ask("trip-updates.pb")
        assert (status, len(pb.FeedMessage.FromString(body).entity)) == (200, 0), "no trip is under way"
        table.take(map(record_of, trips()))
        status, headers, body = await ask("trip-updates.pb")
        message = pb.FeedMessage.FromString(body)
        assert headers["Content-Type"] == "application/x-protobuf"
        assert {one.trip_update.trip.trip_id for one in message.entity} == {one.trip_id for one in trips()}
        again, _, nothing = await ask("trip-updates.pb", **{"If-None-Match": headers["ETag"]})
        assert (again, nothing) == (304, b"")
        status, _, body = await ask("vehicle-positions.pb")
        assert {one.id for one in pb.FeedMessage.FromString(body).entity} == {"bus-0", "bus-1", "bus-2"}
        for kind, member in (("trip-updates", "trip_update"), ("vehicle-positions", "vehicle")):
            status, headers, body = await ask(f"{kind}.json")
            assert (status, headers["Content-Type"]) == (200, "application/json")
            assert len([one[member] for one in msgspec.json.decode(body)["entity"]]) == 3
        table.take([ended(trips()[0])])
        status, _, body = await ask("trip-updates.pb", **{"If-None-Match": headers["ETag"]})
        left = {one.trip_update.trip.trip_id for one in pb.FeedMessage.FromString(body).entity}
        assert (status, left) == (200, {one.trip_id for one in trips()[1:]})


def test_of_two_vehicles_on_one_trip_the_one_that_was_heard_last_counts() -> None:
    table, one = TripTable(), trips()[0]
    other = msgspec.structs.replace(one, entity_id="other", ping_ts=one.ping_ts + 1)
    table.take(map(record_of, (other, one)))
    assert [trip.entity_id for trip in table.under_way()] == ["other"]
    table.take([ended(other)])
    assert [trip.entity_id for trip in table.under_way()] == [one.entity_id]


def test_who_is_written_of_no_more_is_left_out_and_strangers_are_counted() -> None:
    table, (one, other, _) = TripTable(), trips()
    table.take(map(record_of, (one, msgspec.structs.replace(other, ts=one.ts + SILENT_MS + 1))))
    assert [trip.trip_id for trip in table.under_way()] == [other.trip_id]
    table.take([record_of(one)._replace(value=b"{}"), record_of(other)._replace(key=b"x", value=b"\xff")])
    assert (table.refused, len(table)) == (2, 1)


def test_more_trips_than_it_may_hold_crowd_out_the_one_heard_longest_ago() -> None:
    table = TripTable(most=2)
    table.take(map(record_of, trips()))
    assert {trip.trip_id for trip in table.under_way()} == {one.trip_id for one in trips()[1:]}


def test_a_recording_that_is_played_again_has_its_trips_again() -> None:
    """They were left out as silent, until a restart: the newest time of all that ever came stayed."""
    table = TripTable()
    table.take(map(record_of, trips()))
    table.take(map(ended, trips()))
    earlier = [msgspec.structs.replace(one, ts=one.ts - 2 * SILENT_MS) for one in trips()]
    table.take(map(record_of, earlier))
    assert len(table.under_way()) == len(trips())
    assert table.newest_ms == max(one.ts for one in earlier)


@pytest.mark.parametrize(
    ("of_trip", "of_stop"),
    [
        ({}, {"sequence": -1}),
        ({}, {"sequence": 2**32}),
        ({}, {"arrival_ts": 10**16}),
        ({}, {"scheduled_arrival_ts": 0}),
        ({}, {"late_ts": 2**62}),
        ({}, {"lat": 91.0}),
        ({"delay_s": 1e12}, {}),
        ({"direction_id": -1}, {}),
        ({"ts": -1}, {}),
        ({"ping_ts": 2**62}, {}),
        ({"lon": 1e300}, {}),
        ({"speed_mps": 1e300}, {}),
    ],
)
async def test_a_record_with_numbers_that_no_feed_can_hold_spoils_no_answer(
    serve: Any, of_trip: dict[str, Any], of_stop: dict[str, Any]
) -> None:
    """One of them made each feed of all trips a 500."""
    table, (one, other, _) = TripTable(), trips()
    stops = (msgspec.structs.replace(one.stops[0], **of_stop), *one.stops[1:])
    table.take(map(record_of, (msgspec.structs.replace(one, stops=stops, **of_trip), other)))
    assert (table.refused, len(table)) == (1, 1)
    async with serve(trips=table) as api:
        for path in ("trip-updates.pb", "trip-updates.json", "vehicle-positions.pb", "vehicle-positions.json"):
            async with api.client.get(f"{api.base}/gtfs-rt/{path}") as said:
                assert said.status == 200, path
