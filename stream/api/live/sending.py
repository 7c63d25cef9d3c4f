"""Sends a client what it watches, as server-sent events or through a WebSocket.

Nothing is buffered for a client but one page of messages (`stream.api.live.watching`). One that does not take its page
within SLOW_S is dropped. One that is only slower than the fleet gets the newest forecast of each entity, and not those
in between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import msgspec
from aiohttp import WSMsgType, web

from stream.api.events import ProblemMessage
from stream.api.live.newest import Newest
from stream.api.live.watching import PAGE, Message, Watch
from stream.http.problems import Refusal

SLOW_S: Final = 10.0
HEARTBEAT_S: Final = 15.0
GATHER_S: Final = 0.1  # between two looks of one client: forecasts gather meanwhile, and the first does not wait
MAX_SAID_BYTES: Final = 16 * 1024  # of a message from a client

Count = Callable[[str, int], None]  # notes that so many messages were sent to a stream of this kind
Send = Callable[[list[Message]], Awaitable[None]]


class Slow(Exception):
    """The client does not take what it asked for."""


async def follow(newest: Newest, watch: Watch, send: Send, beat: Callable[[], Awaitable[None]]) -> None:
    """Sends all that comes until it is cancelled or the client is gone. Raises Slow, ConnectionError."""
    looked_s = 0.0
    while True:
        now_s = time.monotonic()
        if (wait_s := looked_s + GATHER_S - now_s) > 0:
            await asyncio.sleep(wait_s)
        looked_s = time.monotonic()
        while messages := await _page(newest, watch):
            await in_time(send(messages))
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await newest.wait_for_change(watch.sent_change)
        except TimeoutError:
            await in_time(beat())


async def _page(newest: Newest, watch: Watch) -> list[Message]:
    """Returns the next page. One full page is made in a turn of the loop, of whichever stream, so that a request waits
    for a page in each of its turns, and not for one of every stream."""
    async with newest.paging:
        messages = watch.next()
        if len(messages) >= PAGE:
            await asyncio.sleep(0)
    return messages


async def in_time(sent: Awaitable[None]) -> None:
    """Waits for what is sent. Raises Slow after SLOW_S."""
    try:
        async with asyncio.timeout(SLOW_S):
            await sent
    except TimeoutError:
        raise Slow from None


def as_event(message: Message) -> bytes:
    """Returns a message as a server-sent event."""
    name = f"id: {message.id}\n"  # an empty id makes a client forget the last one
    return f"event: {message.kind}\n{name}data: ".encode() + message.body + b"\n\n"


async def events(
    request: web.Request, newest: Newest, watch: Watch, response: web.StreamResponse, count: Count
) -> None:
    """Sends events until the client goes. Raises Slow."""

    async def send(messages: list[Message]) -> None:
        await response.write(b"".join(map(as_event, messages)))
        count("events", len(messages))

    async def beat() -> None:
        await response.write(b": nothing new\n\n")

    with suppress(ConnectionError):
        await response.prepare(request)
        await follow(newest, watch, send, beat)


async def socket(
    request: web.Request,
    newest: Newest,
    watch: Watch,
    response: web.WebSocketResponse,
    rewatch: Callable[[str], Watch],
    count: Count,
) -> None:
    """Sends the same through a WebSocket until the client goes. `rewatch` reads a message of the client, and returns
    what it wants to watch from then on, or raises Refusal. Raises Slow."""
    try:
        await response.prepare(request)
    except ConnectionError:
        return  # the client has gone

    async def send(messages: list[Message]) -> None:
        for message in messages:
            await response.send_str(message.body.decode())
        count("socket", len(messages))

    async def beat() -> None:  # WebSocketResponse sends pings of its own
        pass

    sending = asyncio.create_task(follow(newest, watch, send, beat))
    try:
        while True:
            listening = asyncio.ensure_future(response.receive())
            await asyncio.wait({listening, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                listening.cancel()
                with suppress(ConnectionError):
                    await sending
                return
            message = listening.result()
            if message.type is not WSMsgType.TEXT:
                return
            try:
                watch = rewatch(message.data)
            except Refusal as refusal:
                problem = msgspec.json.encode(ProblemMessage(problem=refusal.problem))
                await in_time(response.send_str(problem.decode()))
                continue
            sending.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await sending
            sending = asyncio.create_task(follow(newest, watch, send, beat))
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError, ConnectionError, Slow):
            await sending
