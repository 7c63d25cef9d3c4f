"""Record bytes: every way to be wrong is a Reject with a stable code, never an exception."""

from __future__ import annotations

import json

import pytest

from stream.tracks.clean import examine, parse
from stream.wire import CODES, MAX_ENTITY_ID_CHARS, MAX_RECORD_BYTES, OPTIONAL, Ping, Record, Reject
from stream.wire.ping_rules import MAX_AHEAD_MS, MAX_NESTING

TS = 1_700_000_000_000
CONTROLS = ["\x00", "\n", "\x1b", "\x1f", "\x7f", "\x80", "\x85", "\x9b", "\x9f", "\u2028", "\u2029"]
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
        (float(TS) + 0.6, TS + 1),
        (TS // 1000, TS),
        (TS / 1000 + 0.123, TS + 123),
        (1_081_560_907.896, 1_081_560_907_896),  # times 1000 it is 1081560907895.9999
        (str(TS), TS),
        (str(TS // 1000), TS),
        (f"{TS // 1000}.29", TS + 290),
        (f"{TS}.6", TS + 1),
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


# -- optional fields --------------------------------------------------------------------------------------------------


def taken(value: bytes) -> tuple[Ping, tuple[str, ...]]:
    found, dropped = examine(record(value))
    assert isinstance(found, Ping), found
    return found, dropped


IMPOSSIBLE = {
    "speed_mps": ["-1", "-0.001", "1000.5", '"3"', "true", "{}", "[3]", "NaN", "Infinity", "1e999", "9" * 400],
    "heading_deg": ["-1", "361", "-Infinity", '"north"'],
    "alt_m": ["-12001", "100001", "1e999", "9" * 5_000],
    "accuracy_m": ["-1", "10000001"],
    "hdop": ["-0.1", "1001"],
    "sats": ["-1", "7.5", "1001", "true", '"7"', "NaN", "1" + "0" * 30, "1" + "0" * 300],
    "received_ts": ["5", str(TS // 1000), f"{TS}.5", '"2023-11-14T22:13:20Z"'],
    "trip_id": ["12", '"' + "x" * 257 + '"', r'"\udfff x"', "[]"],
    "category": ["12", "true"],
    "source": ["{}", r'"\ud800"'],
    "valid": ['"yes"', "2", "0.5", "NaN", "[]", "{}"],
    "attrs": ["[1]", '"x"', "7", '{"deep": [1, NaN]}', '{"long": ' + "9" * 50_000 + "}", r'{"a": "\ud800"}'],
}
IMPOSSIBLE["attrs"] += [r'{"\ud800": 1}', json.dumps({str(n): n for n in range(33)})]


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in IMPOSSIBLE.items() for text in texts])
def test_an_optional_field_that_cannot_be_costs_the_field_alone(name: str, text: str) -> None:
    """A phone writes -1 for a speed that it does not know. That once cost the whole ping."""
    ping, dropped = taken(with_raw(f'"{name}": {text}'))
    assert (ping, dropped) == (Ping(**GOOD), (name,))  # type: ignore[arg-type]  # absent, and not 0


def test_every_optional_field_may_be_impossible_at_once() -> None:
    assert set(IMPOSSIBLE) == set(OPTIONAL)
    ping, dropped = taken(with_raw(", ".join(f'"{name}": {texts[0]}' for name, texts in IMPOSSIBLE.items())))
    assert ping == Ping(**GOOD)  # type: ignore[arg-type]
    assert sorted(dropped) == sorted(OPTIONAL)


def test_what_is_dropped_takes_nothing_else_with_it() -> None:
    more = {"alt_m": 7, "heading_deg": 360, "sats": 7.0, "received_ts": float(TS), "valid": "true", "attrs": {"a": [1]}}
    ping, dropped = taken(ping_json(speed_mps=-1, hdop=0, trip_id="é", **more))
    expected = {"alt_m": 7.0, "heading_deg": 0.0, "sats": 7, "received_ts": TS, "valid": True, "attrs": {"a": [1]}}
    assert ping == Ping(**GOOD, hdop=0.0, trip_id="é", **expected)  # type: ignore[arg-type]
    assert dropped == ("speed_mps",)
    assert {name: type(getattr(ping, name)) for name in ("alt_m", "sats", "received_ts")} == {
        "alt_m": float,
        "sats": int,
        "received_ts": int,
    }


@pytest.mark.parametrize("valid", ["true", "1", '"true"', "1.0"])
def test_valid_has_several_spellings(valid: str) -> None:
    ping, dropped = taken(with_raw(f'"valid": {valid}'))
    assert (ping.valid, dropped) == (True, ())


@pytest.mark.parametrize("text", ["NaN", "1e999", r'"\ud800"', "9" * 5_000, "[[-Infinity]]", r'{"\udc00": NaN}'])
def test_a_field_that_we_do_not_know_may_hold_anything(text: str) -> None:
    assert taken(with_raw(f'"colour": {text}')) == (Ping(**GOOD), ())  # type: ignore[arg-type]


def test_a_reject_drops_nothing() -> None:
    """It is counted by its code, so it must not be counted a second time by a field."""
    assert examine(record(ping_json(lat=91, speed_mps=-1)))[1] == ()


# -- required fields --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "key"), [(5007, b"5007"), (0, b"0"), (-7, b"-7"), (10**127, b"1" + b"0" * 127)])
def test_an_entity_id_that_is_an_integer_stands_for_its_digits(number: int, key: bytes) -> None:
    found = parse(record(ping_json(entity_id=number), key=key))
    assert isinstance(found, Ping)
    assert found.entity_id.encode() == key


@pytest.mark.parametrize("key", [b"5007.0", b"05007", b"\0\0\x13\7", b"", None])
def test_the_key_of_an_integer_is_its_digits_and_nothing_else(key: bytes | None) -> None:
    assert code(ping_json(entity_id=5007), key=key) == "key_mismatch"


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
        (with_raw(r'"entity_id": "\ud800"'), "invalid_utf8"),
        (ping_json(entity_id=7.0), "wrong_type"),
        (ping_json(entity_id=True), "wrong_type"),
        (ping_json(entity_id=[7]), "wrong_type"),
        (with_raw('"entity_id": ' + "9" * 4_300), "bad_entity_id"),
        (with_raw('"entity_id": ' + "9" * 4_301), "not_finite"),
        (with_raw('"entity_id": [' + "9" * 4_301 + "]"), "wrong_type"),
        (with_raw('"lat": [' + "9" * 4_300 + "]"), "wrong_type"),
        (ping_json(lat=True), "wrong_type"),
        (ping_json(ts=False), "wrong_type"),
        (ping_json(lat="30.25"), "wrong_type"),
        (ping_json(lon=[1]), "wrong_type"),
        (ping_json(ts={}), "wrong_type"),
        (ping_json(lat=float("nan")), "not_finite"),
        (with_raw('"lat": ' + "9" * 400), "not_finite"),
        (with_raw('"ts": ' + "9" * 5_000), "not_finite"),
        (ping_json(lon=float("-inf")), "not_finite"),
        (ping_json(ts=float("inf")), "not_finite"),
        (ping_json(entity_id=""), "bad_entity_id"),
        (ping_json(entity_id="x" * 129), "bad_entity_id"),
        *((ping_json(entity_id=f"a{control}b"), "bad_entity_id") for control in CONTROLS),
        (ping_json(ts="yesterday"), "bad_timestamp"),
        (ping_json(ts="2023-11-14T22:13:20"), "bad_timestamp"),
        (ping_json(ts=""), "bad_timestamp"),
        (ping_json(ts=" 1700000000000"), "bad_timestamp"),
        (ping_json(ts="1_700_000_000_000"), "bad_timestamp"),
        (ping_json(ts="17e11"), "bad_timestamp"),
        (ping_json(ts="١٧٠٠٠٠٠٠٠٠٠٠٠"), "bad_timestamp"),
        (ping_json(ts="9" * 30), "bad_timestamp"),
        (ping_json(ts="9" * 19), "ts_in_future"),
        (ping_json(ts="-5"), "ts_too_old"),
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
        (ping_json(valid=False), "marked_invalid"),
        (ping_json(valid=0), "marked_invalid"),
        (ping_json(valid="false"), "marked_invalid"),
        (ping_json(valid=False, speed_mps=-1), "marked_invalid"),
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


@pytest.mark.parametrize(
    ("value", "setting"),
    [
        (b"x" * (MAX_RECORD_BYTES + 1), f"MAX_RECORD_BYTES in stream/wire/record.py is {MAX_RECORD_BYTES}"),
        (b"[" * (MAX_NESTING + 1), f"MAX_NESTING in stream/wire/ping_rules.py, which is {MAX_NESTING}"),
        (ping_json(entity_id="x" * 129), f"1..{MAX_ENTITY_ID_CHARS} (MAX_ENTITY_ID_CHARS in stream/wire/record.py)"),
        (
            ping_json(ts=TS + MAX_AHEAD_MS + 1),
            f"at most {MAX_AHEAD_MS} ms ahead are taken (MAX_AHEAD_MS in stream/wire/ping_rules.py",
        ),
        (ping_json(ts=10**17), "MAX_TS_MS in stream/wire/messages.py"),
        (ping_json(ts=0), "MIN_TS_MS in stream/wire/messages.py"),
    ],
)
def test_the_message_of_a_limit_names_the_setting(value: bytes, setting: str) -> None:
    found = parse(record(value))
    assert isinstance(found, Reject)
    assert setting in found.message


def test_the_clock_is_the_record_itself() -> None:
    """A replay years later must decide as the first pass did, so nothing here may read the wall clock."""
    assert code(ping_json(), timestamp_ms=TS - MAX_AHEAD_MS - 1) == "ts_in_future"
    assert isinstance(parse(record(ping_json(), timestamp_ms=TS - MAX_AHEAD_MS)), Ping)
    assert isinstance(parse(record(ping_json(), timestamp_ms=-1)), Ping), "a record without a timestamp has no clock"
