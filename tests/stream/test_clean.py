"""Record bytes: every way to be wrong is a Reject with a stable code, never an exception."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.clean import MAX_AHEAD_MS, parse
from stream.wire import CODES, Ping, Record, Reject

TS = 1_700_000_000_000
GOOD = {"entity_id": "bus-1", "ts": TS, "lat": 30.25, "lon": -97.75}


def record(value: bytes | None, key: bytes | None = b"bus-1", timestamp_ms: int = TS) -> Record:
    return Record("pathcast.pings.v1", 0, 7, timestamp_ms, key, value)


def ping_json(**changes: object) -> bytes:
    fields = {**GOOD, **changes}
    return json.dumps({name: item for name, item in fields.items() if item != "ABSENT"}).encode()


def with_raw(text: str) -> bytes:
    """The good ping with more JSON text before its closing brace."""
    return ping_json()[:-1] + b", " + text.encode("utf-8", "surrogatepass") + b"}"


def code(value: bytes | None, **options: object) -> str:
    found = parse(record(value, **options))  # type: ignore[arg-type]
    assert isinstance(found, Reject), f"{found} was taken for a ping"
    assert found.code in CODES
    assert len(found.message) < 250, "a message must not carry the sender's whole value"
    found.message.encode()
    return found.code


def test_a_good_ping_is_taken_with_all_its_fields() -> None:
    optional = {"alt_m": 150.5, "speed_mps": 0, "heading_deg": 359.9, "accuracy_m": 3.0, "hdop": 0.9, "sats": 11}
    more = {"valid": True, "received_ts": TS + 900, "trip_id": "t", "category": "bus", "source": "s", "attrs": {"a": 1}}
    assert parse(record(ping_json(**optional, **more))) == Ping(**GOOD, **optional, **more)  # type: ignore[arg-type]


def test_unknown_fields_are_ignored_and_null_is_absent() -> None:
    assert parse(record(ping_json(colour="red", alt_m=None))) == Ping(**GOOD)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ts", "expected"),
    [
        (TS, TS),
        (float(TS) + 0.4, TS),
        (TS // 1000, TS),
        (TS / 1000 + 0.123, TS + 123),
        ("2023-11-14T22:13:20Z", TS),
        ("2023-11-14T22:13:20.123456Z", TS + 123),
        ("2023-11-15T00:13:20+02:00", TS),
    ],
)
def test_every_spelling_of_time_means_the_same_milliseconds(ts: object, expected: int) -> None:
    found = parse(record(ping_json(ts=ts)))
    assert isinstance(found, Ping), found
    assert (found.ts, type(found.ts)) == (expected, int)


def test_a_ping_without_an_id_takes_it_from_the_key() -> None:
    found = parse(record(ping_json(entity_id="ABSENT"), key="straße-7".encode()))
    assert isinstance(found, Ping)
    assert found.entity_id == "straße-7"


def test_a_heading_of_a_full_turn_is_north() -> None:
    found = parse(record(ping_json(heading_deg=360)))
    assert isinstance(found, Ping)
    assert found.heading_deg == 0.0


@pytest.mark.parametrize("lon", [-180, 180, 179.9999999])
def test_both_edges_of_the_antimeridian_are_taken(lon: float) -> None:
    assert isinstance(parse(record(ping_json(lon=lon))), Ping)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"x" * 10_000_000, "too_large"),
        (b'"' + b"[" * 10_000_000, "too_large"),
        (b"\xff\xfe{}", "invalid_utf8"),
        (with_raw('"colour": "red"').replace(b"red", b"\xc3\x28"), "invalid_utf8"),
        (with_raw(r'"colour": "\ud800"'), "invalid_utf8"),
        (with_raw(r'"trip_id": "\udfff x"'), "invalid_utf8"),
        (b"hello", "invalid_json"),
        (b"{}x", "invalid_json"),
        (b"[1, 2]", "invalid_json"),
        (b"null", "invalid_json"),
        (b"7", "invalid_json"),
        (ping_json()[:-5], "invalid_json"),
        (ping_json().replace(b'"', b"'"), "invalid_json"),
        (ping_json().decode().encode("utf-16"), "invalid_utf8"),
        (b"\xef\xbb\xbf" + ping_json(), "invalid_json"),
        (with_raw('"colour": ' + "[" * 5_000 + "]" * 5_000), "too_deep"),
        (with_raw('"attrs": ' + '{"a":' * 100 + "1" + "}" * 100), "too_deep"),
        (b"[" * 60_000, "too_deep"),
        (b"{}", "missing_field"),
        (ping_json(lat="ABSENT"), "missing_field"),
        (ping_json(lon=None), "missing_field"),
        (ping_json(ts="ABSENT"), "missing_field"),
        (ping_json(lat=True), "wrong_type"),
        (ping_json(ts=False), "wrong_type"),
        (ping_json(lat="30.25"), "wrong_type"),
        (ping_json(lon=[1]), "wrong_type"),
        (ping_json(ts={}), "wrong_type"),
        (ping_json(entity_id=7), "wrong_type"),
        (ping_json(sats=3.5), "wrong_type"),
        (ping_json(sats=True), "wrong_type"),
        (ping_json(valid=1), "wrong_type"),
        (ping_json(attrs=[1]), "wrong_type"),
        (ping_json(trip_id=12), "wrong_type"),
        (ping_json(lat=float("nan")), "not_finite"),
        (ping_json(lon=float("-inf")), "not_finite"),
        (ping_json(ts=float("inf")), "not_finite"),
        (with_raw('"alt_m": 1e999'), "not_finite"),
        (with_raw('"alt_m": ' + "9" * 400), "not_finite"),
        (with_raw('"attrs": {"deep": [1, NaN]}'), "not_finite"),
        (with_raw('"attrs": {"long": ' + "9" * 50_000 + "}"), "not_finite"),
        (ping_json(entity_id=""), "bad_entity_id"),
        (ping_json(entity_id="x" * 129), "bad_entity_id"),
        (ping_json(entity_id="a\x1fb"), "bad_entity_id"),
        (ping_json(ts="yesterday"), "bad_timestamp"),
        (ping_json(ts="2023-11-14T22:13:20"), "bad_timestamp"),
        (ping_json(ts="2023-02-30T00:00:00Z"), "bad_timestamp"),
        (ping_json(ts=0), "ts_too_old"),
        (ping_json(ts=-5), "ts_too_old"),
        (ping_json(ts=-(10**30)), "ts_too_old"),
        (ping_json(ts=-1e300), "ts_too_old"),
        (ping_json(ts="1970-06-01T00:00:00Z"), "ts_too_old"),
        (ping_json(ts="0001-01-01T00:00:00+23:59"), "ts_too_old"),
        (ping_json(ts=TS + MAX_AHEAD_MS + 1), "ts_in_future"),
        (ping_json(ts=10**17), "ts_in_future"),
        (ping_json(ts=10**300), "ts_in_future"),
        (ping_json(ts=1e300), "ts_in_future"),
        (ping_json(ts="9999-12-31T23:59:59Z"), "ts_in_future"),
        (ping_json(lat=91), "lat_out_of_range"),
        (ping_json(lat=-90.0000001), "lat_out_of_range"),
        (ping_json(lon=180.0000001), "lon_out_of_range"),
        (ping_json(lon=-1e300), "lon_out_of_range"),
        (ping_json(lat=0, lon=-0.0), "null_island"),
        (ping_json(speed_mps=-1), "bad_field"),
        (ping_json(heading_deg=361), "bad_field"),
        (ping_json(sats=10**30), "bad_field"),
        (ping_json(sats=10**300), "bad_field"),
        (ping_json(received_ts=5), "bad_field"),
        (ping_json(trip_id="x" * 300), "bad_field"),
        (ping_json(attrs={str(n): n for n in range(33)}), "bad_field"),
        (ping_json(valid=False), "marked_invalid"),
    ],
)
def test_a_bad_value_is_a_reject_with_its_code(value: bytes | None, expected: str) -> None:
    assert code(value) == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (None, ping_json(), "key_mismatch"),
        (b"", ping_json(), "key_mismatch"),
        (b"bus-2", ping_json(), "key_mismatch"),
        (b"\xff", ping_json(), "invalid_utf8"),
        (b"\xff", ping_json(entity_id="ABSENT"), "invalid_utf8"),
        (b"", ping_json(entity_id="ABSENT"), "bad_entity_id"),
        (None, ping_json(entity_id="ABSENT"), "missing_field"),
    ],
)
def test_a_ping_whose_key_is_not_its_entity_is_refused(key: bytes | None, value: bytes, expected: str) -> None:
    assert code(value, key=key) == expected


def test_the_clock_is_the_record_itself() -> None:
    """A replay years later must decide as the first pass did, so nothing here may read the wall clock."""
    assert code(ping_json(), timestamp_ms=TS - MAX_AHEAD_MS - 1) == "ts_in_future"
    assert isinstance(parse(record(ping_json(), timestamp_ms=TS - MAX_AHEAD_MS)), Ping)
    assert isinstance(parse(record(ping_json(), timestamp_ms=-1)), Ping), "a record without a timestamp has no clock"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from([*Ping.__struct_fields__, "colour"])


@given(st.dictionaries(names, json_values), st.none() | st.binary(max_size=8), st.integers(-1, 2**53))
def test_no_json_object_raises(changes: dict[str, object], key: bytes | None, timestamp_ms: int) -> None:
    found = parse(record(json.dumps({**GOOD, **changes}).encode(), key or b"bus-1", timestamp_ms))
    assert isinstance(found, Ping) or found.code in CODES


@given(st.binary(max_size=200), st.integers(0, 200))
def test_no_bytes_raise(junk: bytes, cut: int) -> None:
    for value in (junk, ping_json()[:cut] + junk, ping_json()[:cut] + junk + ping_json()[cut:]):
        found = parse(record(value))
        assert isinstance(found, Ping) or found.code in CODES


@given(st.floats(-90, 90), st.floats(-180, 180), st.integers(TS - 10**11, TS))
def test_what_is_taken_is_what_was_sent(lat: float, lon: float, ts: int) -> None:
    found = parse(record(ping_json(lat=lat, lon=lon, ts=ts)))
    if lat or lon:
        assert isinstance(found, Ping)
        assert (found.lat, found.lon, found.ts) == (lat, lon, ts)
