"""Bounds what clients may take: the requests of each by a token bucket, and the connections of a server.

Connections that send nothing are closed, and the idlest one where there are too many: aiohttp bounds neither.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

QUIET_S: Final = 10.0  # from its opening to its first request; after an answer, aiohttp itself waits `keep_alive_s`
MAX_CLIENTS: Final = 10_000  # whose buckets are kept; of 100 bytes each


class Connections:
    """Bounds the connections of one server.

    A connection is idle unless a request of it is under way. One beyond the limit takes the place of the one that has
    been idle for longest; if none is, it is closed itself. So whoever opens connections and sends nothing keeps nobody
    out.
    """

    def __init__(self, most: int, quiet_s: float | None = None, lifetime_s: float | None = None) -> None:
        """Takes the most connections at once, the longest time until the first request (None: QUIET_S), and the longest
        that a connection may live at all (None: without an end)."""
        self._most = most
        self._quiet_s = quiet_s
        self._lifetime_s = lifetime_s
        self._new: set[RequestHandler] = set()  # that have sent no request yet
        self._idle: dict[RequestHandler, asyncio.Transport] = {}  # in the order in which they became idle
        self.closed = 0

    def watch(self, server: web.Server) -> None:
        """Bounds the connections of this server from now on. Call it before the server listens."""
        made, lost = server.connection_made, server.connection_lost

        def open_one(handler: RequestHandler, transport: asyncio.Transport) -> None:
            made(handler, transport)
            self._begin(handler, transport)
            if len(server.connections) > self._most:
                self._close(next(iter(self._idle)))

        def lose_one(handler: RequestHandler, exc: BaseException | None = None) -> None:
            self._new.discard(handler)
            self._idle.pop(handler, None)
            lost(handler, exc)

        server.connection_made, server.connection_lost = open_one, lose_one  # type: ignore[method-assign]

    def _begin(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        self._new.add(handler)
        self._idle[handler] = transport
        loop = asyncio.get_running_loop()
        loop.call_later(QUIET_S if self._quiet_s is None else self._quiet_s, self._close_if_new, handler)
        if self._lifetime_s is not None:
            loop.call_later(self._lifetime_s, transport.abort)

    def _close_if_new(self, handler: RequestHandler) -> None:
        if handler in self._new and handler in self._idle:
            self._close(handler)

    def _close(self, handler: RequestHandler) -> None:
        # Each one beyond the limit closes another: a connection is counted until the loop's next turn, and many may
        # come in one. Nor at once: aiohttp starts the task of a new one only after `connection_made` returns.
        self.closed += 1
        asyncio.get_running_loop().call_soon(self._idle.pop(handler).abort)

    def begin(self, request: web.BaseRequest) -> None:
        """Notes that a request is under way. A server that reads bodies before it knows who sends them notes it when
        the body is whole: else slow bodies would keep out who sends a signature."""
        self._new.discard(request.protocol)
        self._idle.pop(request.protocol, None)

    def end(self, request: web.BaseRequest) -> None:
        """Notes that it is answered."""
        self._new.discard(request.protocol)
        if request.protocol.transport is not None:
            self._idle.pop(request.protocol, None)  # it is the last in order now
            self._idle[request.protocol] = request.protocol.transport


class Buckets:
    """A bucket for each client, with `burst` tokens at first and `rate_per_s` more every second, up to `burst`. Time is
    an argument."""

    def __init__(self, rate_per_s: float, burst: float, most: int = MAX_CLIENTS) -> None:
        if rate_per_s <= 0 or burst < 1:
            raise ValueError(f"a rate above 0 and a burst of at least 1 are expected, got {rate_per_s} and {burst}")
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._most = most
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when that was

    def take(self, client: str, now_s: float) -> float:
        """Takes a token of this client, and returns 0. If there is none, takes nothing, and returns in how many seconds
        there will be one."""
        tokens, then_s = self._clients.pop(client, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - then_s) * self._rate_per_s)
        wait_s = 0.0
        if tokens >= 1:
            tokens -= 1
        else:
            wait_s = (1 - tokens) / self._rate_per_s
        self._clients[client] = tokens, now_s  # the last in order: who asks seldom is forgotten first
        if len(self._clients) > self._most:
            self._clients.popitem(last=False)
        return wait_s

    def __len__(self) -> int:
        return len(self._clients)
