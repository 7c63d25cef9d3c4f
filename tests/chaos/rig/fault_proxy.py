"""A way to a server that can be cut, delayed or narrowed. Knows bytes; knows neither Kafka nor Redis.

Not toxiproxy: a CI machine would have to build it first, and these are all of its toxics that we need. A cut way loses
nothing and closes nothing: bytes wait, as packets do that are sent again until somebody acknowledges them, and whoever
waits must give up by a timeout of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from stream.up.embedded import HOST

CHUNK: Final = 64 * 1024
ON_THE_WAY: Final = 256  # chunks in one direction of one connection; beyond them TCP holds the sender back
T = TypeVar("T")


class Proxies:
    """The thread in which all proxies run. A daemon: it ends with the process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    def to(self, port: int) -> Proxy:
        """A new way to a loopback port, open."""
        proxy = Proxy(port)
        self._do(proxy.listen())
        return proxy

    def close(self) -> None:
        """Every connection breaks."""
        self._do(_end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


async def _end_all() -> None:
    """Every task of this loop but this one."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Proxy:
    """One way. What is set holds for open connections, too, from the next chunk on."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._loop: asyncio.AbstractEventLoop
        self._open: asyncio.Event
        self._delay_s = 0.0
        self._bytes_per_s = float("inf")
        self._connections: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        self._loop, self._open = asyncio.get_running_loop(), asyncio.Event()
        self._open.set()
        server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = int(server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._open.clear)

    def delay(self, seconds: float) -> None:
        """Every byte arrives so much later, in each direction."""
        self._delay_s = seconds

    def throttle(self, bytes_per_s: float) -> None:
        """In each direction of each connection."""
        self._bytes_per_s = bytes_per_s

    def heal(self) -> None:
        self._delay_s, self._bytes_per_s = 0.0, float("inf")
        self._loop.call_soon_threadsafe(self._open.set)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # asyncio keeps no strong reference to the task that runs us.
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        try:
            await self._open.wait()
            back, forth = await asyncio.open_connection(HOST, self._target)
        except OSError:
            writer.close()
            return
        ways = [asyncio.create_task(self._carry(reader, forth)), asyncio.create_task(self._carry(back, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for end in (writer, forth):
            end.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, until either end closes. Chunks wait side by side: a delay is no limit of speed."""
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(ON_THE_WAY)
        arriving = asyncio.create_task(self._arrive(on_the_way, writer))
        try:
            with suppress(OSError):
                while chunk := await reader.read(CHUNK):
                    await on_the_way.put((self._loop.time() + self._delay_s, chunk))
                await on_the_way.put((0.0, b""))
                await arriving
        finally:
            arriving.cancel()

    async def _arrive(self, on_the_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due_s, chunk = await on_the_way.get()
            if not chunk:
                return
            await asyncio.sleep(max(0.0, due_s - self._loop.time(), len(chunk) / self._bytes_per_s))
            await self._open.wait()
            writer.write(chunk)
            await writer.drain()
