"""Reads GPS receivers: a serial port, or a gpsd. Neither can be held back, so what came is held (`holding`): a receiver
sends whether or not somebody reads, and gpsd lets go of a client that does not read."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from stream.config.http_access import Address
from stream.ingest.feeds.holding import HoldingQueue
from stream.ingest.feeds.lines import Lines, Read
from stream.ingest.feeds.sockets import CHUNK_BYTES, keep_connected
from stream.ingest.publishing.sink import Sink
from stream.ingest.source import Source

MAX_REPORT_BYTES: Final = 16 << 10  # GPS_JSON_RESPONSE_MAX of gpsd is 10,240
RETRY_S: Final = 2.0  # a receiver that was unplugged comes back under the same name, or not at all


async def watch_gpsd(address: Address, device: str | None, read: Read, sink: Sink, source: Source, most: int) -> None:
    """Watches a gpsd for ever: all of its receivers, or one `device`. Raises Refused if a broker denies access."""
    held = HoldingQueue(source, most)
    wanted = {"enable": True, "json": True} | ({"device": device} if device else {})

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"?WATCH=" + msgspec.json.encode(wanted) + b"\n")  # the command that asks for reports as JSON
        lines = Lines(MAX_REPORT_BYTES)
        while data := await reader.read(CHUNK_BYTES):
            for line in lines.push(data):
                held.put(line)

    connected = keep_connected(
        f"gpsd at {address}", lambda: asyncio.open_connection(address.host, address.port), hear, source, RETRY_S
    )
    await held.send_what(connected, read, sink, f"gpsd:{address}")


async def read_serial_port(path: str, baud: int, read: Read, sink: Sink, source: Source, most: int) -> None:
    """Reads a port for ever, and opens it again when it is back. Raises Refused if a broker denies access."""
    import serial_asyncio_fast  # of the extra `ingest`, which gpsd does not need

    held = HoldingQueue(source, most)

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines, begun = Lines(), False
        while data := await reader.read(CHUNK_BYTES):
            if not begun:  # we came in the middle of a sentence, which is no error of the receiver
                _, begun_by, data = data.partition(b"\n")
                begun = bool(begun_by)
            for line in lines.push(data):
                held.put(line)

    def connect() -> Any:
        return serial_asyncio_fast.open_serial_connection(url=path, baudrate=baud)

    await held.send_what(keep_connected(path, connect, hear, source, RETRY_S), read, sink, f"serial:{path}")
