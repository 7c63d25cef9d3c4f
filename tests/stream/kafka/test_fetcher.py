"""Header names that are not UTF-8, and batches that unfold without end: one of them, and a partition stood still."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.record import default_records
from aiokafka.record._crecords import default_records as compiled_records
from aiokafka.record.memory_records import MemoryRecords
from fetch_rig import batch, signed

from stream.commands.dlq.dead_letters import letter_of
from stream.kafka.fetcher import TolerantRecords
from stream.kafka.records import decompression, record_batches
from stream.tracks.clean import parse
from stream.wire import Record, Reject, dead_letter

HOSTILE = b"\xff\xc3(\x00"


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


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker has it, until the test ends."""
    for module in (default_records, compiled_records):
        for name in ("gzip_decode", "snappy_decode", "lz4_decode", "zstd_decode"):
            monkeypatch.setattr(module, name, getattr(module, name))  # what `bound` changes is put back
    decompression.bound()


def rejected(raw: bytes) -> tuple[list[int], str]:
    """The offsets of a batch that is no pings, all of it, and the one reason; its letters say that nothing was kept."""
    found = [*TolerantRecords(raw).next_batch()]  # type: ignore[misc]
    records = [Record("pings", 0, r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in found]
    (reject,) = {parse(record) for record in records}
    assert isinstance(reject, Reject)
    assert reject.code == "unreadable"
    for record in records:
        made = dead_letter("dlq", record, reject, version="1")
        letter = letter_of(Record("dlq", 0, 0, 0, made.key, made.value, made.headers))
        assert letter is not None
        assert (letter.source.offset, letter.whole) == (record.offset, False)
    return [record.offset for record in records], reject.message


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("compression", range(1, 5))
def test_a_batch_that_unfolds_to_too_much_is_as_many_dead_letters(
    compression: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decompression, "MOST_BYTES", 40)  # less than three records have, and more than one has
    monkeypatch.setattr(decompression, "_ROOM", decompression._Room())
    offsets, why = rejected(batch(5, 3, compression))
    assert offsets == [5, 6, 7]
    assert "it unfolds to more than 40 bytes" in why


@pytest.mark.parametrize("at", [17, 20, 21, 60, 61, -1])
def test_a_wrong_checksum_is_noticed(at: int) -> None:
    raw = bytearray(batch(5, 3) + batch(8, 2))
    raw[at] ^= 1
    records = TolerantRecords(bytes(raw))
    assert [records.next_batch().validate_crc() for _ in range(2)] == [at < 0, at >= 0]


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("compression", range(5))
def test_so_is_a_batch_that_is_damaged_under_a_right_checksum(compression: int) -> None:
    raw = bytearray(batch(5, 3, compression))
    raw[70:] = bytes(255 - byte for byte in raw[70:])
    offsets, why = rejected(signed(raw))
    assert offsets == [5, 6, 7]
    assert ("compressed bytes are damaged" in why) == (compression > 0)


def test_a_batch_of_too_many_records_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_batches, "MOST_RECORDS", 2)
    offsets, why = rejected(batch(5, 3))
    assert offsets == [5, 6, 7]
    assert "it has 3 records" in why
    assert [record.value for record in TolerantRecords(batch(8, 2)).next_batch()] == [None, b"v1"]  # type: ignore[union-attr]
