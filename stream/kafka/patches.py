"""Changes aiokafka; no other module does. An import patches nothing: whoever starts a client calls `patch_aiokafka`."""

from __future__ import annotations

import google_crc32c
from aiokafka.consumer import fetcher as theirs
from aiokafka.record import default_records

from stream.kafka import fetcher
from stream.kafka.records import decompression


def patch_aiokafka() -> None:
    """Changes every consumer and producer of this process, from now on. Calling it again does no harm.

    Consumers read what any producer may have written (`stream.kafka.fetcher`), decompression stops at a limit
    (`stream.kafka.records.decompression`), and checksums are google-crc32c's: aiokafka's own take nine times as long,
    which would be 2.8 % of a ping's CPU (stream/bench/RESULTS.md).
    """
    decompression.bound()
    theirs.MemoryRecords = fetcher.TolerantRecords
    theirs.PartitionRecords = fetcher.PartitionRecords
    theirs.FetchResult = fetcher.FetchResult
    default_records.calc_crc32c = crc32c


def crc32c(raw: bytes | bytearray) -> int:
    return int(google_crc32c.value(bytes(raw)))
