"""Records of other formats: the reject says what came."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.tracks import foreign_formats
from stream.tracks.clean import parse
from stream.wire import Record, Reject

TS = 1_700_000_000_000
TRACCAR = {
    "position": {
        "id": 3,
        "deviceId": 7,
        "protocol": "osmand",
        "deviceTime": "2023-11-14T22:13:20.000+00:00",
        "fixTime": "2023-11-14T22:13:20.000+00:00",
        "valid": True,
        "latitude": 30.25,
        "longitude": -97.75,
        "altitude": 150.0,
        "speed": 12.4,
        "course": 90.0,
        "attributes": {"batteryLevel": 90},
    },
    "device": {"id": 7, "name": "Bus 7", "uniqueId": "864507030000007", "status": "online"},
}
OWNTRACKS = {"_type": "location", "tid": "b7", "tst": TS // 1000, "lat": 30.25, "lon": -97.75, "vel": 40, "acc": 5}
GTFS_RT = {
    "id": "7",
    "vehicle": {
        "trip": {"tripId": "12"},
        "position": {"latitude": 30.25, "longitude": -97.75, "bearing": 90, "speed": 11.1},
        "timestamp": "1700000000",
        "vehicle": {"id": "bus-7"},
    },
}
FEED = {"header": {"gtfsRealtimeVersion": "2.0", "timestamp": "1700000000"}, "entity": [GTFS_RT]}
GEOJSON = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [-97.75, 30.25]}, "properties": {}}
FLAT = {"vehicle_id": "bus-7", "timestamp": TS, "latitude": 30.25, "longitude": -97.75}


def refused(value: Any, key: bytes | None = None) -> Reject:
    found = parse(Record("p", 0, 7, TS, key, value if isinstance(value, bytes) else json.dumps(value).encode()))
    assert isinstance(found, Reject), found
    assert found.message.isprintable()
    assert len(found.message) < 250
    return found


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            TRACCAR,
            "entity_id and ts and lat and lon absent; looks like Traccar: it has device.uniqueId, not entity_id; "
            "position.fixTime, not ts; position.latitude, not lat; position.longitude, not lon; its speed is in knots",
        ),
        (TRACCAR["position"], "looks like Traccar: it has deviceId, not entity_id; fixTime, not ts; latitude, not lat"),
        (
            OWNTRACKS,
            "entity_id and ts absent; looks like OwnTracks: it has tid, not entity_id; tst, not ts; its vel",
        ),
        (GTFS_RT, "looks like GTFS-Realtime: it has vehicle.vehicle.id, not entity_id; vehicle.timestamp, no"),
        (FEED, "looks like GTFS-Realtime: it has header.timestamp, not ts; one record holds one ping"),
        (
            GEOJSON,
            "looks like GeoJSON: it has type, geometry, geometry.type and 2 more; its coordinates are ",
        ),
        (FLAT, "absent; it has vehicle_id, not entity_id; timestamp, not ts; latitude, not lat; longitude, not lon"),
        ({"entity_id": "a", "Lat": 1, "LON": 2, "ts": TS}, "lat and lon absent; it has Lat, not lat; LON, not lon"),
        ({"entity_id": "a", "gps_lat": 1, "gpsLng": 2, "ts": TS}, "it has gps_lat, not lat; gpsLng, not lon"),
        ({"enity_id": "a", "lattitude": 1, "lon": 2, "ts": TS}, "it has enity_id, not entity_id; lattitude, not lat"),
        ({"a": 1, "b": 2}, "absent; it has a, b"),
        ({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}, "absent; it has a, b, c and 2 more"),
        ({}, "entity_id and ts and lat and lon absent; it has no fields"),
        ({"entity_id": "a", "ts": TS, "\x1b[2J_lat\n": 1, "lon": 2}, "it has \\x1b[2J_lat\\n, not lat"),
    ],
)
def test_a_foreign_format_is_named_with_the_names_that_come_near(value: Any, said: str) -> None:
    found = refused(value)
    assert found.code == "missing_field"
    assert said in found.message


def test_an_id_that_the_key_has_is_not_missed() -> None:
    found = refused(OWNTRACKS, key=b"bus-7")
    assert found.message.startswith("ts absent; looks like OwnTracks: it has tst, not ts;")


def framed(schema: int, payload: bytes) -> bytes:
    return struct.pack(">xI", schema) + payload


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (json.dumps(FLAT).encode(), "Schema Registry framing, schema 7, and then JSON"),
        (b' \n{"a": 1}', "Schema Registry framing, schema 7, and then JSON"),
        (
            b"\x0abus-1\x80\xa0\xff\x9f\x62",
            "Schema Registry framing, schema 7, and then bytes that are no JSON",
        ),
        (b"\x00", "Schema Registry framing, schema 7, and then bytes that are no JSON"),
    ],
)
def test_the_framing_of_a_schema_registry_is_named_with_its_schema(payload: bytes, said: str) -> None:
    found = refused(framed(7, payload))
    assert found.code == "schema_framed"
    assert said in found.message


LONG = b"\0\0\0\0\0\0\x13\7"  # an integer as Kafka's LongSerializer has it
NO_FRAMING = [b"\0", b"\0\0\0\0\7", b"\1\0\0\0\7{}", b" \0\0\0\0\7{}", LONG]


@pytest.mark.parametrize("value", NO_FRAMING)
def test_what_is_too_short_or_begins_otherwise_is_no_framing(value: bytes) -> None:
    assert refused(value).code == "invalid_json"


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-32-be"])
def test_json_of_another_encoding_is_no_framing(encoding: str) -> None:
    assert refused(json.dumps(FLAT).encode(encoding)).code == "invalid_json"


def test_the_framing_of_a_key_is_named_too() -> None:
    ping = {"entity_id": "bus-7", "ts": TS, "lat": 30.25, "lon": -97.75}
    found = refused(ping, key=framed(12, b"\x0abus-7"))
    assert found.code == "key_mismatch"
    assert "the key has Schema Registry framing, schema 12; expected is 'bus-7' without framing" in found.message


def test_an_array_is_no_ping_however_good_its_items_are() -> None:
    found = refused([FLAT, FLAT])
    assert (found.code, "an array of 2: expected is one object" in found.message) == ("invalid_json", True)


def test_of_a_value_with_thousands_of_names_some_are_looked_at() -> None:
    """A sender may send such records at any rate, so the message of one must cost little."""
    many = {f"name{n}": n for n in range(2_000)} | {"latitude": 1}
    assert f"and {foreign_formats.MAX_NAMES - 3} more" in refused(many).message
    assert "latitude" not in refused(many).message
    deep = {"a": {"b": {"c": {"latitude": 1}}}}
    assert refused(deep).message == "entity_id and ts and lat and lon absent; it has a, a.b, a.b.c"


json_values = st.recursive(
    st.none() | st.integers() | st.text(st.characters(), max_size=50),
    lambda inner: (
        st.dictionaries(st.text(st.characters(), max_size=50), inner, max_size=5) | st.lists(inner, max_size=3)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(), max_size=50) | st.sampled_from(["latitude", "tst"]), json_values))
def test_any_object_without_the_required_fields_has_a_short_printable_message(value: dict[str, Any]) -> None:
    for name in ("entity_id", "ts", "lat", "lon"):
        value.pop(name, None)
    refused(value)
