"""Headers whose names are not UTF-8: aiokafka made to read them. Knows its record batches; knows no topic.

Kafka's brokers take any bytes as a header's name; aiokafka decodes them strictly, while it unpacks a batch. One such
record, from any producer that may write to the topic, and its partition would never be read beyond it. So a batch that
cannot be unpacked is unpacked again by aiokafka's own Python code, over bytes that decode leniently: what is no UTF-8
in a name becomes \\xff. Forecasts are not concerned; a dead letter carries the name like that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_LENGTH: Final = struct.Struct(">i")
_LENGTH_AT: Final = 8  # in a batch's head, after its first offset
_BEFORE_BATCH: Final = 12  # bytes that the length does not count


def tolerate() -> None:
    """Every consumer of this process, from now on. Again does no harm."""
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
        self._at += _BEFORE_BATCH + _LENGTH.unpack_from(self._raw, start + _LENGTH_AT)[0]
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
        try:
            return iter(list(self._strict))
        except UnicodeDecodeError:
            batch = _DefaultRecordBatchPy(self._raw[self._start : self._end])
            batch._maybe_uncompress()
            batch._buffer = _Lenient(batch._buffer)
            return iter(list(batch))


class _Lenient(bytearray):
    """Bytes whose slices decode whatever they hold."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return _Lenient(found) if isinstance(key, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, "backslashreplace")
