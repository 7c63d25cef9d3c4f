"""Connections of redis-py to the model, without a socket: our own clients and redis-py's run unchanged above them.

    with modelled(server, link):
        store = RedisStore(Settings(redis_url="redis://anything"))

A `Link` carries each request to the server, and its answer back. It is where a world delays and loses both.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from modelled_redis import RedisServer, Session
from redis._parsers import _AsyncRESP3Parser
from redis.asyncio import Redis
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as Away
from redis_commands import Arguments, Pairs, Reply, Status, plain
from redis_values import RedisFault

T = TypeVar("T")


class Link:
    """Carries requests to a server at once. A world has one of its own."""

    async def call(self, work: Callable[[], T]) -> T:
        """Lets the server do the work, and returns its answer or raises its error.

        Where the request or its answer is lost, it raises OSError or asyncio.TimeoutError, or never ends: then the
        client's own timeout ends it. Nobody gets an answer before the others have had their turn.
        """
        await asyncio.sleep(0)
        try:
            return work()
        finally:
            await asyncio.sleep(0)

    def tears(self) -> bool:
        """Returns whether the commands of a pipeline arrive apart, so that those of others come between."""
        return False


class Line:
    """The client's end of one connection: what it has sent and not read. Stands for redis-py's reader and writer."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.unsent: list[Arguments] = []
        self.replies: deque[Reply] = deque()

    def close(self) -> None:
        """Does nothing: what is on its way arrives nevertheless."""

    async def wait_closed(self) -> None:
        pass

    def get_extra_info(self, name: str) -> None:
        return None


class Replies(_AsyncRESP3Parser):
    """Stands for the parser: replies come as Python's values."""

    _line: ModelledConnection | None = None

    def on_connect(self, connection: Any) -> None:
        self._line = connection
        self.encoder = connection.encoder

    def on_disconnect(self) -> None:
        self._line = None

    async def can_read(self) -> bool:
        """Returns whether the connection is no good any more, which a real one is seen by its end of file."""
        line = self._line
        if line is None or line._writer is None:
            raise Away("Connection closed by server.")
        session = line._writer.session
        return bool(line._writer.replies or session.is_broken)

    async def read_response(self, disable_decoding: bool = False, push_request: bool = False) -> Any:
        connection = self._line
        if connection is None:
            raise Away("Connection closed by server.")
        line: Line = connection._writer
        if not line.replies:
            batch, line.unsent = line.unsent, []
            session, link = line.session, connection.link
            if len(batch) > 1 and link.tears():
                for one in batch:
                    line.replies.append(await link.call(lambda one=one: session.attempt(one)))
            else:
                line.replies += await link.call(lambda: session.attempt_all(batch))
        return self._parsed(line.replies.popleft(), disable_decoding)

    def _parsed(self, reply: Reply, raw: bool) -> Any:
        if isinstance(reply, RedisFault):
            error = self.parse_error(str(reply))
            if isinstance(error, Away):
                raise error
            return error
        if self._line is not None and self._line.protocol == 2:
            reply = plain(reply)
        return self._value(reply, raw)

    def _value(self, reply: Reply, raw: bool) -> Any:
        kind = type(reply)
        if kind is bytes or kind is Status:
            return bytes(reply) if raw or self.encoder is None else self.encoder.decode(bytes(reply))
        if kind is Pairs:
            return [[self._value(member, raw), score] for member, score in reply]
        if kind is list:
            return [self._parsed(one, raw) for one in reply]
        if kind is dict:
            return {self._value(name, raw): self._value(one, raw) for name, one in reply.items()}
        return reply


class ModelledConnection(Connection):
    """A connection of redis-py. What it does when one is lost, and how it begins one, is redis-py's own."""

    def __init__(self, *, server: RedisServer, link: Link, **options: Any) -> None:
        super().__init__(**{**options, "parser_class": Replies})
        self.server = server
        self.link = link

    def __del__(self, _warnings: Any = None) -> None:
        """Says nothing: a host that crashed closes nothing."""

    async def _connect(self) -> None:
        async with asyncio.timeout(self.socket_connect_timeout):
            self._reader = self._writer = Line(await self.link.call(self.server.connect))

    def pack_command(self, *args: Any) -> list[Arguments]:
        """Returns a command as the server takes it; what is more than one word of its name counts as arguments."""
        encode = self.encoder.encode
        first = args[0].encode() if isinstance(args[0], str) else args[0]
        return [first.split() + [one if type(one) is bytes else encode(one) for one in args[1:]]]

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[Arguments]:
        return [self.pack_command(*one)[0] for one in commands]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()
        self._writer.unsent += command


@contextmanager
def modelled(server: RedisServer, link: Link | None = None) -> Iterator[None]:
    """Lets all clients that are made by `from_url` talk to the model, whatever their URL. That is how
    `stream.store.redis_client.client` makes them."""
    own = Redis.__dict__["from_url"]
    chosen = link or Link()

    def from_url(cls: type[Redis], url: str, **options: Any) -> Redis:
        return own.__func__(cls, url, connection_class=ModelledConnection, server=server, link=chosen, **options)

    Redis.from_url = classmethod(from_url)
    try:
        yield
    finally:
        Redis.from_url = own
