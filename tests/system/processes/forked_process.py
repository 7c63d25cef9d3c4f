"""A member as a process of its own, for tests that kill it or stop it. Tests import this; it tests nothing itself.

It is forked from a server that has imported everything once, because a test of a member's life needs a dozen.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stream.config import failpoints
from stream.config.options import log_to_stderr

STOP_S = 180.0  # a bound on waiting
_FORKS = multiprocessing.get_context("forkserver")
_IMPORTED = [__name__, "member_kinds", "stream.services.archive.member"]

Work = Callable[..., Coroutine[Any, Any, None]]


class ForkedProcess:
    """One process, and its log as a file."""

    def __init__(self, log: Path, work: Work, *given: object, kill_point: str = "") -> None:
        """Lets a process do the work with what is given, until that ends or `kill_point` is reached. The work is a
        function that a module has, not a test."""
        self._log = log
        log.touch()
        self._process = _FORKS.Process(target=_run, args=(log, kill_point, work, given), name=log.stem)
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # with which the server finds what it is to import
        try:
            _FORKS.set_forkserver_preload(_IMPORTED)
            self._process.start()
        finally:
            os.environ.pop("PYTHONPATH")
            os.environ |= {} if before is None else {"PYTHONPATH": before}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._process.kill()
        self._process.join()
        if kind is not None:
            print(f"--- {self._log.name}\n{self.log()}")

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def running(self) -> bool:
        return self._process.is_alive()

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def stop(self) -> int | None:
        """SIGTERM, and the exit code."""
        self._process.terminate()
        return self.wait()

    def wait(self) -> int | None:
        self._process.join(STOP_S)
        return self._process.exitcode


def _run(log: Path, kill_point: str, work: Work, given: tuple[Any, ...]) -> None:
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    failpoints.arm(kill_point)
    log_to_stderr()
    asyncio.run(work(*given))
