"""Decompresses record batches up to a limit.

A sender could compress thirty gigabytes into a batch of one megabyte, and aiokafka would decompress them: Kafka limits
the size of a batch on the wire, but nothing limits its decompressed size. Every error that a codec raises for damaged
bytes becomes one error here, Unreadable.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import cramjam
import lz4.frame
import zstandard
from aiokafka import codec
from aiokafka.record import default_records
from aiokafka.record._crecords import default_records as compiled_records

MOST_BYTES: Final = 32 << 20  # of one batch: a broker accepts 1 MiB, and JSON shrinks to a tenth at best
CHUNK: Final = 1 << 18  # bytes at a time: larger chunks are slower, because their memory is newly allocated
_FIRST_FED: Final = 128  # the bytes of a gzip member that zlib gets first: an empty member has 20
_GZIP: Final = 31  # zlib's `wbits` for a gzip header and any window
_XERIAL_HEAD: Final = 16  # bytes of Java's snappy header; the blocks follow it, each after its size
_SIZE: Final = struct.Struct(">I")


class Unreadable(Exception):
    """A batch has more than MOST_BYTES decompressed bytes, or damaged ones. The message says which."""


def bound() -> None:
    """Limits every batch that this process reads from now on. Calling it again does no harm."""
    for module in (default_records, compiled_records):
        module.gzip_decode, module.snappy_decode = gunzip, unsnappy
        module.lz4_decode, module.zstd_decode = unlz4, unzstd


@contextmanager
def _codec() -> Iterator[None]:
    try:
        yield
    # lz4 raises RuntimeError; struct.error comes from a truncated block of snappy.
    except (zlib.error, cramjam.DecompressionError, zstandard.ZstdError, RuntimeError, struct.error) as error:
        raise Unreadable(f"its compressed bytes are damaged ({error})") from error


@_codec()
def gunzip(packed: bytes) -> bytes:
    def chunks() -> Iterator[bytes]:
        whole, at = memoryview(packed), 0
        while at < len(whole):  # gzip treats several members that follow each other as one
            member, fed = zlib.decompressobj(_GZIP), _FIRST_FED
            while not member.eof and at < len(whole):
                # zlib copies the bytes after a member out of its input. If the input were always the whole rest, a
                # sender could put in so many empty members that the copies take minutes.
                some = whole[at : at + fed]
                yield member.decompress(some, CHUNK)
                at += len(some) - len(member.unconsumed_tail) - len(member.unused_data)
                fed = min(2 * fed, CHUNK)

    return _joined(chunks())


@_codec()
def unsnappy(packed: bytes) -> bytes:
    _check(sum(map(cramjam.snappy.decompress_raw_len, _snappy_blocks(packed))))
    return bytes(codec.snappy_decode(packed))


@_codec()
def unlz4(packed: bytes) -> bytes:
    def chunks() -> Iterator[bytes]:
        frame = lz4.frame.LZ4FrameDecompressor()
        yield frame.decompress(packed, CHUNK)
        while not frame.eof and not frame.needs_input:
            yield frame.decompress(b"", CHUNK)

    return _joined(chunks())


@_codec()
def unzstd(packed: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as unfolded:
        return _joined(iter(lambda: unfolded.read(CHUNK), b""))


def _joined(chunks: Iterator[bytes]) -> bytes:
    found, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        _check(size)
        found.append(chunk)
    return b"".join(found)


def _check(size: int) -> None:
    if size > MOST_BYTES:
        raise Unreadable(f"it unfolds to more than {MOST_BYTES} bytes (MOST_BYTES in stream/kafka/decompression.py)")


def _snappy_blocks(packed: bytes) -> Iterator[bytes]:
    if not codec._detect_xerial_stream(packed):  # aiokafka's `snappy_decode` decides in the same way
        yield packed
        return
    at = _XERIAL_HEAD
    while at < len(packed):
        (size,) = _SIZE.unpack_from(packed, at)
        at += _SIZE.size
        yield packed[at : at + size]
        at += size
