"""Holds what came from a source that cannot be held back, such as UDP, until Kafka has it: up to a bound.

Beyond the bound the oldest is lost, because of a moving thing the newest positions say most. Losses are counted and
logged.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any, Final

from stream.ingest.feeds.lines import Read, ReceivedBytes
from stream.ingest.publishing.delivering import deliver_pieces
from stream.ingest.publishing.sink import Sink
from stream.ingest.running import run_together
from stream.ingest.source import Source

AT_ONCE: Final = 500  # things that are read at once: for that long, some 20 ms, nothing is received


class HoldingQueue:
    """Holds what came and Kafka does not have yet."""

    def __init__(self, source: Source, most: int) -> None:
        self._source = source
        self._most = most
        self._waiting: deque[ReceivedBytes] = deque()
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, raw: bytes, via: str = "") -> None:
        """Takes a thing that came now."""
        if len(self._waiting) >= self._most:
            self._waiting.popleft()
            self._source.lose(1)
        self._waiting.append(ReceivedBytes(raw, time.time_ns() // 1_000_000, via))
        self._some.set()

    async def send(self, read: Read, sink: Sink, origin: str) -> None:
        """Sends what comes, in its order, for ever. What waits when it is ended counts as lost.

        Raises Refused if a broker denies access.
        """
        some: list[ReceivedBytes] = []
        try:
            while True:
                await self._some.wait()
                some = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
                if not self._waiting:
                    self._some.clear()
                await deliver_pieces(sink, [piece for came in some for piece in read(came)], origin)
                some = []
        finally:
            if left := len(some) + len(self._waiting):
                self._source.lose(left)

    async def send_what(
        self,
        listening: Coroutine[Any, Any, None],
        read: Read,
        sink: Sink,
        origin: str,
    ) -> None:
        """Runs `listening`, which puts what comes here, and sends it, until one of the two raises."""
        await run_together(listening, self.send(read, sink, origin))
