"""How many connections there may be, and how many messages a second."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

IDLE_S: Final = 60.0  # a sender that has sent nothing for so long may connect again


class Rate:
    """Lets through `per_s` messages a second on average, and as many at once. Has no clock of its own."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._left = per_s
        self._at_s: float | None = None

    def allows(self, now_s: float) -> bool:
        if self._at_s is not None:
            self._left = min(self._per_s, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class LimitedServer(web.Server):
    """Keeps at most `most` connections. A further one takes the place of the one that has been idle for longest; if
    none is, it is closed.

    So whoever opens connections and sends nothing keeps nobody out.
    """

    def __init__(self, handler: Any, most: int, **more: Any) -> None:
        super().__init__(handler, keepalive_timeout=IDLE_S, **more)
        self._most = most
        self._idle: dict[RequestHandler, asyncio.Transport] = {}  # in the order in which they became idle

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._idle[handler] = transport
        if len(self.connections) > self._most:
            # Each further one closes another: a connection is counted until the loop's next turn, and many may come
            # in one. Nor at once: aiohttp starts the task of a new one only after this returns.
            oldest = next(iter(self._idle))
            asyncio.get_running_loop().call_soon(self._idle.pop(oldest).abort)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        self._idle.pop(handler, None)
        super().connection_lost(handler, exc)

    def begin(self, handler: RequestHandler) -> None:
        """Notes that a request has come whole on a connection. Until then it is as idle as one that sends nothing: else
        slow bodies would keep out who sends a signature."""
        self._idle.pop(handler, None)

    def end(self, handler: RequestHandler) -> None:
        """Notes that it is answered."""
        if handler.transport is not None and handler in self._connections:
            self._idle.pop(handler, None)  # it is the last in order now
            self._idle[handler] = handler.transport
