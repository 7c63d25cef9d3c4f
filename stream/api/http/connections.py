"""Closes connections beyond the limit, and those that were opened and send no request. aiohttp bounds neither."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, Final

from aiohttp import web

SWEEP_S: Final = 1.0
QUIET_S: Final = 10.0  # from its opening, or its last answer, to the next request's headers
KEEP_ALIVE_S: Final = 30.0  # after an answer, aiohttp itself waits so long for the next request


class Connections:
    """The connections of one server."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._busy: dict[Any, int] = {}  # by connection: requests under way
        self._since_s: dict[Any, float] = {}  # by connection: quiet since
        self.closed = 0

    def begin(self, request: web.BaseRequest) -> None:
        """Notes that a request of its connection is under way."""
        self._busy[request.protocol] = self._busy.get(request.protocol, 0) + 1

    def end(self, request: web.BaseRequest) -> None:
        self._busy[request.protocol] = self._busy.get(request.protocol, 1) - 1
        self._since_s[request.protocol] = time.monotonic()

    def sweep(self, connections: Iterable[Any], now_s: float) -> None:
        """Closes the quiet ones, and the newest beyond the limit that are not busy."""
        known = list(connections)
        excess = len(known) - self._most
        for one in reversed(known):
            if self._busy.get(one, 0):
                continue
            since_s = self._since_s.setdefault(one, now_s)
            quiet_s = KEEP_ALIVE_S if one in self._busy else QUIET_S
            if excess > 0 or now_s - since_s > quiet_s:
                excess -= 1
                self.closed += 1
                if one.transport is not None:
                    one.transport.abort()
        for gone in (self._busy.keys() | self._since_s.keys()).difference(known):
            self._busy.pop(gone, None)
            self._since_s.pop(gone, None)

    async def run(self, server: web.Server) -> None:
        """Sweeps until it is cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep(server.connections, time.monotonic())
