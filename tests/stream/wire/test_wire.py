"""What is published: bytes that come back as they were, and dead letters of any record at all."""

from __future__ import annotations

import string
from collections.abc import Callable
from hashlib import blake2b
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.commands.dlq.dead_letters import letter_of
from stream.ingest.traccar_back import newest_of
from stream.wire import (
    CODES,
    ERROR_HEADER_PREFIX,
    MAX_CONTEXT_BYTES,
    MAX_DEAD_LETTER_BYTES,
    Forecast,
    GapFill,
    Outgoing,
    Record,
    Reject,
    dead_letter,
    dumps,
    ids,
    loads_forecast,
    loads_gapfill,
    loads_version,
    loads_weights,
)
from stream.wire.arrivals import loads_arrival, loads_destination
from stream.wire.latest import loads_latest
from stream.wire.scores import loads_scored

LOADS = (
    *(loads_forecast, loads_gapfill, loads_latest, loads_scored, loads_arrival, loads_destination, loads_version),
    loads_weights,
)
TOPIC = "pathcast.pings.v1.dlq"
REJECT = Reject("invalid_json", "not JSON")

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
header_names = names | st.sampled_from([ERROR_HEADER_PREFIX + name for name in ("topic", "offset", "code", "omitted")])
records = st.builds(
    Record,
    st.text(string.ascii_letters, min_size=1, max_size=249),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(-1, 2**53),
    st.none() | st.binary(max_size=200),
    st.none() | st.binary(max_size=200),
    st.lists(st.tuples(header_names, st.none() | st.binary(max_size=50)), max_size=6).map(tuple),
)


def published_bytes(letter: Outgoing) -> int:
    """Of a batch of this record alone, which is what the topic's limit is about."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 0)
    assert builder.append(0, 0, letter.key, letter.value, list(letter.headers)) is not None
    return len(builder.build())


@given(records, st.sampled_from(sorted(CODES)), st.text(max_size=240).map(repr))
def test_a_dead_letter_is_the_record_as_it_came_and_names_its_source(record: Record, code: str, message: str) -> None:
    letter = dead_letter(TOPIC, record, Reject(code, message), version="0.1.0")
    assert (letter.key, letter.value) == (record.key, record.value)
    assert letter.headers[: len(record.headers)] == record.headers
    assert published_bytes(letter) - published_bytes(letter._replace(headers=record.headers)) < MAX_CONTEXT_BYTES
    found = letter_of(Record(TOPIC, 0, 5, 0, letter.key, letter.value, letter.headers))
    assert found is not None
    assert (found.source, found.code, found.message) == (record[:3], code, message)
    assert found.whole or (record.key, record.value) == (None, None)


@pytest.mark.parametrize("excess", [-1, 0, 1, 5_000_000])
@pytest.mark.parametrize("part", ["key", "value", "header", "headers"])
def test_a_letter_of_any_size_fits_into_its_topic(excess: int, part: str) -> None:
    """A batch that came compressed may unfold to any size; what the topic refuses would stop the worker for ever."""
    size = MAX_DEAD_LETTER_BYTES - MAX_CONTEXT_BYTES + excess
    record = Record("pathcast.pings.v1", 3, 17, 0, b"bus-1", b"{}")
    parts = {
        "key": {"key": bytes(size - 2)},
        "value": {"value": bytes(size - 5)},
        "header": {"headers": (("h", bytes(size - 7 - 14)),)},
        "headers": {"headers": (("ß" * 5, bytes(70)),) * (size // 100 + 1)},
    }
    record = record._replace(**parts[part])  # type: ignore[arg-type]
    letter = dead_letter(TOPIC, record, REJECT, version="0.1.0")
    assert published_bytes(letter) <= MAX_DEAD_LETTER_BYTES
    found = letter_of(Record(TOPIC, 0, 5, 0, letter.key, letter.value, letter.headers))
    assert found is not None
    assert found.source == ("pathcast.pings.v1", 3, 17)
    assert found.whole == (letter.value is not None)
    if part != "headers":
        assert found.whole == (excess <= 0)


@pytest.mark.parametrize("number", ["", "-1", "x", "９" * 3, "9" * 5_000])
def test_a_letter_whose_numbers_are_none_is_no_letter(number: str) -> None:
    good = dead_letter(TOPIC, Record("p", 0, 1, 0, None, b""), REJECT, version="1")
    headers = tuple((n, number.encode() if n.endswith("offset") else v) for n, v in good.headers)
    assert letter_of(Record(TOPIC, 0, 5, 0, None, b"", headers)) is None


def of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, in numbers and texts that JSON holds."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        hints = get_type_hints(hint)
        return st.builds(hint, **{field.name: of(hints[field.name]) for field in msgspec.structs.fields(hint)})
    if get_origin(hint) is tuple:
        first, *rest = get_args(hint)
        return st.lists(of(first), max_size=3).map(tuple) if rest == [...] else st.tuples(*map(of, get_args(hint)))
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is UnionType:
        return st.one_of(*map(of, get_args(hint)))
    if hint is type(None):
        return st.none()
    return VALUES[hint]


VALUES: dict[Any, st.SearchStrategy[Any]] = {
    **{bool: st.booleans(), int: st.integers(-(2**63), 2**63 - 1), str: names},
    float: st.floats(allow_nan=False, allow_infinity=False),
}


@settings(max_examples=50)
@given(of(Forecast), of(GapFill))
def test_a_forecast_and_a_gap_fill_come_back_as_they_were(forecast: Forecast, fill: GapFill) -> None:
    assert loads_forecast(dumps(forecast)) == forecast
    assert loads_gapfill(dumps(fill)) == fill


@given(st.binary(max_size=100), st.integers(0, 400))
def test_what_is_no_forecast_is_a_decode_error(junk: bytes, cut: int) -> None:
    good = dumps(msgspec.convert(EXAMPLE, Forecast))
    for raw in (junk, good[:cut] + junk + good[cut:], good[:cut] + junk):
        try:
            found = loads_forecast(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        assert loads_forecast(dumps(found)) == found


EXAMPLE = {
    **{"forecast_id": "0f", "entity_id": "bus-1", "anchor": {"ts": 1, "lat": 30.0, "lon": -97.0}},
    "next": {"dt_s": 9.5, "d_east_m": 1.0, "d_north_m": 2.0, "d_lat": 0.0, "d_lon": 0.0, "cov_m2": [1.0, 0.0, 1.0]},
    "horizons": [{"h_s": 60.0, "lat": 30.0, "lon": -97.0, "cov_m2": [1.0, 0.0, 1.0]}],
    **{"model": {"name": "small", "version": "ab"}, "status": "ok", "window": {"n": 1, "from_ts": 1, "to_ts": 1}},
    **{"cache": "hit", "latency_ms": {"ingest": 1.0, "queue": 1.0, "infer": 1.0}},
    "src": {"topic": "t", "partition": 0, "offset": 0},
}


def test_a_forecast_says_which_atlas_it_asked_and_nothing_where_none_serve() -> None:
    plain = dumps(msgspec.convert(EXAMPLE, Forecast))
    assert b"atlas" not in plain
    asked = {**EXAMPLE, "atlas": {"version": None, "pings": 0, "late": False}}
    said = b',"atlas":{"version":null,"pings":0,"late":false}'
    model = b'"model":{"name":"small","version":"ab"}'
    assert dumps(msgspec.convert(asked, Forecast)) == plain.replace(model, model + said)


def test_ids_do_not_run_into_each_other() -> None:
    assert len({ids.forecast_id("a", 1, "b"), ids.forecast_id("a", 1, "b", "c"), ids.forecast_id("a", 1, "bc")}) == 3
    assert len({ids.forecast_id("a", 11, "b"), ids.forecast_id("a1", 1, "b"), ids.forecast_id("a", 1, "1b")}) == 3
    assert ids.gap_id("bus-1", 1) == ids.gap_id("bus-1", 1) != ids.gap_id("bus-1", 2)


def test_an_id_is_the_same_in_every_release() -> None:
    """Consumers drop duplicates by it, also those that two releases published. These are what `b2sum -l 128` prints."""
    assert ids.forecast_id("bus-1", 1_700_000_000_000, "ab") == "bac4a7ceb0b264555536b1ed82da0024"
    assert ids.gap_id("bus-1", 1_700_000_000_000) == "8c69fe13864a06fae7f7fa36cc687ae8"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"kind":"destination","x":' + b"[" * 100_000,
        b'{"x":' * 100_000,
        b'{"kind":"reached","entity_id":"\xff\xff"',
        b'{"kind":"\xff"}',
        b'{"entity_id":"\\ud800"}',
        b'{"issued_ts":1e400}',
        b'{"anchor":{"ts":NaN}}',
        b"",
    ],
    ids=["list", "object", "not UTF-8", "kind", "surrogate", "beyond floats", "no number", "empty"],
)
@pytest.mark.parametrize("loads", LOADS)
def test_whatever_lies_in_a_topic_its_reader_gets_one_kind_of_error(
    loads: Callable[[bytes], object], raw: bytes
) -> None:
    """RecursionError is no ValueError, and one nested record ended `arrivals` and `scores` at each start."""
    with pytest.raises(msgspec.DecodeError):
        loads(raw)


def test_what_goes_back_to_traccar_leaves_out_what_is_no_forecast() -> None:
    """Its offset is committed after the batch, so that one such record ended `ingest traccar` at each start."""
    good = dumps(msgspec.convert(EXAMPLE, Forecast))
    values = {b"a": good, b"b": b"{}", b"c": b'{"x":' * 100_000, b"d": b"\xff", b"e": None}
    records = [Record("pathcast.forecasts.v1", 0, 0, 5, key, value) for key, value in values.items()]
    assert [dumps(one) for one in newest_of(records, since_ms=0)] == [good]


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_ids_of_many_texts_are_those_of_each(texts: list[bytes]) -> None:
    each = [blake2b(text, digest_size=16).hexdigest().encode() for text in texts]
    assert ids.digests(texts) == b"".join(each)
    assert {len(one) for one in each} <= {ids.ID_CHARS}
