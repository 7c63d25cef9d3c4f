"""Runs a small HTTP server for programs that monitor a worker. It does not depend on the pages' content.

It answers GET and HEAD of the pages that it is given, answers 404 for other paths, and reads no body. A page that is
not open requires `Authorization: Bearer TOKEN`, if a token was set. The server runs in the worker's event loop, so
nobody may block it: a connection is one request and ends after CONNECTION_S at the latest, however slowly its client
writes or reads, and there are at most MAX_CONNECTIONS.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiohttp import hdrs, web

from stream.config.http_access import TOKEN, Address
from stream.http.access import Access
from stream.http.limits import Connections
from stream.http.server import HttpServer

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 16  # a few clients at once; each costs some kilobytes and no thread
CONNECTION_S: Final = 10.0  # a scrape takes milliseconds, and Prometheus itself gives up after 10 s
ANSWER_S: Final = 5.0
MAX_LINE_BYTES: Final = 1024  # a path of ours


class Answer(NamedTuple):
    status: int
    content_type: str  # with the charset
    body: bytes


class Page(NamedTuple):
    answer: Callable[[], Awaitable[Answer]]
    open: bool  # clients without the token may read it, too


@asynccontextmanager
async def serving(address: Address, secret: str | None, pages: Mapping[str, Page]) -> AsyncIterator[Address]:
    """Serves `pages`, by path, until the end of the block. Yields the address with its real port.

    Raises OSError if the address cannot be used.
    """
    if secret is None and not address.loopback:
        log.warning("anybody who reaches %s may read the metrics: %s is not set", address, TOKEN)
    connections = Connections(MAX_CONNECTIONS, lifetime_s=CONNECTION_S)
    server = HttpServer(
        _RequestHandler(Access(secret), pages, connections).answer, connections, stop_s=0.5, line_bytes=MAX_LINE_BYTES
    )
    real = await server.start(address, "serve metrics")
    try:
        yield real
    finally:
        await server.stop()


class _RequestHandler:
    """Answers each request with its page, or with a refusal."""

    def __init__(self, access: Access, pages: Mapping[str, Page], connections: Connections) -> None:
        self._access = access
        self._pages = pages
        self._connections = connections

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self._connections.begin(request)
        response = await self._answer(request)
        self._access.sign(request, response.headers)
        response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        page = self._pages.get(request.path)
        if page is None:
            return _refusal(404, f"only {', '.join(self._pages)}")
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            return _refusal(405, "only GET and HEAD", Allow="GET, HEAD")
        if request.body_exists:
            return _refusal(413, "a body is not read")
        if not page.open and not self._access.knows(request):
            return _refusal(401, "a token is needed", **{"WWW-Authenticate": "Bearer"})
        try:
            async with asyncio.timeout(ANSWER_S):
                status, content_type, body = await page.answer()
        except TimeoutError:
            return _refusal(503, "no answer in time")
        return web.Response(status=status, body=body, headers={hdrs.CONTENT_TYPE: content_type})


def _refusal(status: int, why: str, **headers: Any) -> web.Response:
    return web.Response(status=status, text=f"{why}\n", headers=headers)
