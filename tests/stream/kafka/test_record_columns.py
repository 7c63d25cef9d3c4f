"""Records in columns are the records that they were made of, whoever framed them; damaged bytes are no records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.records.record_columns import Head, Records, headers_as_read, headers_as_sent, varint
from stream.wire import MAX_TS_MS, NO_TIME_MS, Record

T0 = 1_700_000_000_000
P0, P1 = ("pings", 0), ("pings", 1)
HEAD_BYTES = 61

texts = st.none() | st.binary(max_size=70) | st.integers(0, 9_000).map(lambda size: b"v" * size)
headers = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3).map(tuple)
rows = st.lists(st.tuples(st.integers(-(10**7), 10**7), texts, texts, headers), max_size=40)


def records_of(of: list[Any], partition: tuple[str, int] = P0, first: int = 5) -> list[Record]:
    return [
        Record(*partition, first + n, T0 + later, key, value, more) for n, (later, key, value, more) in enumerate(of)
    ]


def framed(of: list[Record]) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 30)
    for n, one in enumerate(of):
        assert builder.append(n, one.timestamp_ms, one.key, one.value, list(one.headers)) is not None
    return bytes(builder.build()[HEAD_BYTES:])


def unframed(raw: bytes, of: list[Record], logged_ms: int | None = None) -> Records | None:
    first_ms = of[0].timestamp_ms if of else 0
    head = Head(0, len(raw), 5, len(of), len(of) - 1, first_ms, logged_ms or 0, logged_ms is not None)
    records, batches = Records.decode(np.frombuffer(raw, np.uint8), P0, np.array([head], np.int64))
    return records if batches else None


@given(rows)
def test_what_aiokafka_frames_is_read_back(of: list[Any]) -> None:
    made = records_of(of)
    found = unframed(framed(made), made)
    assert found is not None
    assert list(found) == [found[row] for row in range(len(made))] == made
    logged = unframed(framed(made), made, T0)
    assert logged is not None
    assert list(logged) == [one._replace(timestamp_ms=T0) for one in made], "a topic may stamp them when they come"


@given(rows.filter(bool), st.data())
def test_damaged_bytes_are_no_records_or_lie_within_what_came(of: list[Any], data: st.DataObject) -> None:
    made = records_of(of)
    raw = bytearray(framed(made))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([bytes(raw), bytes(raw[:-1]), bytes(raw) + b"\x00", bytes(raw[: len(raw) // 2])]))
    found = unframed(cut, made)
    if found is not None:
        for column in (found.keys, found.values, found.headers):
            assert ((column.start >= 0) & (column.end <= len(cut)) & (column.end >= column.start - 1)).all()
        assert len(list(found)) == len(made)


@pytest.mark.parametrize(
    "damage", ["one too few", "one too many", "a byte behind", "cut", "a length beyond all", "none"]
)
def test_what_is_not_that_many_records_to_the_last_byte_is_refused(damage: str) -> None:
    made = records_of([(0, b"bus", b"{}", (("trace", b"1"),))] * 3)
    raw = framed(made)
    refused = {
        "one too few": unframed(raw, made[:2]),
        "one too many": unframed(raw, [*made, made[0]]),
        "a byte behind": unframed(raw + b"\x00", made),
        "cut": unframed(raw[:-1], made),
        "a length beyond all": unframed(b"\xff" * 10 + raw, made),
        "none": unframed(b"", made),
    }
    assert refused[damage] is None


@given(rows, rows)
def test_columns_are_made_of_records_and_joined_in_order(ones: list[Any], others: list[Any]) -> None:
    one, other = records_of(ones), records_of(others, P1)
    mixed = Records.of([*one, *other, *one])
    assert list(mixed) == [*one, *other, *one]
    joined = Records.join([Records.of(one), Records.of(other), Records.of(one)])
    assert list(joined) == list(mixed)
    assert [joined.partitions[which] for which in joined.which] == [(r.topic, r.partition) for r in mixed]
    assert Records.of(joined) is joined
    assert list(Records.join([])) == []


def test_a_part_is_known_by_offsets_rows_or_place() -> None:
    records = Records.of(records_of([(0, b"%d" % n, None, ()) for n in range(4)]))  # offsets 5 to 8
    assert [one.offset for one in records.since(7)] == [7, 8]
    assert records.since(0) is records
    assert not records.since(9)
    assert [one.offset for one in records.before(7)] == [5, 6]
    assert records.before(9) is records
    assert not records.before(5)
    assert [one.offset for one in records[1:3]] == [6, 7]
    assert [one.offset for one in records.at(np.array([3, 0]))] == [8, 5]
    assert (records[-1].offset, records[0].key, records[0].value) == (8, b"0", None)


@pytest.mark.parametrize("ms", [-1, -(2**63), MAX_TS_MS + 1, 2**62, 2**63 - 1])
def test_a_timestamp_that_is_no_time_is_none_however_the_records_are_made(ms: int) -> None:
    made = [Record(*P0, 5, ms, b"bus", b"{}"), Record(*P0, 6, ms, b"bus", b"{}")]
    times = [one._replace(timestamp_ms=known) for one, known in zip(made, [0, MAX_TS_MS], strict=True)]
    for records in (Records.of(made), unframed(framed(made), made), unframed(framed(times), times, ms)):
        assert records is not None
        assert [one.timestamp_ms for one in records] == [NO_TIME_MS, NO_TIME_MS]
    for records in (Records.of(times), unframed(framed(times), times)):
        assert list(records or []) == times


def test_a_timestamp_that_is_no_int64_is_none() -> None:
    """aiokafka's Python code, which reads what its other code cannot, adds without wrapping; numpy would raise, and the
    partition be stuck."""
    assert Records.of([Record(*P0, 0, 2**63, b"bus", None)])[0].timestamp_ms == NO_TIME_MS


@given(headers)
def test_headers_are_read_as_they_were_sent(of: tuple[tuple[str, bytes], ...]) -> None:
    assert headers_as_read(headers_as_sent(of)) == of


def test_a_name_that_is_no_utf_8_is_read_leniently() -> None:
    assert headers_as_read(b"\x02\x04\xffa\x02x") == ((r"\xffa", b"x"),)


@pytest.mark.parametrize(("number", "sent"), [(0, b"\0"), (-1, b"\1"), (1, b"\2"), (64, b"\x80\1"), (-65, b"\x81\1")])
def test_a_varint_is_zigzag(number: int, sent: bytes) -> None:
    assert varint(number) == sent
