"""Replaces aiokafka's fetcher classes, so that consumers can read everything that a producer may have written.

aiokafka raises an error at some batches, and then a worker could never read its partition beyond them:

    header names that are not UTF-8    Kafka accepts any bytes, but aiokafka decodes them strictly. Such a batch is
                                       unpacked again by aiokafka's own Python code, over bytes that decode leniently:
                                       a byte of a name that is not UTF-8 becomes \\xff. A dead letter carries the name
                                       in this form.
    records that cannot be unpacked    Their batch would fill the memory (`decompression`); or it is damaged although
                                       its checksum is right; or its codec is unknown, which most brokers refuse; or
                                       its records have offsets outside of it, which Apache Kafka accepts. Such a
                                       batch stays unread: each of its records becomes a record without key and value,
                                       with the reason in a header, and leads to a dead letter.

A consumer whose key deserializer is COLUMNS polls `Records`, a partition's records in columns, instead of a list of
objects. Workers do this, because the objects were half of the cost of reading.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from operator import lt
from typing import Any, Final, NamedTuple

import numpy as np
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

from stream.kafka.records import decompression, record_batches
from stream.kafka.records.record_batches import PlainBatches, RecordsAsOne
from stream.kafka.records.record_columns import Head, Partition, Records
from stream.wire import UNREAD, Record

_SOME: Final = 1_000


def COLUMNS(key: bytes) -> bytes:
    """Marks a consumer that polls `Records`, as its key deserializer. It is never called."""
    raise AssertionError("its records are polled by getmany, in columns")


class TolerantRecords:
    """The batches of one fetch. It has the methods of `MemoryRecords` that aiokafka's fetcher calls."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0
        self._strict = MemoryRecords(raw)
        self.columns_of: Partition | None = None  # the partition of this fetch, if its records are read in columns
        self.leader_epoch = -1  # of the last batch that was read; -1: its format is older and has no leader epoch

    def size_in_bytes(self) -> int:
        return int(self._strict.size_in_bytes())

    def has_next(self) -> bool:
        return bool(self._strict.has_next())

    def next_batch(self) -> TolerantBatch | PlainBatches | None:
        if self.columns_of is not None and (run := record_batches.read(self._raw, self._at, self.columns_of)):
            for _ in range(run.batches):
                self._strict.next_batch()
            self._at = run.end
            self.leader_epoch = run.leader_epoch
            return run
        batch = self._strict.next_batch()
        if batch is None:
            return None
        start = self._at
        self._at += (
            record_batches.BEFORE_BATCH
            + record_batches.INT32.unpack_from(self._raw, start + record_batches.LENGTH_AT)[0]
        )
        if self._raw[start + record_batches.MAGIC_AT] >= record_batches.MAGIC:
            (self.leader_epoch,) = record_batches.INT32.unpack_from(self._raw, start + record_batches.LEADER_EPOCH_AT)
        return TolerantBatch(batch, self._raw, start, self._at, self.columns_of)


class TolerantBatch:
    """One batch. Its records are unpacked together, because a generator's step per record would cost more."""

    def __init__(self, strict: Any, raw: bytes, start: int, end: int, columns_of: Partition | None) -> None:
        self._strict, self._raw, self._start, self._end, self._columns_of = strict, raw, start, end, columns_of

    def __getattr__(self, name: str) -> Any:
        return getattr(self._strict, name)

    def validate_crc(self) -> bool:
        if self._raw[self._start + record_batches.MAGIC_AT] < record_batches.MAGIC:
            return bool(self._strict.validate_crc())
        return record_batches.is_sound(self._raw, self._start, self._end)

    def __next__(self) -> Any:
        return next(self._strict)  # called only for a control batch: the broker writes it, and it has no headers

    def __iter__(self) -> Iterator[Any]:
        try:
            self._check()
            records = self._decode_columns()
            if records is not None:
                return iter([RecordsAsOne(records)] if records else [])
            found = iter(self._in_order(self._decode_singly()))
        except (decompression.Unreadable, CorruptRecordException, UnsupportedCodecError) as error:
            found = self._unread(str(error))
        return found if self._columns_of is None else _in_columns(self._columns_of, found)

    def _check(self) -> None:
        if self._raw[self._start + record_batches.MAGIC_AT] < record_batches.MAGIC:
            return
        (count,) = record_batches.INT32.unpack_from(self._raw, self._start + record_batches.COUNT_AT)
        if count > record_batches.MOST_RECORDS:
            limit = f"MOST_RECORDS in stream/kafka/records/record_batches.py is {record_batches.MOST_RECORDS}"
            raise decompression.Unreadable(f"it has {count} records; {limit}")

    def _decode_columns(self) -> Records | None:
        """Returns the records in columns; None if columns are not wanted, the format is older, or the batch may be
        damaged.
        """
        if self._columns_of is None or self._raw[self._start + record_batches.MAGIC_AT] < record_batches.MAGIC:
            return None
        head = _DefaultRecordBatchPy.HEADER_STRUCT.unpack_from(self._raw, self._start)
        base_offset, attributes, last_delta, first_ms, last_ms, count = (head[field] for field in (0, 5, 6, 7, 8, 12))
        if count < 0:
            return None
        if attributes & _DefaultRecordBatchPy.CODEC_MASK:
            batch = _DefaultRecordBatchPy(self._raw[self._start : self._end])
            batch._maybe_uncompress()
            body = np.frombuffer(batch._buffer, np.uint8)
        else:
            body = np.frombuffer(self._raw, np.uint8)[self._start + record_batches.HEAD_BYTES : self._end]
        logged = bool(attributes & _DefaultRecordBatchPy.TIMESTAMP_TYPE_MASK)
        head = Head(0, len(body), base_offset, count, last_delta, first_ms, last_ms, logged)
        records, batches = Records.decode(body, self._columns_of, np.array([head], np.int64))
        return records if batches else None

    def _decode_singly(self) -> list[Any]:
        try:
            return list(self._strict)
        except UnicodeDecodeError:
            batch = _DefaultRecordBatchPy(self._raw[self._start : self._end])
            batch._maybe_uncompress()
            batch._buffer = _Lenient(batch._buffer)
            return list(batch)

    def _in_order(self, found: list[Any]) -> list[Any]:
        """Returns the records; raises Unreadable if their offsets do not rise, or are not within the batch.

        The broker writes a batch's first offset; the producer writes each record's distance from it, and Apache Kafka
        does not check that. The position after a wrong offset would be one that the partition never reaches, or has
        passed already.
        """
        if self._raw[self._start + record_batches.MAGIC_AT] < record_batches.MAGIC:
            return found
        offsets = [self._strict.base_offset - 1, *(one.offset for one in found), self._strict.next_offset]
        if not all(map(lt, offsets, offsets[1:])):
            raise decompression.Unreadable("its records have offsets in no order, or beyond its own")
        return found

    def _unread(self, reason: str) -> Iterator[Unread]:
        """Yields one record for each offset of the batch. Their number is known without decompression."""
        strict, headers = self._strict, ((UNREAD, reason.encode()),)
        for offset in range(strict.base_offset, strict.next_offset):
            yield Unread(offset, strict.max_timestamp, strict.timestamp_type, headers)


def _in_columns(partition: Partition, found: Iterator[Any]) -> Iterator[RecordsAsOne]:
    """Converts records that were unpacked one by one, _SOME at a time: a batch can claim more than memory can hold."""
    while some := list(islice(found, _SOME)):
        yield RecordsAsOne(Records.of([_record(partition, one) for one in some]))


def _record(partition: Partition, raw: Any) -> Record:
    at_ms = -1 if raw.timestamp is None else raw.timestamp
    return Record(*partition, raw.offset, at_ms, raw.key, raw.value, tuple(raw.headers))


class Unread(NamedTuple):
    """A record of a batch that was not unpacked. It has the fields that aiokafka's fetcher reads of a record."""

    offset: int
    timestamp: int
    timestamp_type: int
    headers: tuple[tuple[str, bytes], ...]
    key: None = None
    value: None = None
    checksum: None = None


class PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """The records of one partition in a fetch, without those of aborted transactions (for `read_committed`)."""

    def __init__(self, tp: Any, records: TolerantRecords, *more: Any) -> None:
        super().__init__(tp, records, *more)
        self.in_columns = self._key_deserializer is COLUMNS
        self._batches = records
        self.size = records.size_in_bytes()
        self._left: Records | None = None  # the rest of a batch of which only a part was returned
        if self.in_columns:
            records.columns_of = tuple(tp)

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        if not self.in_columns:
            return super()._consumer_record(tp, record)
        return record.records.since(self.next_fetch_offset)  # a fetch may begin in the middle of a batch

    def take(self, most: int | None) -> tuple[Records, bool]:
        """Returns the next records, `most` at most, and whether there may be more."""
        found: list[Records] = []
        room = sys.maxsize if most is None else most
        while room:
            try:
                batch = next(self, None) if self._left is None else self._left
            except CorruptRecordException:  # the next fetch raises it again; the records before it must not be lost
                if not found:
                    raise
                batch = None
            if batch is None:
                return self._join(found), False
            if not batch:  # it has an older format, and its offsets do not rise
                continue
            self._left = None
            if len(batch) > room:
                batch, self._left = batch[:room], batch[room:]
            found.append(batch)
            room -= len(batch)
            self.next_fetch_offset = batch.next_offset
        return self._join(found), True

    def _join(self, found: list[Records]) -> Records:
        return Records.join(found).with_epoch(self._batches.leader_epoch)


class FetchResult(fetcher.FetchResult):  # type: ignore[misc]
    """Holds what aiokafka's consumer polls: the records of one partition in a fetch."""

    def getall(self, max_records: int | None = None) -> Any:
        fetched: PartitionRecords | None = self._partition_records
        if fetched is None or not fetched.in_columns:
            return super().getall(max_records)
        if not self.check_assignment(self._topic_partition):
            return []
        found, more = fetched.take(max_records)
        self._update_position()
        if not more:
            self._partition_records: PartitionRecords | None = None
        return found


class _Lenient(bytearray):
    """Bytes whose slices decode without an error, whatever they contain."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return _Lenient(found) if isinstance(key, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, "backslashreplace")
