"""Batches that aiokafka would stumble over, from any producer that may write to the topic: one of them, and no worker
would ever read its partition beyond it. Knows aiokafka's record batches; knows no topic.

    header names that are not UTF-8    Kafka takes any bytes, aiokafka decodes them strictly. Such a batch is unpacked
                                       again by aiokafka's own Python code, over bytes that decode leniently: what is
                                       no UTF-8 in a name becomes \\xff. A dead letter carries the name like that.
    what cannot be unpacked            Records that would fill the memory (`stream.unfolding`), or that are damaged in a
                                       batch whose checksum is right; most brokers refuse the latter. They stay unread:
                                       each becomes a record without key and value, which has the reason in a header,
                                       and leads to a dead letter.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

from stream import unfolding
from stream.wire import UNREAD

MOST_RECORDS: Final = 250_000  # of one batch: unpacked together they are objects of 150 bytes and more
_INT32: Final = struct.Struct(">i")
_LENGTH_AT: Final = 8  # in a batch's head, after its first offset
_BEFORE_BATCH: Final = 12  # bytes that the length does not count
_COUNT_AT: Final = 57  # the last field of the head


def tolerate() -> None:
    """Every consumer of this process, from now on. Again does no harm."""
    unfolding.bound()
    fetcher.MemoryRecords = TolerantRecords


class TolerantRecords:
    """The batches of one fetch: what aiokafka's fetcher asks of its `MemoryRecords`."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0
        self._strict = MemoryRecords(raw)

    def size_in_bytes(self) -> int:
        return int(self._strict.size_in_bytes())

    def has_next(self) -> bool:
        return bool(self._strict.has_next())

    def next_batch(self) -> TolerantBatch | None:
        batch = self._strict.next_batch()
        if batch is None:
            return None
        start = self._at
        self._at += _BEFORE_BATCH + _INT32.unpack_from(self._raw, start + _LENGTH_AT)[0]
        return TolerantBatch(batch, self._raw, start, self._at)


class TolerantBatch:
    """One batch. Its records are unpacked together: a generator's step per record would cost more than that."""

    def __init__(self, strict: Any, raw: bytes, start: int, end: int) -> None:
        self._strict, self._raw, self._start, self._end = strict, raw, start, end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._strict, name)

    def __next__(self) -> Any:
        return next(self._strict)  # of a control batch, which the broker writes and which has no headers

    def __iter__(self) -> Iterator[Any]:
        (count,) = _INT32.unpack_from(self._raw, self._start + _COUNT_AT)
        if count > MOST_RECORDS:
            return self._unread(f"it has {count} records")
        try:
            return iter(self._unpacked())
        except (unfolding.Unreadable, CorruptRecordException) as error:
            return self._unread(str(error))

    def _unpacked(self) -> list[Any]:
        try:
            return list(self._strict)
        except UnicodeDecodeError:
            batch = _DefaultRecordBatchPy(self._raw[self._start : self._end])
            batch._maybe_uncompress()
            batch._buffer = _Lenient(batch._buffer)
            return list(batch)

    def _unread(self, reason: str) -> Iterator[Unread]:
        """One for each offset: how many there are is known without unfolding anything."""
        strict, headers = self._strict, ((UNREAD, reason.encode()),)
        for offset in range(strict.base_offset, strict.next_offset):
            yield Unread(offset, strict.max_timestamp, strict.timestamp_type, headers)


class Unread(NamedTuple):
    """A record of a batch that is not unpacked: what aiokafka's fetcher asks of its records."""

    offset: int
    timestamp: int
    timestamp_type: int
    headers: tuple[tuple[str, bytes], ...]
    key: None = None
    value: None = None
    checksum: None = None


class _Lenient(bytearray):
    """Bytes whose slices decode whatever they hold."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return _Lenient(found) if isinstance(key, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, "backslashreplace")
