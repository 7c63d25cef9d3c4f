"""Sends a page what is new, as server-sent events: changes of entities at most five times a second, and the fleet's
figures once a second.

Nothing is buffered for a page but one piece of an event (`stream.api.map.streaming.view`). One that does not take a
piece within SLOW_S is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Final

from aiohttp import web

from stream.api.live.sending import in_time
from stream.api.map.streaming.view import View

UPDATES_PER_S: Final = 5
DELTA_S: Final = 1 / UPDATES_PER_S
FLEET_S: Final = 1.0
COMMENT_S: Final = 15.0
RETRY_MS: Final = 2_000


class Page:
    """The connection to one page."""

    def __init__(self, response: web.StreamResponse, count: Callable[[int], None]) -> None:
        self._response = response
        self._count = count

    async def write(self, raw: bytes) -> None:
        """Raises Slow, ConnectionError."""
        await in_time(self._response.write(raw))

    async def event(self, name: str, pieces: Iterator[bytes]) -> bool:
        """Sends an event, unless there is nothing in it. Returns whether there was. Raises as `write`."""
        sent = False
        for piece in pieces:
            head = b"" if sent else b"event: %s\ndata: " % name.encode()
            await self.write(head + piece)
            await asyncio.sleep(0)  # so that one large event does not hold up all others
            sent = True
        if sent:
            await self.write(b"\n\n")
            self._count(1)
        return sent


async def events(
    view: View,
    page: Page,
    now_ms: Callable[[], int],
    figures: Callable[[], bytes],
    clock_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Sends events until the page goes. Raises Slow."""
    fleet_s = commented_s = -COMMENT_S
    with suppress(ConnectionError):
        await page.write(b"retry: %d\n\n" % RETRY_MS)
        await page.event("snapshot", view.snapshot(now_ms()))
        while True:
            began_s = clock_s()
            if began_s - fleet_s >= FLEET_S:
                fleet_s = began_s
                await page.event("fleet", iter((figures(),)))
            if view.is_lost:
                await page.event("snapshot", view.snapshot(now_ms()))
            await page.event("delta", view.delta(now_ms()))
            if began_s - commented_s >= COMMENT_S:
                commented_s = began_s
                await page.write(b": here\n\n")
            await sleep(max(0.0, began_s + DELTA_S - clock_s()))
