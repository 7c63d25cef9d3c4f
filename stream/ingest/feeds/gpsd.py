"""Reports of gpsd. It lets go of a client that does not read, so what came is held (`holding`)."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from stream.config.http_access import Address
from stream.ingest.feeds.framing import Lines
from stream.ingest.feeds.holding import Held
from stream.ingest.feeds.reading import Read
from stream.ingest.feeds.sockets import CHUNK_BYTES, CONNECT_S
from stream.ingest.publishing.sink import Sink
from stream.ingest.source import Source

MAX_REPORT_BYTES: Final = 16 << 10  # GPS_JSON_RESPONSE_MAX of gpsd is 10,240
RETRY_S: Final = 2.0


async def gpsd(
    address: Address,
    device: str | None,
    read: Read,
    sink: Sink,
    source: Source,
    most: int,
) -> None:
    """Watches a gpsd for ever: all of its receivers, or one `device`. Raises Refused if a broker denies access."""
    held = Held(source, most)
    await held.send_what(_listen(address, device, held, source), read, sink, f"gpsd:{address}")


def watch(device: str | None) -> bytes:
    """Returns the command that asks for reports as JSON."""
    wanted = {"enable": True, "json": True} | ({"device": device} if device else {})
    return b"?WATCH=" + msgspec.json.encode(wanted) + b"\n"


async def _listen(address: Address, device: str | None, held: Held, source: Source) -> None:
    while True:
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(address.host, address.port)
        except (OSError, TimeoutError) as error:
            source.away(f"gpsd at {address}: {error or 'no answer'}")
        else:
            try:
                writer.write(watch(device))
                lines = Lines(MAX_REPORT_BYTES)
                while data := await reader.read(CHUNK_BYTES):
                    source.back()
                    for line in lines.push(data):
                        held.put(line)
                source.away(f"gpsd at {address} closed the connection")
            except OSError as error:
                source.away(f"gpsd at {address}: {error}")
            finally:
                writer.close()
        await asyncio.sleep(RETRY_S)
