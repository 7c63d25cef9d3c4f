"""A Kafka that can be away, for the transports of `stream.ingest`. Tests import this; it tests nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from stream.adapters.live.parsed import Parsed, Skip
from stream.ingest.publishing.sink import Unavailable
from stream.wire import Ping, Reject

PATIENCE_S = 120.0  # a bound on waiting, not a claim about speed


class SinkInMemory:
    """Takes what a sink takes, in order, while it is `there`. The second side of `publishing.sink.Sink`."""

    tracer = None

    def __init__(self) -> None:
        self.pings: list[Ping] = []
        self.letters: list[tuple[Reject, bytes]] = []
        self.skips: list[Skip] = []
        self.origins: set[str] = set()
        self.adapters: set[str | None] = set()
        self.refused = 0
        self.fails: Exception | None = None  # raised of whatever is given
        self.came, self.go_on = asyncio.Event(), asyncio.Event()  # something; and it need not wait
        self.go_on.set()
        self._there = asyncio.Event()
        self._there.set()

    def go_away(self) -> None:
        self._there.clear()

    def come_back(self) -> None:
        self._there.set()

    async def take(
        self, parsed: Sequence[Parsed], raw: bytes, origin: str, *, adapter: str | None = None, request: object = None
    ) -> None:
        self.came.set()
        await asyncio.sleep(0)
        await self.go_on.wait()
        if self.fails is not None:
            raise self.fails
        if not self._there.is_set():
            self.refused += 1
            raise Unavailable("away")
        self.origins.add(origin)
        self.adapters.add(adapter)
        for one in parsed:
            if isinstance(one, Ping):
                self.pings.append(one)
            elif isinstance(one, Reject):
                self.letters.append((one, raw))
            else:
                self.skips.append(one)

    async def wait_until_available(self) -> None:
        await self._there.wait()

    @property
    def seen(self) -> list[tuple[str, int]]:
        return [(ping.entity_id, ping.ts) for ping in self.pings]


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - what is waited for is of any kind
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[asyncio.Task[None]]:
    """Work that goes on beside the block, and ends with it if not before."""

    async def run() -> None:
        await work

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
