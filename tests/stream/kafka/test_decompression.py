"""Decompression: what producers fold is unfolded, and what would not end is refused before it fills the memory."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import cramjam
import lz4.frame
import pytest
import zstandard
from aiokafka import codec

from stream.kafka.records import decompression
from stream.kafka.records.decompression import MOST_BYTES, Unreadable

Fold = Callable[[bytes], bytes]
Unfold = Callable[[bytes], bytes]

FOLDED: Final[dict[str, tuple[Fold, Unfold]]] = {
    "gzip": (gzip.compress, decompression.gunzip),
    "gzip, members": (lambda raw: gzip.compress(raw[:7]) + gzip.compress(raw[7:]), decompression.gunzip),
    "gzip, thousands of members": (lambda raw: gzip.compress(b"") * 9_000 + gzip.compress(raw), decompression.gunzip),
    "snappy": (lambda raw: bytes(cramjam.snappy.compress_raw(raw)), decompression.unsnappy),
    "snappy, as Java does it": (codec.snappy_encode, decompression.unsnappy),
    "lz4": (codec.lz4_encode, decompression.unlz4),
    "lz4, linked and sized": (lz4.frame.compress, decompression.unlz4),
    "zstd": (codec.zstd_encode, decompression.unzstd),
    "zstd, sized": (zstandard.compress, decompression.unzstd),
    "zstd, of no stated size": (
        zstandard.ZstdCompressor(write_content_size=False).compress,
        decompression.unzstd,
    ),
    "zstd, frames": (lambda raw: codec.zstd_encode(raw[:7]) + codec.zstd_encode(raw[7:]), decompression.unzstd),
}
PEAK = Path("/proc/self/clear_refs")  # Linux: 5 in it sets the process's peak back to what it has now


@pytest.mark.parametrize("name", FOLDED)
@pytest.mark.parametrize("size", [8, 70_000, 1 << 18, (3 << 18) + 1, MOST_BYTES])
def test_what_was_folded_is_unfolded(name: str, size: int) -> None:
    fold, unfold = FOLDED[name]
    raw = bytes(range(256)) * (size // 256 + 1)
    assert unfold(fold(raw[:size])) == raw[:size]


@pytest.mark.parametrize("name", FOLDED)
def test_what_unfolds_to_a_byte_too_much_is_refused(name: str) -> None:
    fold, unfold = FOLDED[name]
    with pytest.raises(Unreadable, match="unfolds to more"):
        unfold(fold(bytes(MOST_BYTES + 1)))


@pytest.mark.skipif(not PEAK.exists(), reason="needs Linux, to see what memory a codec takes")
@pytest.mark.parametrize("name", FOLDED)
def test_what_unfolds_to_much_more_is_refused_before_it_is_in_memory(name: str) -> None:
    """cramjam's gzip would raise the same error, after it has unfolded everything: up to its version 2.13 it does."""
    fold, unfold = FOLDED[name]
    folded = fold(bytes(8 * MOST_BYTES))
    PEAK.write_text("5")
    before = memory_bytes("VmRSS")
    with pytest.raises(Unreadable, match="unfolds to more"):
        unfold(folded)
    assert memory_bytes("VmHWM") - before < 2.5 * MOST_BYTES


def memory_bytes(name: str) -> int:
    """The process's, of this name in /proc."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines[name].split()[0])


def test_snappy_blocks_of_java_are_refused_that_state_a_size_beyond_their_end() -> None:
    head = codec.snappy_encode(b"")
    for size in (1, 0x7FFFFFFF, 0xFFFFFFFC):  # the last is -4 to those who read it with a sign
        with pytest.raises(Unreadable, match="damaged"):
            decompression.unsnappy(head + struct.pack(">I", size))
    with pytest.raises(Unreadable, match="damaged"):
        decompression.unsnappy(head + b"\0\0")


class Counting:
    """zlib, and how many bytes it was fed: it copies what is behind a member out of them."""

    error = zlib.error

    def __init__(self) -> None:
        self.fed = 0

    def decompressobj(self, bits: int) -> Any:
        real, count = zlib.decompressobj(bits), self._count

        class Member:
            def decompress(self, some: bytes, most: int) -> bytes:
                count(len(some))
                return real.decompress(some, most)

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        return Member()

    def _count(self, fed: int) -> None:
        self.fed += fed


@pytest.mark.parametrize(("raw", "members"), [(b"", 5_000), (b"x", 5_000), (bytes(range(256)) * 40, 1_000)])
def test_what_gzip_is_fed_grows_with_the_batch_and_not_with_its_square(
    monkeypatch: pytest.MonkeyPatch, raw: bytes, members: int
) -> None:
    """A batch of 1 MB may hold 50,000 empty members. Fed all that was left at each, zlib copied 25 GB."""
    counting = Counting()
    monkeypatch.setattr(decompression, "zlib", counting)
    folded = gzip.compress(raw, mtime=0) * members
    assert decompression.gunzip(folded) == raw * members
    assert counting.fed <= 8 * len(folded)


@pytest.mark.parametrize("unfold", dict.fromkeys(unfold for _, unfold in FOLDED.values()))
def test_what_no_codec_made_is_unreadable(unfold: Unfold) -> None:
    with pytest.raises(Unreadable, match="damaged"):
        unfold(b"\x1f\x8bno such thing, but some bytes")
