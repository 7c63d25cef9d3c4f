"""Replays ships as an AIS receiver over TCP: recorded sentences, for whoever connects.

The sentences are in `ships.nmea.gz`, by the times of their TAG blocks. README.md beside it says where they are from.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from stream.config.http_access import Address, unusable
from stream.ingest.samples import Clock

SHIPS: Final = Path(__file__).with_name("ships.nmea.gz")
_TAGGED: Final = re.compile(rb"\\c:([0-9]+)\*[0-9A-F]{2}\\(.*)")


class Sentence(NamedTuple):
    """One recorded sentence, without its TAG block."""

    ms: int
    text: bytes


def recording() -> list[Sentence]:
    """Returns the sentences in the order of the file. One without a TAG block is of the time of the one before it."""
    found: list[Sentence] = []
    for line in gzip.decompress(SHIPS.read_bytes()).splitlines():
        tagged = _TAGGED.fullmatch(line)
        found.append(Sentence(int(tagged[1]) * 1000, tagged[2]) if tagged else Sentence(found[-1].ms, line))
    return found


def tag_sentence(sentence: Sentence, shift_ms: int) -> bytes:
    """Returns a line as a receiver sends it, with the shifted time in a TAG block."""
    tags = b"c:%d" % ((sentence.ms + shift_ms) // 1000)
    checksum = 0
    for byte in tags:
        checksum ^= byte
    return b"\\%s*%02X\\%s\r\n" % (tags, checksum, sentence.text)


async def serve(address: Address, speedup: float) -> asyncio.Server:
    """Listens at `address` until the server is closed. Each client gets the recording from its beginning; then its
    connection stays open. Raises OSError if the address cannot be used."""
    sentences = recording()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await _play(sentences, writer, speedup)
            await reader.read()  # until the client goes
        writer.close()

    try:
        return await asyncio.start_server(play, address.host, address.port)
    except OSError as error:
        raise unusable(address, error) from error


async def _play(sentences: Sequence[Sentence], writer: asyncio.StreamWriter, speedup: float) -> None:
    clock = Clock(sentences[0].ms, sentences[-1].ms, time.time_ns() // 1_000_000, speedup)
    for sentence in sentences:
        left_ms = clock.due_ms(sentence.ms) - time.time_ns() // 1_000_000
        if left_ms > 0:
            await writer.drain()
            await asyncio.sleep(left_ms / 1000)
        writer.write(tag_sentence(sentence, clock.shift_ms))
    await writer.drain()
