"""Standard input, in the event loop, whether it is a pipe, a terminal or a file."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from typing import Final

CHUNK_BYTES: Final = 64 << 10
MAX_CHUNKS: Final = 4  # that wait; then it is not read


async def chunks() -> AsyncIterator[bytes]:
    """Yields what comes, until its end.

    A daemon thread reads it, and not the event loop, which cannot wait for a file; nor one of its pool, whose threads
    Python waits for at the end, as a silent pipe never ends. It reads the descriptor: the lock of `sys.stdin`, held by
    a thread that still waits, would end Python with a fatal error.
    """
    loop = asyncio.get_running_loop()
    came: asyncio.Queue[bytes | OSError] = asyncio.Queue(MAX_CHUNKS)
    descriptor = sys.stdin.fileno()

    def put(item: bytes | OSError) -> None:
        asyncio.run_coroutine_threadsafe(came.put(item), loop).result()

    def read() -> None:
        try:
            while data := os.read(descriptor, CHUNK_BYTES):
                put(data)
            put(b"")
        except OSError as error:
            put(error)
        except RuntimeError:  # the loop is closed: nobody listens
            return

    threading.Thread(target=read, name="standard input", daemon=True).start()
    while item := await came.get():
        if isinstance(item, OSError):
            raise item
        yield item
