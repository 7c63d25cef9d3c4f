"""The streams that are open: how many, of whom, and how each ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from aiohttp import hdrs, web

from stream.api.http.application import Gate
from stream.api.live.sending import Slow
from stream.http.problems import Refusal


class OpenStreams:
    """The streams of one server. One client may have half of them, so that it leaves some to others."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._most_of_one = max(1, most // 2)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._of_client: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._tasks)

    async def run(self, request: web.Request, gate: Gate, kind: str, stream: Coroutine[Any, Any, None]) -> None:
        """Runs a stream until its client goes, or is dropped because it takes nothing, or the server stops. Raises
        Refusal if too many are open."""
        client = gate.client(request)
        if len(self._tasks) >= self._most or self._of_client[client] >= self._most_of_one:
            stream.close()
            whose = f"{self._most} streams" if len(self._tasks) >= self._most else f"{self._most_of_one} of yours"
            raise Refusal("busy", f"{whose} are open", headers={hdrs.RETRY_AFTER: "30"})
        task = asyncio.ensure_future(stream)
        self._tasks.add(task)
        self._of_client[client] += 1
        gate.metrics.count_opened(kind)
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
            self._of_client[client] -= 1
            self._of_client += Counter()  # forgets those that have none
            gate.metrics.count_closed(kind, dropped=dropped)

    async def close(self) -> None:
        """Ends all streams: their clients connect again, elsewhere."""
        for task in list(self._tasks):
            task.cancel()
        for task in list(self._tasks):
            with suppress(asyncio.CancelledError, ConnectionError, Slow):
                await task
