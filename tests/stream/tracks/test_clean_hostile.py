"""Records as an enemy would write them, and what fuzzing (fuzz_clean.py) has found: all within what is promised."""

from __future__ import annotations

import json

import fuzz_clean
import fuzzing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.tracks.clean import _TOKEN, parse
from stream.wire import MAX_ATTRS, MAX_RECORD_BYTES, Ping, Record, Reject, dumps
from stream.wire.ping_rules import event_time_ms

TS = 1_700_000_000_000
CHECK = fuzz_clean.checker()


def test_every_input_that_fuzzing_kept_is_within_what_is_promised() -> None:
    kept = fuzzing.seeds(fuzz_clean.CORPUS)
    assert len(kept) > 50, "the corpus is gone"
    for data in kept:
        CHECK(data)


# -- JSON that is nearly a ping ---------------------------------------------------------------------------------------

FIELDS = st.sampled_from([*Ping.__struct_fields__, "colour", "", "\\u0065ntity_id", "ts\\u0000", "\\ud800"])
NUMBERS = ["-0", "00", "01", "1.", ".5", "+1", "0x10", "1e5", "1E400", "-1e308", "1e-400", "1_000", "9" * 400, "NaN"]
NUMBERS += ["-Infinity", "9007199254740993", "18446744073709551616", "-9223372036854775809", "1700000000000.5", "1e11"]
TEXTS = ['""', '"bus-1"', '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\x00"', '"\x7f"', '"a\u2028b"', '"\u0122"']
TEXTS += ['"' + "x" * 300 + '"', '"2023-11-14T22:13:20Z"', '"2023-11-14T22:13:60+25:00"', '"0000-00-00T00:00:00Z"']
OTHERS = [
    "null",
    "true",
    "nul",
    "{}",
    "[]",
    "[[]]",
    '{"a":1,"a":2}',
    "[" * 70 + "]" * 70,
    '{"a":' * 63 + "1" + "}" * 63,
]
values = st.sampled_from([*NUMBERS, *TEXTS, *OTHERS]) | st.floats().map(repr) | st.integers().map(str)
pairs = st.tuples(FIELDS, values).map(lambda pair: f'"{pair[0]}":{pair[1]}')
GOOD = ['"entity_id":"bus-1"', f'"ts":{TS}', '"lat":30.25', '"lon":-97.75']


@given(
    st.lists(pairs, max_size=6),
    st.booleans(),
    st.sampled_from(["", "", "", "\ufeff", "\x00", " \n\t", "\u00a0"]),
    st.sampled_from(["", "", "", "}", "\x00", "{}", ",", "\ufeff"]),
    st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16-le", "utf-16", "utf-32-be", "latin-1"]),
)
def test_json_that_is_nearly_a_ping_is_one_or_a_reject(
    hostile: list[str], before: bool, prefix: str, suffix: str, encoding: str
) -> None:
    """Duplicate names, numbers of other languages, lone surrogates, NULs, byte order marks, other encodings."""
    inside = ",".join([*hostile, *GOOD] if before else [*GOOD, *hostile])
    CHECK(f"{prefix}{{{inside}}}{suffix}".encode(encoding, "replace"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from([*Ping.__struct_fields__, "colour"])


@given(
    st.dictionaries(names, json_values), st.none() | st.binary(max_size=8), st.binary(max_size=200), st.integers(0, 200)
)
def test_any_json_object_and_any_bytes_are_a_ping_or_a_reject(
    changes: dict[str, object], key: bytes | None, junk: bytes, cut: int
) -> None:
    value = json.dumps({"entity_id": "bus-1", "ts": TS, "lat": 30.25, "lon": -97.75, **changes}).encode()
    for sent in (value, junk, value[:cut] + junk, value[:cut] + junk + value[cut:]):
        CHECK(sent if key is None else key + fuzz_clean.KEY_ENDS + sent)


texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=256)
attrs = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=MAX_ATTRS,
)


def optional(low: float, high: float) -> st.SearchStrategy[float | None]:
    return st.none() | st.floats(low, high)


@given(
    st.builds(
        Ping,
        entity_id=st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=128),
        ts=st.integers(946_684_800_000, TS),
        lat=st.floats(-90, 90),
        lon=st.floats(-180, 180).filter(bool),
        alt_m=optional(-12_000, 100_000),
        speed_mps=optional(0, 1_000),
        heading_deg=st.none() | st.floats(0, 360, exclude_max=True),
        accuracy_m=optional(0, 10_000_000),
        hdop=optional(0, 1_000),
        sats=st.none() | st.integers(0, 1_000),
        valid=st.none() | st.just(True),
        received_ts=st.none() | st.integers(946_684_800_000, 4_102_444_800_000),
        trip_id=texts,
        category=texts,
        source=texts,
        attrs=st.none() | attrs,
    )
)
def test_every_ping_is_read_as_it_was_written(ping: Ping) -> None:
    raw = dumps(ping)
    assert len(raw) <= MAX_RECORD_BYTES
    assert parse(Record("p", 0, 7, TS, ping.entity_id.encode(), raw)) == ping


@given(st.floats() | st.integers() | st.text(st.characters()) | st.booleans() | st.none())
def test_any_time_has_milliseconds_or_none(ts: object) -> None:
    """Files are put in order by it, rows that are no pings included."""
    found = event_time_ms(ts)
    assert found is None or type(found) is int


# -- what was found ---------------------------------------------------------------------------------------------------


def refused(value: bytes, key: bytes = b"bus-1") -> str:
    found = parse(Record("p", 0, 7, TS, key, value))
    assert isinstance(found, Reject)
    return found.code


def test_a_string_without_an_end_is_read_once() -> None:
    """65 brackets and one quote before 32,000 escaped ones took 17 s: the search for the string's end began again at
    every quote in it. One such record in a thousand stops a partition, so this is counted, not timed."""
    unclosed = b'"' + b'\\"' * 30_000
    assert [token.span() for token in _TOKEN.finditer(unclosed)] == [(0, len(unclosed))]
    assert refused(b"[" * 65 + unclosed) == "too_deep"
    assert refused(b"[" * 64 + unclosed) == "invalid_json"


@pytest.mark.parametrize("depth", [100, 500, 900, 5_000])
def test_depth_that_only_another_encoding_has_is_no_recursion(depth: int) -> None:
    """`json` guesses the encoding of bytes. In UTF-16 a letter may hold the byte of a quote, which hides all brackets
    behind it from whoever counts bytes: 600 of them raised RecursionError out of `parse`, and ended the worker."""
    value = ('{"\u0122":' + "[" * depth + '"x"' + "]" * depth + "}").encode("utf-16-le")
    assert refused(value) == "invalid_json"


@pytest.mark.parametrize("ts", ["-1e306", "-1.7976931348623157e308"])
def test_a_time_that_is_infinite_in_milliseconds_is_too_old(ts: str) -> None:
    """Negative seconds were multiplied by 1000 however many they were, and round(-inf) raises OverflowError."""
    assert refused(b'{"entity_id":"bus-1","ts":%s,"lat":30.25,"lon":-97.75}' % ts.encode()) == "ts_too_old"
    assert event_time_ms(float(ts)) is not None


def test_a_lone_surrogate_is_no_time() -> None:
    """Found by fuzzing: one row of a file ended `pathcast feed` with UnicodeEncodeError."""
    assert event_time_ms("\ud800") is None


def test_a_message_stays_short_whatever_it_escapes() -> None:
    """Found by fuzzing: 60 characters that are written as ten each made headers of 1,300 bytes."""
    key = ("\U0001f68c" * 100).encode()
    found = parse(Record("p", 0, 7, TS, key, dumps(Ping(entity_id="bus-1", ts=TS, lat=30.25, lon=-97.75))))
    assert isinstance(found, Reject)
    assert (found.code, len(found.message) < 250) == ("key_mismatch", True)
