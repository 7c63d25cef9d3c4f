"""Reads adjacent record batches of a fetch together, from Kafka's batch header (format 2).

Most producers send few records at a time, and a batch that is read by itself costs as much as some hundred records.
Only plain batches are read together: not compressed, not transactional, with a right checksum, and with offsets that
rise and lie within the batch. All others are read one by one (`stream.kafka.fetcher`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import google_crc32c
import numpy as np

from model.jit import compiled
from stream.kafka.records.record_columns import LEAST_BYTES, Head, Partition, Records

# Bytes that are read together. If a poll returns only a part of them, all are copied with either part. A producer that
# fills its batches has one batch in so many bytes.
MOST_BYTES: Final = 64 * 1024
MOST_RECORDS: Final = 250_000  # in one batch: unpacked one by one they are objects of 150 bytes and more
HEAD_BYTES: Final = 61
BEFORE_BATCH: Final = 12  # bytes at the start of a batch that its length field does not count
LENGTH_AT: Final = 8  # place in the header, after the base offset
LEADER_EPOCH_AT: Final = 12  # the epoch of the leader that appended the batch
MAGIC_AT: Final = 16
_CHECKSUM_AT: Final = 17  # the checksum covers all bytes after it
COUNT_AT: Final = 57  # the last field of the header
MAGIC: Final = 2  # the format with one header per batch; older formats have a message per record
INT32: Final = struct.Struct(">i")
_CHECKSUM: Final = struct.Struct(">I")
_ATTRIBUTES_AT: Final = 21
_LAST_DELTA_AT: Final = 23
_TIMES_AT: Final = 27  # the timestamps of the first record and the latest
_LOGGED: Final = 8  # the attribute "timestamps are the broker's"; any other attribute means that a batch is not plain
_MOST_BATCHES: Final = MOST_BYTES // HEAD_BYTES
_FIELDS: Final = len(Head._fields)


class RecordsAsOne(NamedTuple):
    """Several records of a fetch, in the form of one record: it has the field that aiokafka's fetcher reads."""

    records: Records

    @property
    def offset(self) -> int:
        return self.records.next_offset - 1


@dataclass(frozen=True)
class PlainBatches:
    """Adjacent plain batches, in the form of one batch: it has what aiokafka's fetcher reads of a batch."""

    records: Records
    batches: int
    end: int  # where the last batch ends in the fetch's bytes
    base_offset: int
    next_offset: int  # the offset after the last batch, counting records that compaction removed from its end
    leader_epoch: int  # of the last batch
    producer_id = None  # the batches are not transactional
    is_transactional = is_control_batch = False

    def validate_crc(self) -> bool:
        return True  # `read` has checked it

    def __iter__(self) -> Iterator[RecordsAsOne]:
        return iter([RecordsAsOne(self.records)] if self.records else [])


def read(raw: bytes, at: int, partition: Partition) -> PlainBatches | None:
    """Returns the plain batches of this partition that begin at `at`; None if the batch there is not plain."""
    whole = np.frombuffer(raw, np.uint8)
    heads = np.empty((_MOST_BATCHES, _FIELDS), np.int64)
    plain = _plain(whole, at, heads, MOST_RECORDS)
    begin, sound = at, 0
    for end in heads[:plain, 1].tolist():
        if not is_sound(raw, begin, end):
            break
        begin, sound = end, sound + 1
    heads = heads[:sound]
    if not sound:
        return None
    body = whole[at:begin]
    heads[:, :2] -= at
    records, batches = Records.decode(body, partition, heads)
    if not batches:
        return None
    first, last = (Head(*heads[b].tolist()) for b in (0, batches - 1))
    (leader_epoch,) = INT32.unpack_from(raw, at + last.start - HEAD_BYTES + LEADER_EPOCH_AT)
    next_offset = last.base_offset + last.last_delta + 1
    return PlainBatches(records, batches, at + last.end, first.base_offset, next_offset, leader_epoch)


def is_sound(raw: bytes, start: int, end: int) -> bool:
    """Returns whether the bytes of the batch at `start` have the checksum that its header states."""
    stored: tuple[int] = _CHECKSUM.unpack_from(raw, start + _CHECKSUM_AT)
    return stored[0] == int(google_crc32c.value(raw[start + _CHECKSUM_AT + _CHECKSUM.size : end]))


@compiled
def _plain(raw, at, heads, most_records):  # type: ignore[no-untyped-def]
    """Fills `heads` [B, 8] with those of the plain batches from `at` on; returns how many there are."""
    begin, found = at, 0
    while found < len(heads) and at + HEAD_BYTES <= len(raw):
        end = at + BEFORE_BATCH + _varint(raw, at + LENGTH_AT, 4)
        if end < at + HEAD_BYTES or end > len(raw) or (found and end - begin > MOST_BYTES):
            break
        attributes, records = _varint(raw, at + _ATTRIBUTES_AT, 2), _varint(raw, at + COUNT_AT, 4)
        if raw[at + MAGIC_AT] != MAGIC or attributes & ~_LOGGED:
            break
        # A header must not make us allocate more memory than its records can need.
        if not 0 <= records <= most_records or records * LEAST_BYTES > end - at - HEAD_BYTES:
            break
        row = heads[found]
        row[0], row[1], row[2], row[3] = at + HEAD_BYTES, end, _varint(raw, at, 8), records
        row[4] = _varint(raw, at + _LAST_DELTA_AT, 4)
        row[5], row[6] = _varint(raw, at + _TIMES_AT, 8), _varint(raw, at + _TIMES_AT + 8, 8)
        row[7] = 1 if attributes & _LOGGED else 0
        at, found = end, found + 1
    return found


@compiled
def _varint(raw, at, size):  # type: ignore[no-untyped-def]
    """Returns the signed big-endian integer in `size` bytes."""
    found = np.uint64(0)
    for i in range(at, at + size):
        found = (found << np.uint64(8)) | np.uint64(raw[i])
    left = np.int64(64 - 8 * size)
    return np.int64(found << np.uint64(left)) >> left
