"""Runs a small HTTP server for programs that monitor a worker. It does not depend on the pages' content.

It answers GET and HEAD of the pages that it is given, answers 404 for other paths, and reads no body. A page that is
not open requires `Authorization: Bearer TOKEN`, if a token was set. The server runs in the worker's event loop, so
nobody may block it: a connection is one request and ends after CONNECTION_S at the latest, however slowly its client
writes or reads, and connections beyond MAX_CONNECTIONS are closed at once.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestHandler

from stream.config.http_access import TOKEN, Address, unusable
from stream.config.http_log import http_logger

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 16  # a few clients at once; each costs some kilobytes and no thread
CONNECTION_S: Final = 10.0  # a scrape takes milliseconds, and Prometheus itself gives up after 10 s
ANSWER_S: Final = 5.0
MAX_LINE_BYTES: Final = 1024
MAX_HEADER_BYTES: Final = 4096  # of one header; a token fits
MAX_HEADERS: Final = 32

# In Server, aiohttp would name itself and Python, with their versions.
HEADERS: Final = {"Server": "pathcast", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


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
    server = _Server(
        _RequestHandler(secret, pages).answer,
        access_log=None,
        logger=http_logger(),
        lingering_time=0.0,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        max_headers=MAX_HEADERS,
        auto_decompress=False,
    )
    try:
        listener = await asyncio.get_running_loop().create_server(
            server, address.host, address.port, backlog=MAX_CONNECTIONS
        )
    except OSError as error:
        raise unusable(address, error) from error
    try:
        yield address._replace(port=listener.sockets[0].getsockname()[1])
    finally:
        listener.close()
        await server.shutdown(timeout=0.5)


class _Server(web.Server):
    """Closes connections beyond MAX_CONNECTIONS, and every one after CONNECTION_S: aiohttp limits neither."""

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        loop = asyncio.get_running_loop()
        if len(self.connections) > MAX_CONNECTIONS:
            # aiohttp starts the handler's task only after this returns: aborted before, it fails, and is logged.
            loop.call_soon(transport.abort)
        else:
            loop.call_later(CONNECTION_S, transport.abort)


class _RequestHandler:
    """Answers each request with its page, or with a refusal."""

    def __init__(self, secret: str | None, pages: Mapping[str, Page]) -> None:
        self._secret = None if secret is None else secret.encode()
        self._pages = pages

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._answered(request)
        response.force_close()
        return response

    async def _answered(self, request: web.BaseRequest) -> web.Response:
        page = self._pages.get(request.path)
        if page is None:
            return _refusal(404, f"only {', '.join(self._pages)}")
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            return _refusal(405, "only GET and HEAD", Allow="GET, HEAD")
        if request.body_exists:
            return _refusal(413, "a body is not read")
        if not page.open and not self._knows(request.headers.get(hdrs.AUTHORIZATION, "")):
            return _refusal(401, "a token is needed", **{"WWW-Authenticate": "Bearer"})
        try:
            async with asyncio.timeout(ANSWER_S):
                status, content_type, body = await page.answer()
        except TimeoutError:
            return _refusal(503, "no answer in time")
        return web.Response(status=status, body=body, headers={**HEADERS, hdrs.CONTENT_TYPE: content_type})

    def _knows(self, authorization: str) -> bool:
        if self._secret is None:
            return True
        scheme, _, shown = authorization.partition(" ")
        # The comparison takes constant time, so that the duration of a refusal reveals nothing about the secret.
        same = hmac.compare_digest(shown.strip().encode(errors="surrogateescape"), self._secret)
        return same and scheme.lower() == "bearer"


def _refusal(status: int, why: str, **headers: Any) -> web.Response:
    return web.Response(status=status, text=f"{why}\n", headers={**HEADERS, **headers})
