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

MAX_BYTES: Final = 64 << 20  # that wait; a datagram may have 64 KB, and is 100 bytes long where nobody means harm
AT_ONCE: Final = 500  # things that are read at once: for that long, some 20 ms, nothing is received


class HoldingQueue:
    """Holds what came and Kafka does not have yet."""

    def __init__(self, source: Source, most: int) -> None:
        self._source = source
        self._most = most
        self._waiting: deque[ReceivedBytes] = deque()
        self._bytes = 0  # of what waits
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, raw: bytes, via: str = "") -> None:
        """Takes a thing that came now."""
        while self._waiting and (len(self._waiting) >= self._most or self._bytes + len(raw) > MAX_BYTES):
            self._pop()
            self._source.lose(1)
        self._waiting.append(ReceivedBytes(raw, time.time_ns() // 1_000_000, via))
        self._bytes += len(raw)
        self._some.set()

    def _pop(self) -> ReceivedBytes:
        came = self._waiting.popleft()
        self._bytes -= len(came.raw)
        return came

    async def send(self, read: Read, sink: Sink, origin: str) -> None:
        """Sends what comes, in its order, for ever. What waits when it is ended counts as lost.

        Raises Refused if a broker denies access.
        """
        some: list[ReceivedBytes] = []
        try:
            while True:
                await self._some.wait()
                some = [self._pop() for _ in range(min(AT_ONCE, len(self._waiting)))]
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
