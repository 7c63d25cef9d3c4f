"""Starts the demo's worker and its map as `pathcast up` starts its parts, but not again: a demo that fails says so."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stream.config.security import PLAIN_KAFKA, PLAIN_REDIS
from stream.processes.child import Child, how
from stream.up import embedded
from stream.up.parts import environment
from stream.worker.cli import MEMBER, READY

# Without a step: in a fresh clone kernels are compiled, 40 s of CPU, and every few seconds the log says how far.
READY_S: Final = 300.0
MAP_PORT: Final = 8_765  # that of `pathcast map` itself; another one, if somebody listens there
MAP_READY_S: Final = 120.0  # it compiles how records are read, in a fresh clone
# A replay is two minutes a second, and buses report each minute.
TIMES: Final = ("--keep", "30m", "--stale-after", "15m")
LOOK_S: Final = 0.1


class Failed(RuntimeError):
    """A part ended, or did not answer; `lines` are the last of its log."""

    def __init__(self, message: str, lines: Sequence[str]) -> None:
        self.lines = "\n".join(lines)
        super().__init__(f"{message}; its last words: {lines[-1].strip() if lines else 'it wrote nothing'}")


class Part:
    """A part that runs, and its last lines."""

    def __init__(self, command: Sequence[str], bootstrap: str, redis_url: str, prefix: str, ready: str) -> None:
        """Starts a command of pathcast, without the user's environment variables for it."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PATHCAST_")}
        env = environment(ours, bootstrap, redis_url, prefix, PLAIN_KAFKA, PLAIN_REDIS)
        self._name = command[0]
        self.lines: deque[str] = deque(maxlen=12)
        self.child = Child([*MEMBER, *command], env=env, on_line=self.lines.append, ready=ready)

    def failed(self, message: str) -> Failed:
        return Failed(f"the {self._name} {message}", list(self.lines))

    def check(self) -> None:
        """Raises Failed if it has ended."""
        if self.child.wait(0) is not None:
            raise self.failed(f"ended with {how(self.child.stop())}")

    def wait_until_ready(self, show: Callable[[str], None], timeout_s: float) -> None:
        """Raises Failed if it ends, or goes no step on for so long."""
        doing, deadline = "", 0.0
        while not self.child.is_ready:
            self.check()
            if (now := starting(self._name, list(self.lines))) != doing:
                doing, deadline = now, time.monotonic() + timeout_s
            if time.monotonic() > deadline:
                raise self.failed(f"was not ready after {timeout_s:.0f} s: {doing}")
            show(doing)
            time.sleep(LOOK_S)


def starting(name: str, lines: Sequence[str]) -> str:
    """Returns the activity of a part that is not ready. In a fresh clone most of it is to compile kernels."""
    compiled = re.findall(r"compiling kernels: .*", "\n".join(lines))
    return f"starting the {name} ({compiled[-1]})" if compiled else f"starting the {name}"


@contextmanager
def worker(bootstrap: str, redis_url: str, prefix: str, *options: str) -> Iterator[Part]:
    """Yields a worker, which may not be ready yet."""
    part = Part(("worker", *options), bootstrap, redis_url, prefix, READY)
    try:
        yield part
    finally:
        part.child.stop()


@contextmanager
def live_map(
    bootstrap: str, redis_url: str, prefix: str, atlases: Path, show: Callable[[str], None]
) -> Iterator[str | None]:
    """Yields the address of a map of this broker's forecasts; None if it does not start, for which the demo need not
    end. The topics must exist."""
    address = f"{embedded.HOST}:{embedded.usual_port(MAP_PORT)}"
    command = ("map", "--listen", address, "--source", "forecasts", "--atlases", str(atlases), *TIMES)
    part = Part((*command, "--title", "pathcast demo"), bootstrap, redis_url, prefix, f"listening at http://{address}")
    try:
        try:
            part.wait_until_ready(show, MAP_READY_S)
        except Failed:
            yield None
        else:
            yield f"http://{address}"
    finally:
        part.child.stop()
