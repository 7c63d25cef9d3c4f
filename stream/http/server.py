"""Listens at an address, with bounds on what a client may send."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from stream.config.http_access import Address, unusable
from stream.http.limits import Connections

KEEP_ALIVE_S: Final = 30.0  # after an answer, until the next request
MAX_LINE_BYTES: Final = 8_190  # of the request line: sixteen horizons and fifty entities fit
MAX_HEADER_BYTES: Final = 4_096  # of one header; a token or a signature fits
MAX_HEADERS: Final = 64

Answers = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class HttpServer:
    """The server of an application, or of one function that answers every request."""

    def __init__(
        self,
        answers: web.Application | Answers,
        connections: Connections,
        *,
        stop_s: float = 1.0,
        line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        """Takes also how long requests under way may take at the end, and how long a request line may be."""
        options: dict[str, Any] = {
            "access_log": None,  # it would say who asks where whom is
            "logger": _http_logger(),
            "keepalive_timeout": KEEP_ALIVE_S,
            "lingering_time": 0.0,
            "max_line_size": line_bytes,
            "max_field_size": MAX_HEADER_BYTES,
            "max_headers": MAX_HEADERS,
            "auto_decompress": False,
        }
        self._runner: web.BaseRunner = (
            web.AppRunner(answers, shutdown_timeout=stop_s, **options)
            if isinstance(answers, web.Application)
            else web.ServerRunner(web.Server(answers, **options), shutdown_timeout=stop_s)
        )
        self._connections = connections

    async def start(self, address: Address, what: str = "listen") -> Address:
        """Listens, and returns the address with its real port. Raises OSError, which says what cannot be done there."""
        await self._runner.setup()
        server = self._runner.server
        assert server is not None, "it was set up"
        self._connections.watch(server)
        try:
            await web.TCPSite(self._runner, address.host, address.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise unusable(address, error, what) from error
        return address._replace(port=self._runner.addresses[0][1])

    @property
    def connections(self) -> int:
        server = self._runner.server
        return 0 if server is None else len(server.connections)

    async def stop(self) -> None:
        """Closes the address; requests under way are answered, if they take no longer than they may."""
        await self._runner.cleanup()


class _NotOfClients(logging.Filter):
    """Leaves out requests that aiohttp cannot parse: it logs them as errors, with the bytes at fault, and in a URL or a
    header of somebody's tracker that may be where they are. Their clients are answered 400."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


_NOT_OF_CLIENTS = _NotOfClients()


def _http_logger() -> logging.Logger:
    """Returns the logger to give to a server of aiohttp."""
    logger = logging.getLogger("stream.http")
    logger.addFilter(_NOT_OF_CLIENTS)  # one that it has already is not added again
    return logger
