"""Connections beyond the limit, and those that send nothing, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import raw_client
from aiohttp import web

from stream.config.http_access import Address
from stream.http.limits import Connections
from stream.http.server import HttpServer

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
PATIENCE_S = 30.0


@asynccontextmanager
async def waiting_server(connections: Connections, go_on: asyncio.Event) -> AsyncIterator[tuple[str, list[str]]]:
    """Its address, and the paths of the requests that wait for an answer or have one."""
    begun: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        connections.begin(request)
        begun.append(request.path)
        await go_on.wait()
        connections.end(request)
        return web.Response(text="done")

    server = HttpServer(answer, connections)
    address = await server.start(Address("127.0.0.1", 0))
    try:
        yield f"http://{address}", begun
    finally:
        go_on.set()
        await server.stop()


async def test_where_all_are_busy_the_newest_is_closed_and_the_others_are_answered() -> None:
    connections, go_on = Connections(2, quiet_s=10 * PATIENCE_S), asyncio.Event()
    async with waiting_server(connections, go_on) as (url, begun), asyncio.timeout(PATIENCE_S):
        busy = [await raw_client.connect(url) for _ in range(2)]
        for _, writer in busy:
            writer.write(REQUEST)
        while len(begun) < 2:  # noqa: ASYNC110 - it is a list, and tells nobody
            await asyncio.sleep(0.01)
        reader, _ = await raw_client.connect(url)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert connections.closed == 1
        go_on.set()
        for reader, writer in busy:
            assert b"200 OK" in await reader.readline()
            writer.close()


async def test_a_connection_is_closed_that_sends_no_request_and_one_that_waits_for_its_answer_is_not() -> None:
    connections, go_on = Connections(10, quiet_s=0.5), asyncio.Event()
    async with waiting_server(connections, go_on) as (url, begun), asyncio.timeout(PATIENCE_S):
        asks, says_nothing = [await raw_client.connect(url) for _ in range(2)]
        asks[1].write(REQUEST)
        with suppress(ConnectionResetError):
            assert await says_nothing[0].read() == b""
        assert begun == ["/"]
        go_on.set()
        assert b"200 OK" in await asks[0].readline()
        asks[1].close()


async def test_a_connection_ends_at_the_latest_when_its_time_is_over() -> None:
    async with (
        waiting_server(Connections(10, lifetime_s=0.5), asyncio.Event()) as (url, _),
        asyncio.timeout(PATIENCE_S),
    ):
        reader, writer = await raw_client.connect(url)
        writer.write(REQUEST)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
