"""An asyncio event loop whose time is virtual, and whose order one seed decides.

Callbacks belong to hosts, by the context in which they were scheduled. Within a host they run in the order in which
they were scheduled, as asyncio promises; between hosts, which are processes of their own in reality, the seed says
whose turn it is. Time moves only when nobody has anything to do. So the same seed gives the same run, however slow a
machine is.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar
from itertools import count
from typing import Any, Final

START_S: Final = 1_000.0
INSTANT_S: Final = 1e-6
LAST_STEPS: Final = 30


class Stalled(RuntimeError):
    """Nothing can ever happen again, or too much does."""


class Host:
    """A process of the world. Whoever runs in it cannot tell that it is none."""

    def __init__(self, name: str, clock_off_s: float = 0.0) -> None:
        self.name = name
        self.clock_off_s = clock_off_s  # how far its wall clock is ahead
        self.is_dead = False
        self.is_paused = False
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: set[asyncio.Task[Any]] = set()  # that have not ended

    def __repr__(self) -> str:
        return self.name


SERVERS: Final = Host("servers")  # also what the world itself does
HOST: ContextVar[Host] = ContextVar("host", default=SERVERS)


class _Nothing:
    """Stands for the selector of asyncio's own loop: here are no sockets."""

    def select(self, timeout: float | None = None) -> list[Any]:
        raise AssertionError("a virtual loop waits for nothing")

    def close(self) -> None:
        pass


class OrderedFuture(asyncio.Future[Any]):
    """A future whose place in sets follows from the order in which futures were made. Its address would decide that
    else, which differs from process to process, and aiokafka wakes all that are in a set."""

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class OrderedTask(asyncio.Task[Any]):
    """A task of which the same holds."""

    def __init__(self, number: int, work: Any, loop: asyncio.AbstractEventLoop, context: Context | None) -> None:
        self._number = number
        super().__init__(work, loop=loop, context=context)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks of hosts. A dead host's are dropped; a paused host's wait."""

    def __init__(self, chance: random.Random, most_steps: int = 400_000) -> None:
        super().__init__()
        self._selector = _Nothing()  # BaseEventLoop closes it
        self._chance = chance
        self._now_s = START_S
        self._left = most_steps
        self._last: set[str] = set()  # what the last steps of a world that runs in a circle are
        self._busy: list[Host] = []  # hosts with ready callbacks, in the order in which they got them
        self.slow_down: Callable[[], float] = lambda: 0.0  # how long work in another thread takes
        self.faults: list[BaseException] = []  # of callbacks of the servers: the simulation itself is wrong
        self.set_exception_handler(self._note_fault)
        self.is_over = False  # nothing runs any more: what is cleaned up now changes nothing
        self._numbers = count()  # of futures and tasks
        self.set_task_factory(_make_task)

    def time(self) -> float:
        return self._now_s

    # -- what asyncio asks of a loop

    def _call_soon(
        self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.is_over:
            self._put(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Schedules a call, a little after now at the earliest: where the clock stands still, whoever waits for a time
        asks for ever."""
        return super().call_at(max(when, self._now_s + INSTANT_S), callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return OrderedFuture(next(self._numbers), self)

    def _note_fault(self, loop: asyncio.AbstractEventLoop, what: dict[str, Any]) -> None:
        error = what.get("exception")
        if HOST.get() is SERVERS and isinstance(error, Exception) and "handle" in what:
            self.faults.append(error)

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self._call_soon(callback, args, context)

    def _put(self, handle: asyncio.Handle) -> None:
        host = handle._context.get(HOST, SERVERS)  # type: ignore[attr-defined]
        if host.is_dead:
            return
        if not host.ready:
            self._busy.append(host)
        host.ready.append(handle)

    async def _work_elsewhere(self, work: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(self.slow_down())
        return work(*args)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Runs the work at once, after a time that the seed says: threads would run in no order."""
        return self.create_task(self._work_elsewhere(func, *args))

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncio's name
        pass

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def _run_once(self) -> None:
        self._left -= 1
        if self._left < 0:
            last = ", ".join(sorted(self._last))
            raise Stalled(f"the world did not come to its end by {self._now_s:.3f} s: it runs in a circle of {last}")
        host = self._whose_turn()
        if host is None:
            self._pass_time()
            return
        handle = host.ready.popleft()
        if not host.ready:
            self._busy.remove(host)
        if self._left < LAST_STEPS:
            self._last.add(f"{host} {handle!r}")
        if not handle._cancelled:  # type: ignore[attr-defined]
            handle._run()  # type: ignore[attr-defined]

    # -- whose turn it is

    def _whose_turn(self) -> Host | None:
        able = [host for host in self._busy if not host.is_paused]
        if len(able) < 2:
            return able[0] if able else None
        return able[int(self._chance.random() * len(able))]

    def _pass_time(self) -> None:
        """Moves the clock to the next timer, and makes ready all that are due then."""
        timers = self._scheduled
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise Stalled("nobody has anything to do, and nobody waits for a time")
        self._now_s = max(self._now_s, timers[0]._when)
        while timers and timers[0]._when <= self._now_s:
            timer = heapq.heappop(timers)
            if not timer._cancelled:
                self._put(timer)

    # -- hosts

    def kill(self, host: Host) -> None:
        """Ends a host as `kill -9` does: nothing of it runs any more, not even what cleans up."""
        host.is_dead = True
        host.ready.clear()
        if host in self._busy:
            self._busy.remove(host)


def _make_task(loop: Any, work: Any, context: Context | None = None) -> asyncio.Task[Any]:
    """Makes a task that its host knows: one that is killed must stay as it is, and not clean up once it is gone."""
    task = OrderedTask(next(loop._numbers), work, loop, context)
    tasks = (HOST.get() if context is None else context.get(HOST, SERVERS)).tasks
    tasks.add(task)
    task.add_done_callback(tasks.discard, context=_NO_CONTEXT)
    return task


_NO_CONTEXT: Final = Context()
