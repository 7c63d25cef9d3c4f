"""Lines of a serial port. A receiver sends whether or not somebody reads, so what came is held (`holding`)."""

from __future__ import annotations

import asyncio
from typing import Final

import serial_asyncio_fast

from stream.ingest.feeds.framing import Lines
from stream.ingest.feeds.holding import Held
from stream.ingest.feeds.reading import Read
from stream.ingest.publishing.sink import Sink
from stream.ingest.source import Source

CHUNK_BYTES: Final = 4096
RETRY_S: Final = 2.0  # a receiver that was unplugged comes back under the same name, or not at all


async def serial_port(
    path: str,
    baud: int,
    read: Read,
    sink: Sink,
    source: Source,
    most: int,
) -> None:
    """Reads a port for ever, and opens it again when it is back. Raises Refused if a broker denies access."""
    held = Held(source, most)
    await held.send_what(_listen(path, baud, held, source), read, sink, f"serial:{path}")


async def _listen(path: str, baud: int, held: Held, source: Source) -> None:
    while True:
        try:
            reader, writer = await serial_asyncio_fast.open_serial_connection(url=path, baudrate=baud)
        except (OSError, ValueError) as error:  # pyserial's own errors are OSErrors
            source.away(f"{path}: {error}")
        else:
            source.back()
            try:
                await _hear(reader, held)
                source.away(f"{path}: it has ended")
            except OSError as error:
                source.away(f"{path}: {error}")
            finally:
                writer.close()
        await asyncio.sleep(RETRY_S)


async def _hear(reader: asyncio.StreamReader, held: Held) -> None:
    lines, begun = Lines(), False
    while data := await reader.read(CHUNK_BYTES):
        if not begun:  # we came in the middle of a sentence, which is no error of the receiver
            _, begun_by, data = data.partition(b"\n")
            begun = bool(begun_by)
        for line in lines.push(data):
            held.put(line)
