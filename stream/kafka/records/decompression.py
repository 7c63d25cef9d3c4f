"""Decompresses record batches up to a limit.

A sender could compress thirty gigabytes into a batch of one megabyte, and aiokafka would decompress them: Kafka limits
the size of a batch on the wire, but nothing limits its decompressed size. So lz4, zstd and snappy are decompressed into
memory of a fixed size: cramjam raises an error when it is full, whatever size the batch states. Every error of a codec
becomes one error here, Unreadable.

gzip is left to zlib, which takes a limit. cramjam would raise the same error, but up to its version 2.13 only after it
has decompressed everything: for 256 MB of zeros it takes 282 MB of memory, where lz4 takes 18 and zstd 20.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable
from typing import Final

import cramjam
import numpy as np
from aiokafka import codec
from aiokafka.record import default_records
from aiokafka.record._crecords import default_records as compiled_records

MOST_BYTES: Final = 32 << 20  # of one batch: a broker accepts 1 MiB, and JSON shrinks to a tenth at best
_FULL: Final = ("failed to write whole buffer", "is smaller than required")  # in cramjam's messages; the second: snappy
_FIRST_FED: Final = 128  # the bytes of a gzip member that zlib gets first: an empty member has 20
_MOST_FED: Final = 1 << 18  # bytes at a time
_GZIP: Final = 31  # zlib's `wbits` for a gzip header and any window
_XERIAL_HEAD: Final = 16  # bytes of Java's snappy header; the blocks follow it, each after its size
_SIZE: Final = struct.Struct(">I")

DecompressInto = Callable[[bytes, memoryview], int]  # returns how many bytes it has written


class Unreadable(Exception):
    """A batch has more than MOST_BYTES decompressed bytes, or damaged ones. The message says which."""


class _Room(threading.local):
    """The memory that a thread decompresses into. Only what the largest batch has filled is resident. A new one for
    each batch would cost 15 us, which is as much as to decompress 50 pings."""

    def __init__(self) -> None:
        self.bytes = np.empty(MOST_BYTES, np.uint8).data  # a bytearray would be filled with zeros


_ROOM: Final = _Room()


def bound() -> None:
    """Limits every batch that this process reads from now on. Calling it again does no harm."""
    for module in (default_records, compiled_records):
        module.gzip_decode, module.snappy_decode = gunzip, unsnappy
        module.lz4_decode, module.zstd_decode = unlz4, unzstd


def gunzip(packed: bytes) -> bytes:
    whole, at, found, left = memoryview(packed), 0, [], MOST_BYTES
    try:
        while at < len(whole):  # gzip treats several members that follow each other as one
            member, fed = zlib.decompressobj(_GZIP), _FIRST_FED
            while not member.eof and at < len(whole):
                # zlib copies the bytes after a member out of its input. If the input were always the whole rest, a
                # sender could put in so many empty members that the copies take minutes.
                some = whole[at : at + fed]
                found.append(member.decompress(some, left + 1))
                left -= len(found[-1])
                if left < 0:
                    raise _too_much()
                at += len(some) - len(member.unused_data)
                fed = min(2 * fed, _MOST_FED)
    except zlib.error as error:
        raise _damage_error(error) from error
    return b"".join(found)


def unsnappy(packed: bytes) -> bytes:
    return _decompress(_unsnappy_into, packed)


def unlz4(packed: bytes) -> bytes:
    return _decompress(cramjam.lz4.decompress_into, packed)


def unzstd(packed: bytes) -> bytes:
    return _decompress(cramjam.zstd.decompress_into, packed)


def _decompress(into: DecompressInto, packed: bytes) -> bytes:
    room = _ROOM.bytes
    try:
        return room[: into(packed, room)].tobytes()
    except (cramjam.DecompressionError, struct.error) as error:  # struct.error: a truncated block of snappy
        full = any(text in str(error) for text in _FULL)
        raise (_too_much() if full else _damage_error(error)) from error


def _too_much() -> Unreadable:
    return Unreadable(
        f"it unfolds to more than {MOST_BYTES} bytes (MOST_BYTES in stream/kafka/records/decompression.py)"
    )


def _damage_error(error: Exception) -> Unreadable:
    return Unreadable(f"its compressed bytes are damaged ({error})")


def _unsnappy_into(packed: bytes, room: memoryview) -> int:
    """Decompresses snappy as Java frames it, in blocks, and as others send it. aiokafka's `snappy_decode`, which tells
    one from the other in the same way, takes no limit; and cramjam knows another framing, snappy's own."""
    if not codec._detect_xerial_stream(packed):
        return cramjam.snappy.decompress_raw_into(packed, room)
    whole, at, filled = memoryview(packed), _XERIAL_HEAD, 0
    while at < len(whole):
        (size,) = _SIZE.unpack_from(whole, at)
        at += _SIZE.size
        filled += cramjam.snappy.decompress_raw_into(whole[at : at + size], room[filled:])
        at += size
    return filled
