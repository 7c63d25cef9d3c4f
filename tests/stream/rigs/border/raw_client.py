"""Connections that speak no HTTP but by hand. Tests import this; it tests nothing itself."""

from __future__ import annotations

import asyncio
import socket

from yarl import URL

from stream.api.http.server import Server


async def connect(base: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Opens a connection to the server of a URL."""
    at = URL(base)
    return await asyncio.open_connection(at.host, at.port)


async def watch_without_reading(base: str, server: Server, path: str) -> asyncio.StreamWriter:
    """Asks for the live feed and reads nothing of it. The buffers of both sides are small, and so full soon."""
    assert server._listening is not None
    for site in server._listening._runner.sites:
        for one in site._server.sockets:  # type: ignore[attr-defined]
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)  # those that it accepts have it, too
    at = URL(base)
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)  # of effect before it connects
    own.setblocking(False)
    await asyncio.get_running_loop().sock_connect(own, (at.host, at.port))
    _, writer = await asyncio.open_connection(sock=own, limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await writer.drain()
    return writer
