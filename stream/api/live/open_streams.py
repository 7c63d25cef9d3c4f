"""The streams that are open: how many, and how each ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from aiohttp import hdrs, web

from stream.api.http.problems import Refusal
from stream.api.live.sending import Slow
from stream.api.metrics import Metrics


class OpenStreams:
    """The streams of one server."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._most = most
        self._metrics = metrics
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    async def run(self, request: web.Request, kind: str, stream: Coroutine[Any, Any, None]) -> None:
        """Runs a stream until its client goes, or is dropped because it takes nothing, or the server stops. Raises
        Refusal if too many are open."""
        if len(self._tasks) >= self._most:
            stream.close()
            raise Refusal("busy", f"{self._most} streams are open", headers={hdrs.RETRY_AFTER: "30"})
        task = asyncio.ensure_future(stream)
        self._tasks.add(task)
        self._metrics.opened(kind)
        dropped = False
        try:
            await task
        except Slow:
            dropped = True
            if request.transport is not None:
                request.transport.abort()
        finally:
            task.cancel()
            self._tasks.discard(task)
            self._metrics.closed(kind, dropped=dropped)

    async def close(self) -> None:
        """Ends all streams: their clients connect again, elsewhere."""
        for task in list(self._tasks):
            task.cancel()
        for task in list(self._tasks):
            with suppress(asyncio.CancelledError, ConnectionError, Slow):
                await task
