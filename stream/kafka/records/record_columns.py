"""Holds the input's records in columns, as spans of the bytes that a broker sent, and decodes them from Kafka's record
format (v2: zigzag varints).

So a thousand pings are a few arrays; the object of a single record is made only when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple, overload

import numpy as np
from aiokafka.record.util import decode_varint, encode_varint
from numpy.typing import NDArray

from model.jit import compiled
from stream.kafka.records.columns import I64, Bytes, BytesColumn
from stream.wire import MAX_TS_MS, NO_TIME_MS, Headers, Record

Partition = tuple[str, int]  # topic, number
PARTITION_OF: Final = attrgetter("topic", "partition")
_ABSENT: Final = -1  # the length that Kafka writes for None
NO_HEADERS: Final = b"\0"  # an empty list of headers in Kafka's format
LEAST_BYTES: Final = 7  # the shortest record: its length, attributes, time, offset, key, value and headers
_FIELDS: Final = 8  # columns of a record, as `_unframe` fills them
_RECORDS: Final = 3  # the column of `Head.records`


class Head(NamedTuple):
    """Holds what a batch's header states about its records. B batches are int64 [B, 8], a row for each."""

    start: int  # where the records begin in the bytes
    end: int
    base_offset: int
    records: int  # how many
    last_delta: int  # the last offset minus the first; compaction may have removed its record
    first_ms: int
    last_ms: int
    logged: int  # 1: the timestamp of every record is `last_ms`, when the broker appended the batch


@dataclass(frozen=True, eq=False)
class Records(Sequence[Record]):
    """N records; those of one partition are in the order of their offsets.

    Producers can write any timestamp. One below 0 or above MAX_TS_MS becomes NO_TIME_MS and stays so: if we put our
    own time in its place, a replay would put another one.
    """

    partitions: Sequence[Partition]
    which: I64  # [N], the index of each record's partition in `partitions`
    offsets: I64
    timestamps_ms: I64  # 0 to MAX_TS_MS, or NO_TIME_MS
    keys: BytesColumn  # keys, values and headers are spans of the same bytes
    values: BytesColumn
    headers: BytesColumn  # in Kafka's format: the number of headers, and then each of them
    leader_epoch: int = field(
        default=-1, kw_only=True
    )  # of the last record, or of a later one, if all are of one partition; -1: unknown

    @classmethod
    def of(cls, records: Sequence[Record]) -> Records:
        """Returns the same records in columns. They may be of any partitions."""
        if isinstance(records, Records):
            return records
        numbers: dict[Partition, int] = {}
        which: list[int] = []
        for partition, run in groupby(records, PARTITION_OF):
            which += [numbers.setdefault(partition, len(numbers))] * len(list(run))
        spans = BytesColumn.of_some(
            [part for one in records for part in (one.key, one.value, headers_as_sent(one.headers))]
        )
        return cls(
            list(numbers),
            np.array(which, np.int64),
            np.array([one.offset for one in records], np.int64),
            np.array([_time_ms(one.timestamp_ms) for one in records], np.int64),
            *(spans.at(slice(part, None, 3)) for part in range(3)),
        )

    @classmethod
    def decode(cls, raw: Bytes, partition: Partition, heads: I64) -> tuple[Records, int]:
        """Decodes the records of batches.

        It stops at the first batch whose bytes are not exactly the records that its header states, or whose offsets do
        not rise or do not lie within it.

        Args:
            raw: the bytes that contain the records.
            heads: [B, 8], a `Head` for each batch.

        Returns:
            The records of the batches before that one, and the number of these batches.
        """
        raw.flags.writeable = False
        columns = np.empty((_FIELDS, int(heads[:, _RECORDS].sum())), np.int64)
        batches = _unframe(raw, heads, columns)
        offsets, times, *spans = columns[:, : int(heads[:batches, _RECORDS].sum())]
        times[(times < 0) | (times > MAX_TS_MS)] = NO_TIME_MS
        keys, values, headers = (
            BytesColumn(raw, start, end) for start, end in zip(spans[::2], spans[1::2], strict=True)
        )
        return cls([partition], np.zeros(len(offsets), np.int64), offsets, times, keys, values, headers), batches

    @classmethod
    def join(cls, parts: Sequence[Records]) -> Records:
        """Returns the records of all parts, in this order."""
        if len(parts) == 1:
            return parts[0]
        numbers: dict[Partition, int] = {}
        which = [
            np.array([numbers.setdefault(one, len(numbers)) for one in part.partitions], np.int64)[part.which]
            for part in parts
        ]
        raw = np.concatenate([np.empty(0, np.uint8), *(part.keys.raw for part in parts)])
        raw.flags.writeable = False  # like the bytes of a single part, so that kernels are compiled once
        shifts = np.cumsum([0, *(len(part.keys.raw) for part in parts)])[:-1]

        def one(name: str) -> BytesColumn:
            columns: list[BytesColumn] = [getattr(part, name) for part in parts]
            starts = [column.start + shift for column, shift in zip(columns, shifts, strict=True)]
            ends = [column.end + shift for column, shift in zip(columns, shifts, strict=True)]
            return BytesColumn(raw, _whole(starts), _whole(ends))

        return cls(
            list(numbers),
            _whole(which),
            _whole([part.offsets for part in parts]),
            _whole([part.timestamps_ms for part in parts]),
            *map(one, ("keys", "values", "headers")),
            leader_epoch=parts[-1].leader_epoch if parts else -1,
        )

    def with_epoch(self, leader_epoch: int) -> Records:
        """Returns the same records with this leader epoch."""
        columns = self.partitions, self.which, self.offsets, self.timestamps_ms, self.keys, self.values, self.headers
        return Records(*columns, leader_epoch=leader_epoch)

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, at: int) -> Record: ...

    @overload
    def __getitem__(self, at: slice) -> Records: ...

    def __getitem__(self, at: int | slice) -> Record | Records:
        if isinstance(at, slice):
            return self.at(at)
        topic, number = self.partitions[self.which[at]]
        offset, timestamp_ms = int(self.offsets[at]), int(self.timestamps_ms[at])
        headers = headers_as_read(self.headers.one(at) or NO_HEADERS)
        return Record(topic, number, offset, timestamp_ms, self.keys.one(at), self.values.one(at), headers)

    def at(self, rows: slice | NDArray[Any]) -> Records:
        """Returns the records of these rows, over the same bytes."""
        columns = (self.which[rows], self.offsets[rows], self.timestamps_ms[rows])
        texts = (one.at(rows) for one in (self.keys, self.values, self.headers))
        return Records(self.partitions, *columns, *texts, leader_epoch=self.leader_epoch)

    def __iter__(self) -> Iterator[Record]:
        partitions = [self.partitions[one] for one in self.which.tolist()]
        keys, values, headers = self.keys.each(), self.values.each(), self.headers.each()
        columns = (self.offsets.tolist(), self.timestamps_ms.tolist(), keys, values, headers)
        for (topic, number), offset, timestamp_ms, key, value, sent in zip(partitions, *columns, strict=True):
            yield Record(topic, number, offset, timestamp_ms, key, value, headers_as_read(sent or NO_HEADERS))

    @property
    def first_offset(self) -> int:
        return int(self.offsets[0])

    @property
    def next_offset(self) -> int:
        """The offset after the last record's."""
        return int(self.offsets[-1]) + 1

    def count_before(self, offset: int) -> int:
        """Returns how many records are before this offset. All must be of one partition."""
        return int(np.searchsorted(self.offsets, offset))

    def since(self, offset: int) -> Records:
        """Returns the records at this offset or after it. All must be of one partition."""
        first = self.count_before(offset)
        return self.at(slice(first, None)) if first else self

    def before(self, offset: int) -> Records:
        """Returns the records before this offset. All must be of one partition."""
        end = self.count_before(offset)
        return self.at(slice(end)) if end < len(self) else self


def _time_ms(timestamp_ms: int) -> int:
    return timestamp_ms if 0 <= timestamp_ms <= MAX_TS_MS else NO_TIME_MS


def _whole(columns: Sequence[I64]) -> I64:
    return np.concatenate([np.empty(0, np.int64), *columns])


def headers_as_sent(headers: Headers, more: int = 0) -> bytes:
    """Encodes a list of headers in Kafka's format. It counts `more` headers, which the caller appends."""
    parts = [varint(len(headers) + more)]
    for name, value in headers:
        raw = name.encode()
        parts += [varint(len(raw)), raw]
        parts += [varint(_ABSENT)] if value is None else [varint(len(value)), value]
    return b"".join(parts)


def headers_as_read(sent: bytes) -> Headers:
    """Decodes a list of headers. Kafka accepts any bytes as a name: a byte that is not UTF-8 becomes \\xff."""
    count, at = decode_varint(sent, 0)
    found = []
    for _ in range(count):
        size, at = decode_varint(sent, at)
        name, at = sent[at : at + size].decode(errors="backslashreplace"), at + size
        size, at = decode_varint(sent, at)
        found.append((name, None if size < 0 else sent[at : at + size]))
        at += max(size, 0)
    return tuple(found)  # type: ignore[arg-type]


def varint(number: int) -> bytes:
    """Encodes a number as a zigzag varint."""
    out = bytearray()
    encode_varint(number, out.append)
    return bytes(out)


@compiled
def _unframe(raw, heads, columns):  # type: ignore[no-untyped-def]
    """Fills `columns` [8, N]: offset, timestamp, and where key, value and headers begin and end.

    It stops at the first batch whose bytes are not its records, one after the other to the end. Returns the number of
    batches before that one.
    """
    first, before = 0, np.int64(-1)
    for b in range(len(heads)):
        start, end, base_offset, last = heads[b, 0], heads[b, 1], heads[b, 2], first + heads[b, 3]
        last_delta, first_ms, last_ms, logged = heads[b, 4], heads[b, 5], heads[b, 6], heads[b, 7]
        of_it = columns[:, first:last]
        if base_offset <= before or not _unframe_one(raw, start, end, base_offset, last_delta, first_ms, of_it):
            return b
        if logged:
            of_it[1, :] = last_ms
        first, before = last, base_offset + last_delta
    return len(heads)


@compiled
def _unframe_one(raw, at, end_of_all, base_offset, last_delta, first_ms, columns):  # type: ignore[no-untyped-def]
    before = np.int64(-1)
    for i in range(columns.shape[1]):
        size, at = _varint(raw, at, end_of_all)
        end = at + size
        if at < 0 or size < 0 or end > end_of_all:
            return False
        later_ms, at = _varint(raw, at + 1, end)  # after the attributes
        delta, at = _varint(raw, at, end)
        if at < 0 or not before < delta <= last_delta:  # brokers do not check what a producer writes there
            return False
        before = delta
        columns[0, i], columns[1, i] = base_offset + delta, first_ms + later_ms
        for part in range(2, 6, 2):
            size, at = _varint(raw, at, end)
            if at < 0 or size < -1 or size > end - at:
                return False
            columns[part, i], columns[part + 1, i] = at, at + size
            at += max(size, 0)
        columns[6, i] = at
        count, at = _varint(raw, at, end)
        if at < 0 or count < 0 or count > end - at:  # the limit comes first, because 2 * count could overflow an int64
            return False
        for part in range(2 * count):  # a name, which is never None, and a value
            size, at = _varint(raw, at, end)
            if at < 0 or size < -(part & 1) or size > end - at:
                return False
            at += max(size, 0)
        if at != end:
            return False
        columns[7, i] = at
    return at == end_of_all


@compiled
def _varint(raw, at, end):  # type: ignore[no-untyped-def]
    """Returns the zigzag varint at `at`, and where it ends; -1 if it does not end before `end`, or is too long."""
    rest, shift = np.uint64(0), np.uint64(0)
    while 0 <= at < end and shift < 64:
        byte = np.uint64(raw[at])
        rest |= (byte & np.uint64(127)) << shift
        shift += np.uint64(7)
        at += 1
        if byte < 128:
            return np.int64(rest >> np.uint64(1)) ^ -np.int64(rest & np.uint64(1)), at
    return np.int64(0), np.int64(-1)
