"""GTFS-Realtime VehiclePositions, encoded by the bindings of the format's own project."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import feed_fuzz
import pytest
from google.transit.gtfs_realtime_pb2 import FeedMessage, VehiclePosition

from stream.adapters.live.formats import gtfs_realtime
from stream.adapters.live.parsed import Skip
from stream.wire import Ping, Reject

CAME_MS = feed_fuzz.CAME_MS
NOW_S = CAME_MS // 1000


def feed(*vehicles: dict[str, Any], header_s: int = NOW_S) -> FeedMessage:
    message = FeedMessage()
    message.header.gtfs_realtime_version = "2.0"
    if header_s:
        message.header.timestamp = header_s
    for number, given in enumerate(vehicles):
        item = message.entity.add(id=given.get("entity", f"e{number}"))
        vehicle = item.vehicle
        at = given.get("at", (30.25, -97.75))
        if at:
            vehicle.position.latitude, vehicle.position.longitude = at
        for name in ("speed", "bearing"):
            if name in given:
                setattr(vehicle.position, name, given[name])
        if "id" in given:
            vehicle.vehicle.id = given["id"]
        if "label" in given:
            vehicle.vehicle.label = given["label"]
        for name in ("trip_id", "route_id", "direction_id", "start_date"):
            if name in given:
                setattr(vehicle.trip, name, given[name])
        if "ts" in given:
            vehicle.timestamp = given["ts"]
        if "status" in given:
            vehicle.current_status = given["status"]
    return message


def read(*vehicles: dict[str, Any], **header: int) -> list[Any]:
    return list(gtfs_realtime.read(feed(*vehicles, **header).SerializeToString(), CAME_MS))


BUS = {
    "id": "1234",
    "ts": NOW_S - 20,
    "speed": 12.5,
    "bearing": 271.5,
    "trip_id": "trip-7",
    "route_id": "801",
    "direction_id": 1,
    "start_date": "20251130",
    "label": "North Lamar",
    "status": VehiclePosition.IN_TRANSIT_TO,
}


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
    (found,) = read({"id": "7"}, header_s=NOW_S - 5)
    assert found.ts == (NOW_S - 5) * 1000
    (found,) = read({"id": "7"}, header_s=0)
    assert found.code == "missing_field"


@pytest.mark.parametrize(
    ("given", "entity_id"),
    [({"id": "7", "trip_id": "t"}, "7"), ({"trip_id": "t"}, "t"), ({"entity": "e-9"}, "e-9")],
)
def test_the_entity_is_the_vehicle_or_its_trip_or_its_place_in_the_feed(given: dict[str, Any], entity_id: str) -> None:
    assert read(given)[0].entity_id == entity_id


def test_what_is_no_position_is_skipped() -> None:
    message = feed(BUS, {"id": "8", "at": None})
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
    found = gtfs_realtime.sightings(feed({**BUS, **given}, {**BUS, "id": "other"}).SerializeToString(), CAME_MS)
    assert isinstance(found[0].parsed, Reject)
    assert found[0].parsed.code == code
    assert isinstance(found[1].parsed, Ping)
    (alone,) = gtfs_realtime.read(found[0].raw, CAME_MS)
    assert alone == found[0].parsed, "its dead letter holds a feed of this vehicle alone"


@pytest.mark.parametrize("raw", [b"", b"<html>busy</html>", b"\x00" * 40, b'{"header":{}}'])
def test_what_is_no_feed_is_one_reject(raw: bytes) -> None:
    (found,) = gtfs_realtime.sightings(raw, CAME_MS)
    assert isinstance(found.parsed, Reject)
    assert found.parsed.code == "bad_message"
    assert found.raw == raw


def test_texts_that_no_ping_can_carry_are_left_out() -> None:
    (found,) = read({**BUS, "label": "x" * 1_000_000, "trip_id": "t" * 300})
    assert isinstance(found, Ping)
    assert found.trip_id is None
    assert found.attrs is not None
    assert "label" not in found.attrs


def test_no_bytes_raise() -> None:
    examples = [
        feed(BUS, {"id": "8"}, {"trip_id": "t", "at": (1.0, 2.0)}).SerializeToString(),
        feed().SerializeToString(),
    ]
    counts = feed_fuzz.survives(gtfs_realtime.read, examples, seed=35_1)
    assert counts["Ping"] > 200
    assert counts["Reject"] > 1_000


def test_no_values_raise() -> None:
    """Feeds that are whole, with odd values."""
    seed, counts = 35_10, Counter[str]()
    print(f"seed {seed}")
    rng = random.Random(seed)
    numbers = (0.0, -0.0, 90.0, 91.0, -180.0, 181.0, 360.0, 361.0, -1.0, 1e30, float("nan"), float("inf"), 1e-40)
    texts = ("", "7", " ", "x" * 129, "x" * 100_000, "\x00", "\u2028", "é")
    times = (0, 1, 1000, NOW_S, NOW_S * 1000, 2**33, 2**63, 2**64 - 1)
    for _ in range(feed_fuzz.COUNT):
        given = {
            **BUS,
            "at": (rng.choice((*numbers, 30.0, 30.0)), rng.choice((*numbers, -97.0, -97.0))),
            **{name: rng.choice(numbers) for name in ("speed", "bearing") if rng.random() < 0.5},
            **{name: rng.choice(texts) for name in ("id", "label", "trip_id", "route_id") if rng.random() < 0.2},
            "ts": rng.choice((*times, NOW_S, NOW_S)),
        }
        raw = feed(given, header_s=rng.choice((NOW_S, *times))).SerializeToString()
        counts += feed_fuzz.check(gtfs_realtime.read(raw, CAME_MS))
    assert counts["Ping"] > 1_000
    assert counts["Reject"] > 1_000
