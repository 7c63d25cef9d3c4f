"""What is read compiled is what `clean.examine` makes of the same bytes; and the usual spellings are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import fuzz_clean
import fuzzing
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream.tracks.clean import examine
from stream.tracks.clean_compiled import FIELDS, read
from stream.tracks.fix import pack_many
from stream.tracks.json_values import _decimal
from stream.wire import MAX_RECORD_BYTES, MAX_TS_MS, MIN_TS_MS, Ping, Record, dumps
from stream.wire.ping_rules import MAX_AHEAD_MS

TS = 1_700_000_000_000
KEY = b"bus-1"
Pair = tuple[bytes | None, bytes | None]  # key, value


def read_all(pairs: Sequence[Pair], timestamp_ms: int = TS) -> tuple[NDArray[Any], list[bool], list[list[str]]]:
    """Spans from the back of the bytes to the front: nothing may hang on their order, or on what lies around them."""
    raw, spans = b"9", np.zeros((len(pairs), 2, 2), np.int64)
    for i, pair in reversed(list(enumerate(pairs))):
        for which, text in enumerate(pair):
            spans[i, which] = (7, 6) if text is None else (len(raw), len(raw) + len(text))
            raw += (text or b"") + b'9"}'
    times = np.full(len(pairs), timestamp_ms, np.int64)
    spans = np.ascontiguousarray(spans.transpose(1, 2, 0))
    fixes, done, dropped = read(np.frombuffer(raw, np.uint8), *spans[1], *spans[0], times)
    return fixes, done.tolist(), [[name for bit, name in enumerate(FIELDS) if of >> bit & 1] for of in dropped.tolist()]


def is_read(value: bytes | str | None, key: bytes | None = KEY, timestamp_ms: int = TS) -> bool:
    """Whether it is; and what is, must be what `parse` makes of it."""
    value = value.encode() if isinstance(value, str) else value
    fixes, (done,), (dropped,) = read_all([(key, value)], timestamp_ms)
    if done:
        ping, names = examine(Record("p", 0, 7, timestamp_ms, key, value))
        assert isinstance(ping, Ping), (value, ping)
        assert ping.entity_id.encode() == key
        assert pack_many([ping])[0] == fixes[0], value
        assert sorted(names) == sorted(dropped), value
    return done


# -- whatever comes: read as parse reads it, or left to it ------------------------------------------------------------

NAMES = [*Ping.__struct_fields__, "colour", "", "entity_iD", "tz", "t", "a" * 11, "a" * 12, "a" * 13]
NUMBERS = ["-0", "00", "01", "-01", "-", "1.", ".5", "+1", "0x10", "1e5", "1E+5", "1e", "1e+", "1E400", "1_000", "NaN"]
NUMBERS += ["-Infinity", "9007199254740993", "18446744073709551616", "1" * 19, "9" * 400, "0.1", "-0.0", "360", "360.0"]
NUMBERS += ["359.995", "359.99999", "1000", "1000.0001", "655.345", "-90", "90.00000001", "180", "1.5.5", "5.0", "1-1"]
NUMBERS += [str(TS), f"{TS}.0", f"0{TS}", str(TS // 1000), str(MIN_TS_MS), str(MIN_TS_MS - 1), str(MAX_TS_MS + 1)]
TEXTS = ['""', '"bus-1"', '"bus-2"', '"bus-1', '"bus-1 "', '"\\u0062us-1"', '"\x7f"', '"a\tb"', '"é"', '"}"', '"{["']
TEXTS += [f'"{"x" * n}"' for n in (128, 129, 256, 257)]
OTHERS = ["null", "true", "false", "nul", "nulll", "True", "", "{}", "[]", "[1]", '{"a":1}', "}", ",", "/**/1"]
values = st.sampled_from([*NUMBERS, *TEXTS, *OTHERS]) | st.floats().map(repr) | st.integers().map(str)
pairs = st.tuples(st.sampled_from(NAMES), values).map(lambda pair: f'"{pair[0]}":{pair[1]}')
GOOD = ['"entity_id":"bus-1"', f'"ts":{TS}', '"lat":30.25', '"lon":-97.75']


@given(
    st.lists(pairs, max_size=4),
    st.sets(st.sampled_from(GOOD), max_size=1),
    st.randoms(use_true_random=False),
    st.sampled_from([",", ",", " , ", ",,", ",\n", " "]),
    st.sampled_from(["", "", "", "  ", "\ufeff", "\t", "{"]),
    st.sampled_from(["", "", "", "  ", "}", "{}", ",", "\x00", " 1"]),
)
def test_what_is_nearly_a_ping_is_left_or_read_as_parse_reads_it(
    hostile: list[str], without: set[str], random: Any, comma: str, prefix: str, suffix: str
) -> None:
    members = [*hostile, *(member for member in GOOD if member not in without)]
    random.shuffle(members)
    is_read(f"{prefix}{{{comma.join(members)}}}{suffix}")


@given(st.data())
def test_a_ping_with_any_byte_changed_is_left_or_read_as_parse_reads_it(data: st.DataObject) -> None:
    ping = Ping(entity_id="bus-1", ts=TS, lat=30.25, lon=-97.75, speed_mps=3.5, heading_deg=90.0, sats=7, source="gps")
    raw = bytearray(dumps(ping))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        put = data.draw(st.sampled_from([b"", *(bytes([c]) for c in b'0123456789-+.eE,:{}[]"\\ ntf\x00\x1f\x7f\xc3')]))
        raw[at : at + data.draw(st.integers(0, 2))] = put
    is_read(bytes(raw))


def test_every_input_that_fuzzing_kept_is_left_or_read_as_parse_reads_it() -> None:
    for data in fuzzing.seeds(fuzz_clean.CORPUS):
        key, found, value = data.rpartition(fuzz_clean.KEY_ENDS)
        is_read(value, key if found else KEY)


# -- what is usual: read ----------------------------------------------------------------------------------------------


def decimals(low: int, high: int) -> st.SearchStrategy[float]:
    return st.decimals(low, high, places=7).map(float) | st.floats(low, high).map(lambda x: round(x, 7))


def optional(low: int, high: int, places: int = 2) -> st.SearchStrategy[float | None]:
    return st.none() | st.floats(low, high).map(lambda x: round(x, places))


ascii_texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='\\"'), max_size=128)
pings = st.builds(
    Ping,
    entity_id=ascii_texts.filter(bool),
    ts=st.integers(MIN_TS_MS, TS + MAX_AHEAD_MS),
    lat=decimals(-90, 90).filter(lambda x: x == 0 or abs(x) > 1e-4),  # below, it is written with an exponent
    lon=decimals(-180, 180).filter(lambda x: abs(x) > 1e-4),
    alt_m=optional(-12_000, 100_000),
    speed_mps=optional(0, 1_000),
    heading_deg=optional(0, 360),
    accuracy_m=optional(0, 10_000_000),
    hdop=optional(0, 1_000),
    sats=st.none() | st.integers(0, 1_000),
    valid=st.none() | st.just(True),
    received_ts=st.none() | st.integers(MIN_TS_MS, MAX_TS_MS),
    trip_id=st.none() | ascii_texts,
    category=st.none() | ascii_texts,
    source=st.none() | ascii_texts,
)
unknown = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ascii_texts


@given(pings, unknown)
def test_what_senders_usually_write_is_read(ping: Ping, colour: object) -> None:
    fields = {name: getattr(ping, name) for name in Ping.__struct_fields__}
    key = ping.entity_id.encode()
    given = {name: value for name, value in fields.items() if value is not None}
    for value in (
        dumps(ping),
        json.dumps(given).encode(),
        json.dumps(fields).encode(),  # null where nothing is known
        json.dumps({"colour": colour, **fields, "heading": colour}, separators=(" ,  ", " :")).encode(),
        b"  " + json.dumps(given, sort_keys=True).encode() + b"   ",
    ):
        assert is_read(value, key), value


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(0, 1_000), st.floats(0, 360))
def test_numbers_with_all_their_digits_are_read(lat: float, lon: float, speed: float, heading: float) -> None:
    row = {"entity_id": "bus-1", "ts": TS, "lat": lat, "lon": lon, "speed_mps": speed, "heading_deg": heading}
    short = all(abs(x) >= 0.01 for x in (lat, lon, speed, heading))  # else an exponent, or zeros beyond 19 digits
    assert is_read(json.dumps(row)) or not short


@pytest.mark.parametrize(("name", "low", "high"), [("lat", -90, 90), ("lon", -180, 180), ("heading_deg", 0, 360)])
def test_the_ends_of_a_range_are_in_it(name: str, low: int, high: int) -> None:
    row = {"entity_id": "bus-1", "ts": TS, "lat": 30.25, "lon": -97.75}
    assert is_read(json.dumps(row | {name: low}))
    assert is_read(json.dumps(row | {name: high}))
    assert is_read(json.dumps(row | {name: float(high)}))
    costs_the_ping = name != "heading_deg"
    assert is_read(json.dumps(row | {name: high + 0.001})) != costs_the_ping
    assert is_read(json.dumps(row | {name: low - 0.001})) != costs_the_ping


# -- numbers ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**19 - 1), st.integers(0, 18))
@example(2**53 + 1, 0)
@example(9007199254740993, 3)
def test_a_decimal_is_the_double_that_python_reads(digits: int, places: int) -> None:
    number = float(_decimal(np.uint64(digits), np.uint64(places)))
    assert number == float(f"{digits}e-{places}") or np.isnan(number)


@given(st.floats(0.01, 1e4), st.sampled_from([-1, 0, 1]), st.integers(-3, 3))
def test_decimals_beside_and_halfway_between_doubles_are_rounded_as_python_does(x: float, up: int, by: int) -> None:
    """What random digits hardly ever meet."""
    middle = (Decimal(x) + Decimal(float(np.nextafter(x, np.inf * up)))) / 2 if up else Decimal(x)
    places = 18 - max(middle.adjusted(), 0)
    digits = int(middle.scaleb(places)) + by
    number = float(_decimal(np.uint64(digits), np.uint64(places)))
    assert number == float(f"{digits}e-{places}") or np.isnan(number)


@given(st.integers(-6, 12), st.integers(-40, 40))
def test_decimals_about_powers_of_two_are_rounded_as_python_does(power: int, by: int) -> None:
    places = 18 - max(Decimal(2.0**power).adjusted(), 0)
    digits = int(Decimal(2.0**power).scaleb(places)) + by
    number = float(_decimal(np.uint64(digits), np.uint64(places)))
    assert number == float(f"{digits}e-{places}") or np.isnan(number)


def test_hardly_any_number_is_left_for_its_digits() -> None:
    random = np.random.default_rng(7)
    texts = [repr(float(x)) for x in random.uniform(0.1, 180, 20_000)]
    found = [
        _decimal(np.uint64(int(text.replace(".", ""))), np.uint64(len(text) - text.index(".") - 1)) for text in texts
    ]
    assert [float(text) for text in texts] == found


# -- what is left, a case for each rule -------------------------------------------------------------------------------


def spelt(**members: str | None) -> str:
    """A ping, some of whose members are spelt otherwise; None leaves one out."""
    usual: dict[str, str | None] = {"entity_id": '"bus-1"', "ts": str(TS), "lat": "30.25", "lon": "-97.75"}
    return "{" + ",".join(f'"{name}":{text}' for name, text in (usual | members).items() if text is not None) + "}"


LEFT = {
    "no value": None,
    "an empty value": "",
    "only spaces": "   ",
    "no object": "1",
    "no members": "{}",
    "too large": spelt() + " " * MAX_RECORD_BYTES,
    "not ASCII": spelt(trip_id='"é"'),
    "a control character": spelt(trip_id='"a\x1fb"'),
    "a delete": spelt(trip_id='"a\x7fb"'),
    "a line feed": spelt() + "\n",
    "an escape": spelt(trip_id='"a\\u0062"'),
    "an escaped quote": spelt(trip_id='"a\\"b"'),
    "something behind": spelt() + "1",
    "a brace behind": spelt() + "}",
    "no brace": spelt()[:-1],
    "a comma behind": spelt()[:-1] + ",}",
    "no comma": spelt().replace(",", " ", 1),
    "no colon": spelt().replace(":", " ", 1),
    "a name without quotes": spelt().replace('"ts"', "ts"),
    "a string without an end": spelt(trip_id='"abc'),
    "a field twice": spelt()[:-1] + ',"lat":30.25}',
    "a field twice, null": spelt()[:-1] + ',"sats":null,"sats":null}',
    "no entity_id": spelt(entity_id=None),
    "no ts": spelt(ts=None),
    "no lat": spelt(lat=None),
    "no lon": spelt(lon=None),
    "an entity_id of null": spelt(entity_id="null"),
    "an entity_id that is another number": spelt(entity_id="1"),
    "an entity_id that is a fraction": spelt(entity_id="1.0"),
    "another entity_id": spelt(entity_id='"bus-2"'),
    "a longer entity_id": spelt(entity_id='"bus-11"'),
    "seconds": spelt(ts=str(TS // 1000)),
    "a ts with a fraction": spelt(ts=f"{TS}.0"),
    "a ts with an exponent": spelt(ts="17e11"),
    "a ts that is text": spelt(ts=f'"{TS}"'),
    "a ts of null": spelt(ts="null"),
    "a ts with a zero before": spelt(ts=f"0{TS}"),
    "a negative ts": spelt(ts=f"-{TS}"),
    "a ts of the past": spelt(ts=str(MIN_TS_MS - 1)),
    "a ts of the future": spelt(ts=str(TS + MAX_AHEAD_MS + 1)),
    "a ts of 19 digits": spelt(ts=f"{TS}000000"),
    "a ts of 30 digits": spelt(ts="1" * 30),
    "a lat with an exponent": spelt(lat="3e1"),
    "a lat with a plus": spelt(lat="+30"),
    "a lat with a zero before": spelt(lat="030"),
    "a lat with a minus and a zero before": spelt(lat="-030"),
    "a lat without digits before the point": spelt(lat=".5"),
    "a lat without digits behind the point": spelt(lat="30."),
    "a lat that is a minus": spelt(lat="-"),
    "a lat with two points": spelt(lat="30.2.5"),
    "a lat that is text": spelt(lat='"30.25"'),
    "a lat of null": spelt(lat="null"),
    "a lat of 20 digits": spelt(lat="30.250000000000000001"),
    "a lat out of range": spelt(lat="90.0000001"),
    "a lon out of range": spelt(lon="-180.0000001"),
    "null island": spelt(lat="0", lon="-0.0"),
    "a speed that is true": spelt(speed_mps="true"),
    "a speed that is text": spelt(speed_mps='"3"'),
    "a speed with an exponent": spelt(speed_mps="1e4"),
    "a text that is a number": spelt(source="1"),
    "marked invalid": spelt(valid="false"),
    "a valid that is a number": spelt(valid="1"),
    "attrs": spelt(attrs="{}"),
    "attrs that are text": spelt(attrs='""'),
    "an unknown object": spelt(colour="{}"),
    "an unknown array": spelt(colour="[1]"),
    "an unknown number that is none": spelt(colour="01"),
    "an unknown exponent without digits": spelt(colour="1e"),
    "an unknown word": spelt(colour="nul"),
    "an unknown word that goes on": spelt(colour="nulll"),
    "an unknown field without a value": spelt(colour=""),
}


def test_the_cases_below_differ_from_a_ping_that_is_read() -> None:
    assert is_read(spelt())
    assert is_read(spelt(sats="7", valid="true", colour='"}"', attrs="null", received_ts=str(TS)))
    assert is_read(spelt() + " " * (MAX_RECORD_BYTES - len(spelt())))


@pytest.mark.parametrize("case", LEFT)
def test_is_left_to_parse(case: str) -> None:
    assert not is_read(LEFT[case])


DROPPED = {
    "a negative speed": ("speed_mps", "-1"),
    "a speed barely below its range": ("speed_mps", "-0.01"),
    "a speed above its range": ("speed_mps", "1000.5"),
    "a negative heading": ("heading_deg", "-1"),
    "a heading barely above its range": ("heading_deg", "360.001"),
    "an altitude out of range": ("alt_m", "-12001"),
    "an accuracy out of range": ("accuracy_m", "10000001"),
    "a dilution out of range": ("hdop", "1001"),
    "satellites with a fraction": ("sats", "7.5"),
    "satellites with a fraction, out of range": ("sats", "-7.5"),
    "too many satellites": ("sats", "1001"),
    "a received_ts in seconds": ("received_ts", str(TS // 1000)),
    "a received_ts with a fraction": ("received_ts", f"{TS}.5"),
    "too long a text": ("trip_id", f'"{"x" * 257}"'),
}


@pytest.mark.parametrize("case", DROPPED)
def test_a_number_that_an_optional_field_cannot_have_costs_the_field_alone(case: str) -> None:
    """What phones write for unknown is frequent, so it must not leave the fast path."""
    name, text = DROPPED[case]
    value = spelt(**{"speed_mps": "3.5", "heading_deg": "90", name: text})
    assert is_read(value)
    fixes, _, dropped = read_all([(KEY, value.encode())])
    without, *_ = read_all([(KEY, spelt(**{"speed_mps": "3.5", "heading_deg": "90", name: None}).encode())])
    assert dropped == [[name]]
    assert fixes.tolist() == without.tolist()


@pytest.mark.parametrize("sats", ["7.0", "7.000", "-0", "-0.0", "1000.0"])
def test_a_whole_number_may_have_a_fraction_of_zeros(sats: str) -> None:
    assert is_read(spelt(sats=sats))
    assert read_all([(KEY, spelt(sats=sats).encode())])[2] == [[]]


def test_an_entity_id_that_is_a_number_is_its_digits() -> None:
    assert is_read(spelt(entity_id="5007"), b"5007")
    assert not is_read(spelt(entity_id="5007"), b"5007.0")
    assert not is_read(spelt(entity_id="5007"), b"500")
    assert not is_read(spelt(entity_id="5007.0"), b"5007")
    assert not is_read(spelt(entity_id="-5007"), b"5007")


@pytest.mark.parametrize("key", [None, b"", b"bus-", b"bus-2", b"bus-11", b"\xff\xff\xff\xff\xff"])
def test_a_ping_of_another_key_is_left(key: bytes | None) -> None:
    assert not is_read(spelt(), key)


def test_an_entity_id_has_1_to_128_characters() -> None:
    assert not is_read(spelt(entity_id='""'), b"")
    assert is_read(spelt(entity_id=f'"{"x" * 128}"'), b"x" * 128)
    assert not is_read(spelt(entity_id=f'"{"x" * 129}"'), b"x" * 129)


@pytest.mark.parametrize("timestamp_ms", [-1, 0])
def test_a_record_without_a_timestamp_is_held_to_the_absolute_bounds_alone(timestamp_ms: int) -> None:
    assert is_read(spelt(ts=str(MAX_TS_MS)), timestamp_ms=timestamp_ms)
    assert not is_read(spelt(ts=str(MAX_TS_MS + 1)), timestamp_ms=timestamp_ms)
    assert not is_read(spelt(), timestamp_ms=1)
    assert is_read(spelt(), timestamp_ms=TS - MAX_AHEAD_MS)
    assert not is_read(spelt(), timestamp_ms=TS - MAX_AHEAD_MS - 1)
    assert is_read(spelt(), timestamp_ms=2**63 - 1)


# -- many -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([*range(9)]), max_size=40))
def test_many_are_read_as_each_alone(which: list[int]) -> None:
    """What one record leaves behind is not the next one's: its speed, say, or what was dropped from it."""
    kinds: list[Pair] = [
        (KEY, spelt(speed_mps="3.5", heading_deg="90").encode()),
        (KEY, spelt().encode()),
        (KEY, spelt(speed_mps="null", heading_deg="12").encode()),
        (b"bus-2", spelt(entity_id='"bus-2"', lat="1", lon="2").encode()),
        (KEY, spelt(speed_mps="-1", heading_deg="-1", sats="7.5").encode()),
        (None, spelt().encode()),
        (KEY, None),
        (None, None),
        (KEY, spelt(lat="91").encode()),
    ]
    fixes, done, dropped = read_all([kinds[k] for k in which])
    alone = [read_all([kinds[k]]) for k in which]
    assert done == [one for _, [one], _ in alone] == [k < 5 for k in which]
    assert fixes.tolist() == [fixes[0].item() for fixes, *_ in alone]
    assert dropped == [one for *_, [one] in alone]
