"""Header names that are not UTF-8: one record of any producer, and a partition stood still for ever."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from stream.header_names import TolerantRecords

HEADERS = [("trace", b"\x00\xff"), ("AAAA", b"x"), ("null", None), ("", b"")]
HOSTILE = b"\xff\xc3(\x00"


def batch(first: int, count: int, compression: int = 0, *, name: bytes = b"AAAA") -> bytes:
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, -1, 1 << 20)
    for n in range(count):
        assert builder.append(n, 1_700_000_000_000 + n, b"key", b"v%d" % n if n else None, HEADERS) is not None
    raw = bytearray(builder.build())
    if not compression:
        raw = raw.replace(b"AAAA", name)
    raw[:8] = struct.pack(">q", first)
    raw[17:21] = struct.pack(">I", calc_crc32c(raw[21:]))
    return bytes(raw)


def unpacked(records: Any) -> list[tuple[Any, ...]]:
    found = []
    while records.has_next():
        one = records.next_batch()
        assert one.validate_crc()
        found += [(r.offset, r.timestamp, r.timestamp_type, r.key, r.value, tuple(r.headers)) for r in one]
        assert one.next_offset == found[-1][0] + 1
    return found


def test_aiokafka_alone_still_stumbles() -> None:
    """Else this module may go."""
    with pytest.raises(UnicodeDecodeError):
        unpacked(MemoryRecords(batch(0, 2, name=HOSTILE)))


@pytest.mark.parametrize("compression", range(5))
def test_ordinary_batches_are_read_as_aiokafka_reads_them(compression: int) -> None:
    raw = batch(5, 3, compression) + batch(8, 1, compression) + batch(20, 2) + b"\x00" * 7
    records = TolerantRecords(raw)
    assert records.size_in_bytes() == len(raw)
    assert unpacked(records) == unpacked(MemoryRecords(raw))
    assert records.next_batch() is None


def test_one_record_alone_is_read_as_control_batches_are() -> None:
    assert next(TolerantRecords(batch(5, 1)).next_batch()).offset == 5  # type: ignore[arg-type]


def test_a_hostile_name_is_read_and_so_is_what_follows() -> None:
    found = unpacked(TolerantRecords(batch(5, 1) + batch(6, 2, name=HOSTILE) + batch(8, 1)))
    expected = unpacked(MemoryRecords(batch(5, 1) + batch(6, 2) + batch(8, 1)))
    assert [record[:-1] for record in found] == [record[:-1] for record in expected]
    names = [[name for name, _ in record[-1]] for record in found]
    assert names[0] == names[3] == ["trace", "AAAA", "null", ""]
    assert names[1] == names[2] == ["trace", r"\xff\xc3(" + "\x00", "null", ""]
    assert all("".join(each).encode() for each in names), "a dead letter can carry them"
