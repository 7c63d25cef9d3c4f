"""Trips under way over HTTP: the newest record of each, in the four forms, and nothing of what is over."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import pytest
from api_rig import SECRET
from google.transit import gtfs_realtime_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st
from realtime_rig import FEED, record_of, under_way

from stream.api.trips.table import SILENT_MS, TripTable, newest_of_trips
from stream.transit.schedule import read_schedule
from stream.wire import Record
from stream.wire.trips import StopAhead, TripUnderWay, loads_trip


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


async def test_a_feed_is_compressed_for_who_takes_that(serve: Any) -> None:
    """Each form has a tag of its own, as a cache may hold both."""
    table = TripTable()
    table.take(map(record_of, trips()))
    async with serve(trips=table) as api:
        for path in ("trip-updates.json", "vehicle-positions.pb"):
            said = {}
            for accepted in ("gzip", "identity"):
                headers = {"Accept-Encoding": accepted}
                async with api.client.get(f"{api.base}/gtfs-rt/{path}", headers=headers) as answer:
                    said[accepted] = answer.headers, await answer.read()
                    assert answer.headers["Vary"] == "Accept-Encoding"
                headers["If-None-Match"] = said[accepted][0]["ETag"]
                async with api.client.get(f"{api.base}/gtfs-rt/{path}", headers=headers) as answer:
                    assert answer.status == 304
            (packed, body), (plain, same) = said.values()
            assert (packed.get("Content-Encoding"), plain.get("Content-Encoding")) == ("gzip", None)
            assert body == same, "the client has decompressed it"
            assert int(packed["Content-Length"]) < int(plain["Content-Length"]) == len(same)
            assert packed["ETag"] != plain["ETag"]


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


def _stops(text: str) -> tuple[StopAhead, ...]:
    first = trips()[0].stops[0]
    return tuple(msgspec.structs.replace(first, stop_id=one) for one in text)


_records = st.builds(
    lambda trip, vehicle, after_ms, stops, ends: (ended if ends else record_of)(
        msgspec.structs.replace(
            trips()[0], trip_id=trip, entity_id=vehicle, ts=trips()[0].ts + after_ms,
            ping_ts=trips()[0].ts + after_ms, stops=_stops(stops),
        )
    ),
    st.sampled_from("TU"), st.sampled_from("vw"), st.sampled_from((0, 1, SILENT_MS, 2 * SILENT_MS)),
    st.text("abc", max_size=3), st.booleans(),
)  # fmt: skip


@given(st.lists(_records, max_size=12))
def test_what_is_found_by_an_index_is_what_a_look_at_all_trips_finds(records: list[Record]) -> None:
    table, held = TripTable(most=3), dict[bytes, TripUnderWay]()
    for record in records:
        table.take([record])
        held.pop(record.key or b"", None)
        if record.value is not None:
            held[record.key or b""] = loads_trip(record.value)
            held = dict(list(held.items())[-3:])
        newest_ms = max((one.ts for one in held.values()), default=0)
        heard = [one for one in held.values() if one.ts >= newest_ms - SILENT_MS]
        assert (table.newest_ms, table.heard()) == (newest_ms, heard)
        for vehicle in "vw":
            on = [one for one in heard if one.entity_id == vehicle]
            assert table.of(vehicle) == max(on, key=lambda one: (one.ping_ts, one.trip_id), default=None)
        for stop_id in "abc":
            calls = [(trip, stop) for trip in newest_of_trips(heard) for stop in trip.stops if stop.stop_id == stop_id]
            assert table.calls(stop_id) == sorted(calls, key=lambda call: (call[1].arrival_ts, call[0].trip_id))
    table.take([record._replace(value=None) for record in records])
    assert not table._index
