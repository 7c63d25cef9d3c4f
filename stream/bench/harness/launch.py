"""Starts `pathcast worker` and the benchmark's other processes as people start them, reads their logs, and ends them by
their process id."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stream.bench.harness import proc
from stream.bench.harness.servers import Servers
from stream.processes.child import Supervised, how
from stream.wire import Topics

READY_S: Final = 180.0  # numba and Faust take seconds to import on an idle machine; benchmarks of many workers share it
READY: Final = "ready: partitions"  # a worker logs it when it has taken over its assigned partitions
# -P: modules of the current directory are not imported, as with the `pathcast` script.
PATHCAST: Final = (sys.executable, "-P", "-c", "from stream.commands.main import main; main()")


class Failed(RuntimeError):
    """A process of the benchmark ended or hangs; the message ends with the last lines of its log."""


class Process:
    """One process and its log."""

    def __init__(self, what: str, supervised: Supervised) -> None:
        self.what = what
        self.pid = supervised.pid
        self._supervised = supervised

    def usage(self) -> proc.Usage:
        """Returns its CPU time and memory. Raises Failed if it has ended."""
        try:
            return proc.usage(self.pid)
        except ProcessLookupError:
            raise self.failed("it has ended") from None

    def wait_for(self, text: str, timeout_s: float = READY_S) -> None:
        """Waits until a line of its log contains the text."""
        self.wait_until(lambda: text in self.log(), f"{text!r} in its log", timeout_s)

    def wait_until(self, holds: Callable[[], bool], what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            self.check()
            if time.monotonic() > deadline:
                raise self.failed(f"no {what} after {timeout_s:.0f} s")
            time.sleep(0.05)

    def wait(self, timeout_s: float) -> None:
        """Waits until it ends by itself. Raises Failed if it does not, or if its status is not 0."""
        status = self._supervised.wait(timeout_s)
        if status is None:
            raise self.failed(f"not done after {timeout_s:.0f} s")
        if status != 0:
            raise self.failed(f"it ended with {how(status)}")

    def check(self) -> None:
        if (status := self._supervised.wait(0)) is not None:
            raise self.failed(f"it ended with {how(status)}")

    def failed(self, why: str) -> Failed:
        last = [line.strip() for line in self.log().splitlines() if line.strip()][-3:]
        return Failed(f"{self.what}: {why}; its last words: {' / '.join(last) or 'none'}")

    def log(self) -> str:
        try:
            return self._supervised.log.read_text(errors="replace")
        except OSError:
            return ""


@contextmanager
def process(what: str, command: Sequence[str]) -> Iterator[Process]:
    """Yields a process that ends with this context, and with us, however we end."""
    home = Path(tempfile.mkdtemp(prefix="pathcast-bench-"))
    supervised = Supervised(command, log=home / "log", remove=home, env=environment())
    try:
        yield Process(what, supervised)
    finally:
        supervised.stop()


def environment() -> dict[str, str]:
    """Returns our environment without the user's settings for workers, as only the options must count. It sets one
    thread, because a worker uses one core."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PATHCAST_")}
    return {**ours, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def worker_options(servers: Servers, topics: Topics, group: str, weights: str, **more: object) -> list[str]:
    prefix = topics.pings.removesuffix(".pings.v1")
    options: dict[str, object] = {
        "bootstrap": servers.bootstrap,
        "redis": servers.redis_url,
        "prefix": prefix,
        "group": group,
        "weights": weights,
        **more,
    }
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def worker_command(options: Sequence[str]) -> list[str]:
    return [*PATHCAST, "worker", *options]


def module_command(module: str, *arguments: str) -> list[str]:
    """Returns the command that runs a module of this folder as a program."""
    return [sys.executable, "-P", "-m", f"stream.bench.{module}", *arguments]
