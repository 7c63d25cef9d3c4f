"""A fetch in columns: the records that aiokafka would have handed over one by one, and the position behind them."""

from __future__ import annotations

import struct

import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from fetch_rig import ASTRAY, T0, TP, batch, fetch, signed, strewn

from stream.kafka import fetcher as fetched
from stream.kafka.fetcher import PartitionRecords, TolerantRecords
from stream.kafka.records import record_batches
from stream.kafka.records.record_columns import Records, varint
from stream.tracks.clean import parse
from stream.wire import Record, Reject


def one_claiming(headers: int) -> bytes:
    """A batch of one record that has none of the headers that it claims."""
    raw = bytearray(batch(5, 1))[:61]
    body = b"\0\0\0" + varint(3) + b"key" + varint(-1) + varint(headers)
    raw += varint(len(body)) + body
    raw[8:12] = struct.pack(">i", len(raw) - 12)
    return signed(raw)


def one_by_one(raw: bytes, start: int = 0) -> list[Record]:
    found = list(fetch(raw, start, columns=False))
    return [Record(*TP, one.offset, one.timestamp, one.key, one.value, one.headers) for one in found]


def taken(records: PartitionRecords, most: int | None = None) -> Records:
    return records.take(most)[0]


@pytest.mark.parametrize("compression", range(5))
@pytest.mark.parametrize("start", [0, 5, 6, 8, 9, 22])
def test_it_has_the_records_of_a_fetch_from_where_it_began(compression: int, start: int) -> None:
    """A broker's answer begins with the batch that has the offset asked for, or the next one that there is."""
    batches = {8: batch(5, 3, compression), 9: batch(8, 1, compression), 24: batch(20, 4)}
    raw = b"".join(one for next_offset, one in batches.items() if next_offset > start) + b"\x00" * 7  # one that is cut
    records = fetch(raw, start)
    found, more = records.take(None)
    assert list(found) == one_by_one(raw, start)
    assert not more
    assert records.next_fetch_offset == 24
    assert found.partitions == [TP]


def test_a_part_of_it_leaves_the_position_behind_that_part() -> None:
    records = fetch(batch(5, 3) + batch(8, 1) + batch(9, 4))
    steps = [records.take(2) for _ in range(5)]
    assert [[one.offset for one in found] for found, _ in steps] == [[5, 6], [7, 8], [9, 10], [11, 12], []]
    assert [more for _, more in steps] == [True, True, True, True, False]
    records = fetch(batch(5, 3) + batch(8, 1))
    positions = []
    for _ in range(4):
        taken(records, 1)
        positions.append(records.next_fetch_offset)
    assert positions == [6, 7, 8, 9]


def test_offsets_that_compaction_has_emptied_are_passed() -> None:
    raw = bytearray(batch(5, 2))
    raw[23:27] = struct.pack(">i", 9)  # the last offset that the batch had
    records = fetch(signed(raw))
    assert [one.offset for one in taken(records)] == [5, 6]
    assert records.next_fetch_offset == 15


def test_what_came_before_a_damaged_batch_is_handed_over_first() -> None:
    """aiokafka forgets it, and goes on behind it."""
    raw = batch(5, 2) + batch(7, 2)[:-1] + b"!"
    records = fetch(raw)
    found, more = records.take(None)
    assert ([one.offset for one in found], more, records.next_fetch_offset) == ([5, 6], False, 7)
    with pytest.raises(CorruptRecordException):
        fetch(raw, 7).take(None)


def test_what_a_transaction_took_back_never_was() -> None:
    records = fetch(batch(5, 2, producer=7) + batch(7, 2, producer=8) + batch(9, 1), aborted=[(7, 5)])
    assert [one.offset for one in taken(records)] == [7, 8, 9]


def test_names_that_are_no_utf_8_are_read() -> None:
    records = taken(fetch(batch(5, 2, name=b"\xff\xc3(\x00")))
    assert [name for name, _ in records[1].headers] == ["trace", r"\xff\xc3(" + "\x00", "null", ""]


def test_batches_of_an_older_format_are_read() -> None:
    builder = LegacyRecordBatchBuilder(1, 0, 1 << 20)
    for n in range(3):
        builder.append(n, T0 + n, b"key", b"v%d" % n)
    raw = bytes(builder.build())
    assert list(taken(fetch(raw))) == one_by_one(raw)
    assert len(one_by_one(raw)) == 3


@pytest.mark.parametrize("damage", ["bytes", "count"])
def test_a_batch_that_is_no_records_is_as_many_letters_some_at_a_time(
    damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetched, "_SOME", 2)
    raw = bytearray(batch(5, 5))
    if damage == "bytes":
        raw[70:] = bytes(255 - byte for byte in raw[70:])
    else:
        monkeypatch.setattr(record_batches, "MOST_RECORDS", 4)
    records = fetch(signed(raw) + batch(10, 1))
    steps = [taken(records, 3) for _ in range(3)]
    assert [[one.offset for one in found] for found in steps] == [[5, 6, 7], [8, 9, 10], []]
    for one in [*steps[0], *steps[1][:2]]:
        reject = parse(one)
        assert isinstance(reject, Reject)
        assert reject.code == "unreadable"
    assert steps[1][2].value is None
    assert steps[1][2].key == b"key"


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("columns", [True, False])
@pytest.mark.parametrize("compression", [0, 1])
@pytest.mark.parametrize("deltas", ASTRAY)
def test_records_with_offsets_that_are_not_their_batchs_own_are_letters(
    deltas: list[int], compression: int, columns: bool, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apache Kafka 4.1 takes them as they are, uncompressed. The position behind a record beyond all others was where
    the partition stood still; one behind an earlier offset ended the worker; one before the position was lost.
    """
    if not together:
        monkeypatch.setattr(record_batches, "read", lambda *_: None)
    n = len(deltas)
    raw = batch(5, 1) + strewn(6, deltas, compression) + batch(6 + n, 3)
    found = list(taken(fetch(raw, 5))) if columns else one_by_one(raw, 5)
    assert [one.offset for one in found] == list(range(5, 9 + n))
    assert [getattr(parse(one), "code", None) for one in found[1 : 1 + n]] == ["unreadable"] * n
    assert [one.key for one in found] == [b"key", *[None] * n, *[b"key"] * 3]
    for most in range(1, 4):  # whatever part is taken last, the position is behind that
        records = fetch(raw, 5)
        for step in range(1, 3):
            assert len(taken(records, most)) == most
            assert records.next_fetch_offset == 5 + step * most


@pytest.mark.parametrize("compression", [0, 1])
def test_holes_that_compaction_left_are_none_of_that(compression: int) -> None:
    raw = strewn(5, [1, 4], compression, last_delta=9)
    assert [(one.offset, one.value) for one in taken(fetch(raw))] == [(6, b"v1"), (9, b"v4")]
    assert one_by_one(raw) == list(taken(fetch(raw)))


@pytest.mark.parametrize("headers", [1, 2**61, 2**62, 2**62 + 1, 2**63 - 1])
@pytest.mark.parametrize("together", [True, False])
def test_headers_that_are_not_there_make_a_letter(
    headers: int, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice 2^62 is no int64: its record passed, and what then read its headers ended in a segmentation fault."""
    if not together:
        monkeypatch.setattr(record_batches, "read", lambda *_: None)
    assert taken(fetch(one_claiming(0)))[0].key == b"key"
    found = taken(fetch(one_claiming(headers) + batch(6, 1)))
    assert [(one.offset, one.key) for one in found] == [(5, None), (6, b"key")]
    assert getattr(parse(found[0]), "code", None) == "unreadable"


@pytest.mark.parametrize("columns", [True, False])
@pytest.mark.parametrize("codec", [5, 6, 7])
def test_a_codec_that_nobody_knows_makes_letters(codec: int, columns: bool) -> None:
    """It came out of the fetch as an error, again with each fetch of that batch."""
    raw = bytearray(batch(5, 2))
    raw[22] |= codec
    whole = signed(raw) + batch(7, 1)
    found = list(taken(fetch(whole))) if columns else one_by_one(whole)
    assert [(one.offset, one.key) for one in found] == [(5, None), (6, None), (7, b"key")]
    for one in found[:2]:
        reject = parse(one)
        assert isinstance(reject, Reject)
        assert reject.code == "unreadable"
        assert "codec" in reject.message


def test_other_consumers_of_the_process_get_their_objects() -> None:
    records = PartitionRecords(TP, TolerantRecords(batch(5, 2)), None, 0, None, None, True, fetcher.READ_COMMITTED)
    assert [(one.offset, one.key, one.partition) for one in records] == [(5, b"key", 3), (6, b"key", 3)]


def led(raw: bytes, epoch: int) -> bytes:
    """The batch as a broker of this epoch writes it, over what the producer sent; no checksum covers it."""
    return raw[:12] + struct.pack(">i", epoch) + raw[16:]


@pytest.mark.parametrize("compression", [0, 1])
def test_records_tell_the_epoch_of_their_leader_or_of_one_behind(compression: int) -> None:
    batches = [led(batch(first, 3, compression), epoch) for first, epoch in ((0, 4), (3, 4), (6, 7))]
    assert taken(fetch(b"".join(batches[:2]))).leader_epoch == 4
    assert taken(fetch(b"".join(batches))).leader_epoch == 7
    whole = taken(fetch(b"".join(batches)))
    assert (whole[:2].leader_epoch, whole.since(2).leader_epoch) == (7, 7), "later is safe: it is the same log"
    assert Records.join([whole[:2], whole[2:]]).leader_epoch == 7
