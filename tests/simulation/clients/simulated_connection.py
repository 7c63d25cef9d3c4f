"""A connection of aiokafka's client without a socket: aiokafka's own consumers and producers run unchanged above it.

Requests of a connection reach the broker in the order in which they were sent, are worked on one after the other, and
are answered in that order, as Apache Kafka does it. A connection that loses anything is broken: what was sent and not
answered may have been done or not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaConnectionError
from network import Network
from virtual_loop import HOST, Host, VirtualLoop

SERVER: Final = "kafka"
NOTICED_S: Final = 3.0  # how long a broken connection may look whole to who waits for an answer
Handle = Callable[[Any, Callable[[Any], None]], None]  # gets a request and what to call with its answer, now or later


class Wire:
    """Makes connections to the brokers of a world."""

    def __init__(
        self, loop: VirtualLoop, network: Network, handle: Handle, versions: dict[int, tuple[int, int]]
    ) -> None:
        self.loop = loop
        self.network = network
        self.handle = handle
        self.versions = versions
        self.connections: list[SimulatedConnection] = []
        self.asker: Host | None = None  # whose request is being worked on

    async def connect(
        self, host: str, port: int, *, request_timeout_ms: int = 40_000, on_close: Any = None, **_: Any
    ) -> SimulatedConnection:
        """Stands for `aiokafka.conn.create_conn`. Raises KafkaConnectionError if the brokers are not reached."""
        here = HOST.get()
        await asyncio.sleep(self.network.way_s() + self.network.way_s())
        if self.network.is_lost(here, SERVER):
            raise KafkaConnectionError(f"no connection to {host}:{port}")
        found = SimulatedConnection(self, here, request_timeout_ms / 1000, on_close)
        self.connections = [one for one in self.connections if one.connected()]
        self.connections.append(found)
        return found

    def break_all(self, host: Host | None = None) -> None:
        """Breaks the connections of a host, or of all, as when a broker goes down."""
        for one in self.connections:
            if host is None or one.owner is host:
                one.break_off()


class SimulatedConnection:
    """Has what aiokafka's client uses of its own connection."""

    def __init__(self, wire: Wire, owner: Host, timeout_s: float, on_close: Any) -> None:
        self.owner = owner
        self._wire = wire
        self._timeout_s = timeout_s
        self._on_close = on_close
        self._is_open = True
        self._is_broken = False  # on its way: nothing comes through any more
        self._arrives_s = self._delivers_s = 0.0
        self._at_broker: deque[tuple[Any, asyncio.Future[Any]]] = deque()  # the first one is being worked on
        self._unanswered: set[asyncio.Future[Any]] = set()

    def connected(self) -> bool:
        return self._is_open

    def send(self, request: Any, expect_response: bool = True) -> Any:
        if not self._is_open:
            raise KafkaConnectionError("the connection is closed")
        wire = self._wire
        wire.network.requests += 1
        sent = request.prepare(wire.versions)
        answer: asyncio.Future[Any] = wire.loop.create_future()
        self._unanswered.add(answer)
        answer.add_done_callback(self._unanswered.discard)
        self._arrives_s = max(self._arrives_s, wire.loop.time() + wire.network.way_s())
        wire.loop.call_at(self._arrives_s, self._arrive, sent, answer, context=wire.network.outside)
        return asyncio.wait_for(answer, self._timeout_s)

    def close(self, reason: Any = None, exc: BaseException | None = None) -> asyncio.Future[None]:
        if self._is_open:
            self._is_open = False
            for answer in list(self._unanswered):
                if not answer.done():
                    answer.set_exception(exc or KafkaConnectionError("the connection is closed"))
                    answer.exception()  # whoever waits for it gets it; nobody may
            if self._on_close is not None:
                self._on_close(self, reason)
        done = self._wire.loop.create_future()
        done.set_result(None)
        return done

    def break_off(self) -> None:
        """Breaks the connection. Its owner notices when the network between them has come back, at once or after some
        seconds: what is sent again is refused then."""
        if not self._is_broken:
            self._is_broken = True
            network = self._wire.network
            in_s = network.way_s() if network.notices() else network.way_s() + NOTICED_S
            self._wire.loop.call_later(in_s, self._notice, context=self._context())

    def _notice(self) -> None:
        network = self._wire.network
        if network.is_cut(self.owner, SERVER):
            self._wire.loop.call_later(NOTICED_S, self._notice, context=self._context())
        else:
            self.close(CloseReason.CONNECTION_BROKEN)

    def _context(self) -> Any:
        context = self._wire.network.outside.copy()
        context.run(HOST.set, self.owner)
        return context

    # -- at the broker

    def _arrive(self, sent: Any, answer: asyncio.Future[Any]) -> None:
        if self._is_broken:
            return
        if self._wire.network.is_lost(self.owner, SERVER):
            self.break_off()
            return
        self._at_broker.append((sent, answer))
        if len(self._at_broker) == 1:
            self._work()

    def _work(self) -> None:
        sent, answer = self._at_broker[0]
        self._wire.asker = self.owner
        self._wire.handle(sent, lambda response: self._give_back(answer, response))

    def _give_back(self, answer: asyncio.Future[Any], response: Any) -> None:
        self._at_broker.popleft()
        network, loop = self._wire.network, self._wire.loop
        if not self._is_broken and network.is_lost(self.owner, SERVER):
            self.break_off()
        if not self._is_broken:
            self._delivers_s = max(self._delivers_s, loop.time() + network.way_s())
            loop.call_at(self._delivers_s, _deliver, answer, response, context=network.outside)
        if self._at_broker:  # what has arrived is worked on, although nobody may hear of it
            self._work()


def _deliver(answer: asyncio.Future[Any], response: Any) -> None:
    with suppress(asyncio.InvalidStateError):
        answer.set_result(response)
