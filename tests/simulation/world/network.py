"""What lies between a host and a server: requests take time, get lost, or come through and their answers do not.

A request that is on its way arrives although its sender has died or given up; that is how a zombie writes. Requests of
one channel, a connection, arrive in the order in which they were sent.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from virtual_loop import HOST, SERVERS, Host, VirtualLoop

T = TypeVar("T")


@dataclass
class Weather:
    """How a network is at present. Times are in seconds."""

    delay_s: float = 0.002  # the mean of most delays, each way
    slow_share: float = 0.02  # of the ways that take long
    slow_s: float = 0.2  # the mean of those
    loss_share: float = 0.0  # of requests and of answers that never arrive: the connection breaks


class Network:
    """Connects hosts with the servers."""

    def __init__(self, loop: VirtualLoop, chance: random.Random, note: Callable[[str], None]) -> None:
        """Takes `note`, which gets a line for each thing that is seen to happen."""
        self.weather = Weather()
        self._loop = loop
        self._chance = chance
        self._note = note
        self._cut: set[tuple[Host, str]] = set()  # hosts that do not reach a server
        self._channels: dict[tuple[Host, str], float] = defaultdict(float)  # when the last request of each arrives
        self.outside: Context = copy_context()
        self.outside.run(HOST.set, SERVERS)
        self.requests = 0

    def cut(self, host: Host, server: str) -> None:
        """Lets nothing through between a host and a server, until `join`."""
        self._cut.add((host, server))

    def is_cut(self, host: Host, server: str) -> bool:
        return (host, server) in self._cut

    def join(self, host: Host, server: str) -> None:
        self._cut.discard((host, server))

    def calm(self) -> None:
        """Joins all that is cut, and lets the weather be fine."""
        self._cut.clear()
        self.weather = Weather()

    def way_s(self) -> float:
        weather, chance = self.weather, self._chance
        mean_s = weather.slow_s if chance.random() < weather.slow_share else weather.delay_s
        return chance.expovariate(1.0 / mean_s)

    def is_lost(self, host: Host, server: str) -> bool:
        return (host, server) in self._cut or self._chance.random() < self.weather.loss_share

    def notices(self) -> bool:
        """Returns by chance whether a broken connection is noticed at once."""
        return self._chance.random() < 0.7

    async def call(
        self, server: str, work: Callable[[], T], *, lost: Callable[[], Exception], after_s: float, channel: str = ""
    ) -> T:
        """Lets a server do the work, and returns its answer or raises its error.

        Where the request or the answer is lost, this raises what `lost` makes, `after_s` seconds after the request was
        sent or sooner: a broken connection is often noticed at once.
        """
        host, loop = HOST.get(), self._loop
        self.requests += 1
        answer: asyncio.Future[T] = loop.create_future()
        arrives_s = loop.time() + self.way_s()
        if channel:
            arrives_s = max(arrives_s, self._channels[host, channel])
            self._channels[host, channel] = arrives_s

        def fail() -> None:
            if not answer.done():
                answer.set_exception(lost())

        def arrive() -> None:
            if self.is_lost(host, server):
                return lose()
            try:
                outcome: Any = work()
            except Exception as error:
                return give_back(answer.set_exception, error)
            if isinstance(outcome, asyncio.Future):  # a request that waits at the server
                outcome.add_done_callback(lambda ended: settle(ended), context=self.outside)
                return None
            return give_back(answer.set_result, outcome)

        def settle(ended: asyncio.Future[Any]) -> None:
            error = ended.exception()
            give_back(*((answer.set_result, ended.result()) if error is None else (answer.set_exception, error)))

        def give_back(how: Callable[[Any], None], what: Any) -> None:
            if self.is_lost(host, server):
                return lose()

            def deliver() -> None:
                if not answer.done():
                    how(what)

            loop.call_later(self.way_s(), deliver, context=self.outside)
            return None

        def lose() -> None:
            self._note(f"network {host} {server} lost")
            loop.call_later(self.way_s() if self.notices() else after_s, fail, context=self.outside)

        loop.call_at(arrives_s, arrive, context=self.outside)
        if after_s:
            limit = loop.call_later(after_s, fail, context=self.outside)
            answer.add_done_callback(lambda _: limit.cancel(), context=self.outside)
        return await answer
