"""A world: hosts, a network, a clock and one source of chance. `running` makes Python's clocks those of the world."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import Any, Final
from zlib import crc32

from network import Network
from virtual_loop import HOST, SERVERS, Host, VirtualLoop

EPOCH_S: Final = 1_764_000_000.0  # what a right wall clock shows when the loop's time is 0


class World:
    """One run of the simulation."""

    def __init__(self, seed: int, *, story: bool = False) -> None:
        """With a `story`, every event is kept as a line, for people; the digest has them in any case."""
        self.seed = seed
        self.chance = random.Random(seed)
        self.loop = VirtualLoop(random.Random(self.chance.random()))
        self.network = Network(self.loop, random.Random(self.chance.random()), self.note)
        self.hosts: list[Host] = []
        self.events: dict[str, int] = {}  # how often each kind of event was, by its first word
        self.lines: list[str] = []
        self.digest = 0  # of all events: two runs of a seed have the same
        self._tells = story
        threads = random.Random(self.chance.random())
        self.loop.slow_down = lambda: threads.expovariate(1 / 0.003)

    # -- what happens

    def note(self, event: str) -> None:
        """Notes an event, whose first word is its kind."""
        kind = event.partition(" ")[0]
        self.events[kind] = self.events.get(kind, 0) + 1
        line = f"{self.loop.time():10.4f}  {event}"
        self.digest = crc32(line.encode(), self.digest)  # a text's own hash differs from process to process
        if self._tells:
            self.lines.append(line)

    def count(self, kind: str, many: int) -> None:
        """Counts what a judge has found in the world, so that it can be seen that there was something to judge."""
        self.events[kind] = self.events.get(kind, 0) + many

    def wall_s(self) -> float:
        """Returns what the wall clock of the present host shows."""
        return EPOCH_S + self.loop.time() + HOST.get().clock_off_s

    # -- hosts

    def host(self, name: str, clock_off_s: float = 0.0) -> Host:
        """Returns a new host."""
        found = Host(name, clock_off_s)
        self.hosts.append(found)
        return found

    def start(self, host: Host, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Starts a task in a host; the tasks that it makes are of that host, too."""
        context = copy_context()
        context.run(HOST.set, host)
        return self.loop.create_task(work, name=f"{host.name}: {name}", context=context)

    def kill(self, host: Host) -> None:
        self.note(f"kill {host}")
        self.loop.kill(host)

    def pause(self, host: Host) -> None:
        """Stops a host, as SIGSTOP does: it notices nothing, and its timers wait, too."""
        self.note(f"pause {host}")
        host.is_paused = True

    def resume(self, host: Host) -> None:
        self.note(f"resume {host}")
        host.is_paused = False

    def bury(self) -> None:
        """Closes what never came to its end. Nothing of that changes the world any more."""
        self.loop.is_over = True
        for task in [task for host in (SERVERS, *self.hosts) for task in host.tasks]:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine: Any = task.get_coro()
            with suppress(RuntimeError, ValueError):  # it waits within a cleanup, or is the one that runs
                coroutine.close()
        SERVERS.tasks.clear()
        SERVERS.ready.clear()
        self.loop.close()


@contextmanager
def running(world: World) -> Iterator[None]:
    """Lets `time` and `random` be those of the world, and its loop the present one."""
    clocks = time.time, time.monotonic, time.perf_counter, time.time_ns
    state = random.getstate()
    random.seed(world.seed)
    time.time, time.monotonic = world.wall_s, world.loop.time
    time.perf_counter = world.loop.time
    time.time_ns = lambda: int(world.wall_s() * 1e9)
    gc_was_on = gc.isenabled()
    gc.disable()  # what cleans up while it is collected would do so at another moment in each run
    try:
        yield
    finally:
        world.bury()
        time.time, time.monotonic, time.perf_counter, time.time_ns = clocks
        random.setstate(state)
        if gc_was_on:
            gc.enable()
