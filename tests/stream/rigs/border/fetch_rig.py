"""Batches of records as a broker sends them, and what a fetch makes of them. Tests of the fetch import it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from stream.kafka.fetcher import COLUMNS, PartitionRecords, TolerantRecords

TP = TopicPartition("pings", 3)
T0 = 1_700_000_000_000
HEADERS = [("trace", b"\x00\xff"), ("AAAA", b"x"), ("null", None), ("", b"")]
ASTRAY = ([0, 10**6], [2, 1, 0], [0, -3], [0, 0], [-1, 0], [0, 2**61], [1, 2])


def batch(first: int, count: int, compression: int = 0, *, name: bytes = b"AAAA", producer: int = -1) -> bytes:
    builder = DefaultRecordBatchBuilder(2, compression, int(producer >= 0), producer, 0, 0, 1 << 20)
    for n in range(count):
        assert builder.append(n, T0 + n, b"key", b"v%d" % n if n else None, HEADERS) is not None
    raw = bytearray(builder.build().replace(b"AAAA", name))
    raw[:8] = struct.pack(">q", first)
    return signed(raw)


def strewn(first: int, deltas: Sequence[int], compression: int = 0, *, last_delta: int | None = None) -> bytes:
    """A batch whose records claim these distances from its first offset. Its own last one is what a broker demands."""
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, 0, 1 << 20)
    for n, delta in enumerate(deltas):
        assert builder.append(delta, T0 + n, b"key", b"v%d" % delta, HEADERS) is not None
    raw = bytearray(builder.build())
    raw[:8] = struct.pack(">q", first)
    raw[23:27] = struct.pack(">i", len(deltas) - 1 if last_delta is None else last_delta)
    return signed(raw)


def signed(raw: bytearray) -> bytes:
    raw[17:21] = struct.pack(">I", calc_crc32c(raw[21:]))
    return bytes(raw)


def fetch(raw: bytes, start: int = 0, *, aborted: Any = None, columns: bool = True) -> Any:
    deserializer = COLUMNS if columns else None
    of = PartitionRecords if columns else fetcher.PartitionRecords.__mro__[-2]  # aiokafka's own, patched or not
    return of(TP, TolerantRecords(raw), aborted, start, deserializer, None, True, fetcher.READ_COMMITTED)
