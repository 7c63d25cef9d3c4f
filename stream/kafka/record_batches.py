"""Batches of a fetch that lie one behind the other, read together. Most producers send few records at a time, and a
batch read by itself costs what some hundred records do.

A run is of plain batches: nothing compressed, of no transaction, sound by their checksums, with offsets that rise and
are their own. All others are read one by one, by aiokafka (`stream.kafka.fetcher`). Knows the head of Kafka's batches
(format 2) and no topic.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from model.jit import compiled
from stream.kafka.checksum import crc32c
from stream.kafka.record_columns import LEAST_BYTES, Head, Partition, Records

# Of a run: what polls cut in two is copied with either part. Producers that fill their batches have one in a run.
MOST_BYTES: Final = 64 * 1024
MOST_RECORDS: Final = 250_000  # of one batch: unpacked one by one they are objects of 150 bytes and more
HEAD_BYTES: Final = 61
BEFORE_BATCH: Final = 12  # bytes that the length does not count
LENGTH_AT: Final = 8  # in a batch's head, after its first offset
LEADER_EPOCH_AT: Final = 12  # of the broker that took it
MAGIC_AT: Final = 16
_CHECKSUM_AT: Final = 17  # of all that is behind it
COUNT_AT: Final = 57  # the last field of the head
MAGIC: Final = 2  # of the format that has a head for all; older ones have a message for each
INT32: Final = struct.Struct(">i")
_CHECKSUM: Final = struct.Struct(">I")
_ATTRIBUTES_AT: Final = 21
_LAST_DELTA_AT: Final = 23
_TIMES_AT: Final = 27  # of the first record, and the latest
_LOGGED: Final = 8  # of the attributes: the broker's times. Any other says that a batch is not plain
_MOST_BATCHES: Final = MOST_BYTES // HEAD_BYTES
_FIELDS: Final = len(Head._fields)


class RecordsAsOne(NamedTuple):
    """Some records of a fetch as one: what aiokafka's fetcher asks of a record."""

    records: Records

    @property
    def offset(self) -> int:
        return self.records.next_offset - 1


@dataclass(frozen=True)
class PlainBatches:
    """Some batches as one: what aiokafka's fetcher asks of a batch."""

    records: Records
    batches: int
    end: int  # in the fetch's bytes
    base_offset: int
    next_offset: int  # behind what compaction took from its end, too
    leader_epoch: int  # of the last batch
    producer_id = None  # of no transaction
    is_transactional = is_control_batch = False

    def validate_crc(self) -> bool:
        return True  # as `read` saw

    def __iter__(self) -> Iterator[RecordsAsOne]:
        return iter([RecordsAsOne(self.records)] if self.records else [])


def read(raw: bytes, at: int, partition: Partition) -> PlainBatches | None:
    """The run that begins at `at`, in a fetch of this partition; None if the batch there is of none."""
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
    records, batches = Records.unframed(body, partition, heads)
    if not batches:
        return None
    first, last = (Head(*heads[b].tolist()) for b in (0, batches - 1))
    (leader_epoch,) = INT32.unpack_from(raw, at + last.start - HEAD_BYTES + LEADER_EPOCH_AT)
    next_offset = last.base_offset + last.last_delta + 1
    return PlainBatches(records, batches, at + last.end, first.base_offset, next_offset, leader_epoch)


def is_sound(raw: bytes, start: int, end: int) -> bool:
    """Whether the batch there has the checksum that its head tells."""
    told: tuple[int] = _CHECKSUM.unpack_from(raw, start + _CHECKSUM_AT)
    return told[0] == crc32c(raw[start + _CHECKSUM_AT + _CHECKSUM.size : end])


@compiled
def _plain(raw, at, heads, most_records):  # type: ignore[no-untyped-def]
    """Fills heads [B, 8] of the plain batches from `at` on; how many there are."""
    begin, found = at, 0
    while found < len(heads) and at + HEAD_BYTES <= len(raw):
        end = at + BEFORE_BATCH + _varint(raw, at + LENGTH_AT, 4)
        if end < at + HEAD_BYTES or end > len(raw) or (found and end - begin > MOST_BYTES):
            break
        attributes, records = _varint(raw, at + _ATTRIBUTES_AT, 2), _varint(raw, at + COUNT_AT, 4)
        if raw[at + MAGIC_AT] != MAGIC or attributes & ~_LOGGED:
            break
        # So that what a head claims takes no more memory than its records do.
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
    """The whole number in `size` bytes, big end first."""
    found = np.uint64(0)
    for i in range(at, at + size):
        found = (found << np.uint64(8)) | np.uint64(raw[i])
    left = np.int64(64 - 8 * size)
    return np.int64(found << np.uint64(left)) >> left
