"""Pages are what aiokafka would have framed, byte for byte; and answers are read back in the order of their records."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from aiokafka.record import default_records
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.patches import crc32c
from stream.kafka.records.columns import BytesColumn
from stream.kafka.records.encoded_batches import HEAD_BYTES, Answers, Column, EncodedBatch, encode_batches
from stream.kafka.records.record_columns import Records, headers_as_sent
from stream.wire import Outgoing, Record

T0 = 1_700_000_000_000
CONSTANT = (("ce_type", b"pathcast.forecast.v1"), ("content-type", b"application/json"))
P0, P1 = ("pings", 0), ("pings", 1)

short = st.binary(max_size=70)
long = st.integers(0, 9_000).map(lambda size: b"v" * size)  # lengths whose varints have one, two and three bytes
rows = st.lists(st.tuples(short, short | long, short), min_size=1, max_size=150)


def pages_of(of: list[tuple[bytes, bytes, bytes]], breaks: list[int], room: int) -> list[tuple[slice, bytes]]:
    keys, values, ids = (BytesColumn.of(column) for column in zip(*of, strict=True))
    constant = BytesColumn.of([headers_as_sent(CONSTANT, more=1)]).at(np.zeros(len(of), np.int64))
    first = np.isin(np.arange(len(of)), [0, *breaks])
    return [
        (at, body.tobytes()) for at, body in encode_batches(keys, values, constant, Column("ce_id", ids), first, room)
    ]


def by_aiokafka(of: list[tuple[bytes, bytes, bytes]]) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 30)
    for offset, (key, value, event_id) in enumerate(of):
        assert builder.append(offset, T0, key, value, [*CONSTANT, ("ce_id", event_id)]) is not None
    return bytes(builder.build()[HEAD_BYTES:])


@given(rows, st.lists(st.integers(0, 150)), st.integers(1, 20_000))
def test_a_page_is_framed_as_aiokafka_frames_its_records(
    of: list[tuple[bytes, bytes, bytes]], breaks: list[int], room: int
) -> None:
    pages = pages_of(of, breaks, room)
    assert [row for at, _ in pages for row in range(at.start, at.stop)] == list(range(len(of)))
    for at, body in pages:
        assert body == by_aiokafka(of[at])
        assert len(body) <= room or at.stop - at.start == 1
    starts = {at.start for at, _ in pages}
    assert starts >= {row for row in breaks if row < len(of)}
    for (_, full), (at, _) in itertools.pairwise(pages):
        if at.start not in breaks:  # it was for want of room
            assert len(full) + len(by_aiokafka(of[at.start : at.start + 1])) + 1 >= room


def page(source: tuple[str, int], *at: int, topic: str = "forecasts") -> EncodedBatch:
    of = [(b"bus-%d" % row, b'{"row":%d}' % row, b"id-%d" % row) for row in at]
    ((_, body),) = pages_of(of, [], 1 << 20)
    return EncodedBatch(topic, source, np.array(at), np.frombuffer(body, np.uint8))


@pytest.mark.parametrize("codec", [0, DefaultRecordBatch.CODEC_SNAPPY, DefaultRecordBatch.CODEC_ZSTD])
@pytest.mark.parametrize("transactional", [False, True])
def test_a_batch_says_of_itself_what_its_producer_is(
    codec: int, transactional: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(default_records, "calc_crc32c", crc32c)  # as a worker has it; what reads has aiokafka's own
    batch = page(P0, *range(40)).batch(compression=codec, transactional=transactional)
    assert batch.closed()
    assert batch.record_count() == 40
    batch._set_producer_state(77, 3, 1_000)
    read = MemoryRecords(bytes(batch._build())).next_batch()
    assert read.validate_crc()
    assert read.compression_type == codec
    assert read.is_transactional == transactional
    assert (read.producer_id, read.producer_epoch, read.base_sequence) == (77, 3, 1_000)
    assert (read.base_offset, read.next_offset) == (0, 40), "the broker counts on from there"
    found = list(read)
    assert [one.value for one in found] == [b'{"row":%d}' % row for row in range(40)]
    assert len({one.timestamp for one in found}) == 1
    assert found[0].timestamp == read.max_timestamp > T0


RECORDS = [Record(*source, offset, T0, b"bus", b"{}") for offset, source in enumerate([P0, P0, P1, P0, P1])]
LETTER, FILL = Outgoing("letters", None, b"l", (), RECORDS[4]), Outgoing("fills", b"bus", b"f", (), RECORDS[1])
ANSWERS = Answers(Records.of(RECORDS), [page(P0, 0, 1, 3), page(P1, 2)], [(4, LETTER), (1, FILL)])


def test_answers_come_in_the_order_of_what_they_answer() -> None:
    assert len(ANSWERS) == 6
    found = list(ANSWERS)
    assert [one.value for one in found] == [b'{"row":0}', b'{"row":1}', b"f", b'{"row":2}', b'{"row":3}', b"l"]
    assert [one.src.offset for one in found] == [0, 1, 1, 2, 3, 4]
    assert found[0].key == b"bus-0"
    assert found[0].headers == (*CONSTANT, ("ce_id", b"id-0"))


def test_answers_are_told_apart_by_where_their_records_came_from() -> None:
    assert [one.value for one in ANSWERS.of({P1})] == [b'{"row":2}', b"l"]
    assert not ANSWERS.of(set())
    assert ANSWERS.counts() == {("forecasts", P0): 3, ("forecasts", P1): 1, ("letters", P1): 1, ("fills", P0): 1}
