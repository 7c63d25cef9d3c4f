"""Serves pages from a thread of its own, beside work that does not yield: training, and calls that block.

The pages still answer while that work hangs, so a liveness probe gets an answer that says what is wrong, and does not
only get none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread
from typing import Final

from stream.config.http_access import Address
from stream.http.pages import Page, serving

START_S: Final = 30.0  # a bound: to listen takes milliseconds
END_S: Final = 5.0


@contextmanager
def serving_beside(address: Address | None, secret: str | None, pages: Mapping[str, Page]) -> Iterator[Address | None]:
    """Serves `pages`, by path, until the end of the block. Yields the address with its real port.

    Without an address it serves nothing, and yields None. Raises OSError if the address cannot be used.
    """
    if address is None:
        yield None
        return
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Address]] = Future()

    async def serve() -> None:
        over = asyncio.Event()
        async with serving(address, secret, pages) as real:
            begun.set_result((asyncio.get_running_loop(), over, real))
            await over.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if begun.done():
                raise
            begun.set_exception(error)

    thread = Thread(target=run, name="pages", daemon=True)  # daemon: a hung page must not keep a finished process
    thread.start()
    loop, over, real = begun.result(START_S)
    try:
        yield real
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(END_S)
