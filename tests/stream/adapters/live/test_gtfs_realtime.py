"""GTFS-Realtime VehiclePositions, encoded by the bindings of the format's own project."""

from __future__ import annotations

from typing import Any

import pytest
from live_rig import BUS, CAME_MS, NOW_S, gtfs_feed, only_code, only_ping

from stream.adapters.live.formats import gtfs_realtime
from stream.adapters.live.parsed import Skip
from stream.wire import Ping


def read(*vehicles: dict[str, Any], **header: int) -> list[Any]:
    return list(gtfs_realtime.read(gtfs_feed(*vehicles, **header).SerializeToString(), CAME_MS))


def test_a_vehicle_is_a_ping_with_its_trip_and_its_route() -> None:
    (found,) = read(BUS)
    attrs = {
        "route_id": "801",
        "start_date": "20251130",
        "label": "North Lamar",
        "direction_id": 1,
        "status": "in_transit_to",
    }
    assert found == Ping(
        entity_id="1234",
        ts=(NOW_S - 20) * 1000,
        lat=30.25,
        lon=-97.75,
        speed_mps=12.5,
        heading_deg=271.5,
        trip_id="trip-7",
        source="gtfs-rt",
        attrs=attrs,
    )


def test_what_a_feed_does_not_say_is_absent_and_not_zero() -> None:
    (found,) = read({"id": "7", "ts": NOW_S})
    assert found == Ping(entity_id="7", ts=NOW_S * 1000, lat=30.25, lon=-97.75, source="gtfs-rt")


def test_a_vehicle_without_a_time_has_the_headers() -> None:
    assert only_ping(read({"id": "7"}, header_s=NOW_S - 5)).ts == (NOW_S - 5) * 1000
    assert only_code(read({"id": "7"}, header_s=0)) == "missing_field"


@pytest.mark.parametrize(
    ("given", "entity_id"),
    [({"id": "7", "trip_id": "t"}, "7"), ({"trip_id": "t"}, "t"), ({"entity": "e-9"}, "e-9")],
)
def test_the_entity_is_the_vehicle_or_its_trip_or_its_place_in_the_feed(given: dict[str, Any], entity_id: str) -> None:
    assert read(given)[0].entity_id == entity_id


def test_what_is_no_position_is_skipped() -> None:
    message = gtfs_feed(BUS, {"id": "8", "at": None})
    message.entity.add(id="update").trip_update.trip.trip_id = "t"
    message.entity.add(id="gone", is_deleted=True)
    found = gtfs_realtime.read(message.SerializeToString(), CAME_MS)
    assert [type(one) for one in found] == [Ping, Skip, Skip, Skip]
    assert found[1:] == [Skip("no_position"), Skip("no_vehicle"), Skip("deleted")]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"at": (91.0, 0.0)}, "lat_out_of_range"),
        ({"at": (0.0, 0.0)}, "null_island"),
        ({"at": (float("nan"), 0.0)}, "not_finite"),
        ({"ts": NOW_S + 90_000}, "ts_in_future"),
        ({"ts": 2**63}, "ts_in_future"),
        ({"ts": 1000}, "ts_too_old"),
        ({"id": "x" * 129}, "bad_entity_id"),
    ],
)
def test_a_bad_vehicle_is_a_reject_and_the_others_are_pings(given: dict[str, Any], code: str) -> None:
    both = gtfs_feed({**BUS, **given}, {**BUS, "id": "other"}).SerializeToString()
    bad, good = gtfs_realtime.sightings(both, CAME_MS)
    assert only_code([bad.parsed]) == code
    assert isinstance(good.parsed, Ping)
    assert gtfs_realtime.read(bad.raw, CAME_MS) == [bad.parsed], "its dead letter holds a feed of this vehicle alone"


@pytest.mark.parametrize("raw", [b"", b"<html>busy</html>", b"\x00" * 40, b'{"header":{}}'])
def test_what_is_no_feed_is_one_reject(raw: bytes) -> None:
    (found,) = gtfs_realtime.sightings(raw, CAME_MS)
    assert (only_code([found.parsed]), found.raw) == ("bad_message", raw)


def test_texts_that_no_ping_can_carry_are_left_out() -> None:
    found = only_ping(read({**BUS, "label": "x" * 1_000_000, "trip_id": "t" * 300}))
    assert found.trip_id is None
    assert found.attrs is not None
    assert "label" not in found.attrs
