"""Keeps one process running: starts it, waits for its end, waits a little, and starts it again, until it is to stop.

ends by itself                       -> started again after 1 s, 2 s, 4 s ... (`Past`)
ends three times in a row            -> reported with the last lines of its log; it is tried on, and others go on
ends so before it was ready          -> given up, where the keeper is told whom to tell
ran for a minute                     -> what was before is forgotten
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from stream.processes.child import STOPPED_WELL, Process, how
from stream.processes.logs import tail

FIRST_DELAY_S: Final = 1.0
STEADY_S: Final = 60.0  # a process that ran for so long was sound: it ended for a new reason, not for the same again
TROUBLED: Final = 3  # ends in a row; one may be an accident, such as a lack of memory for a moment


@dataclass(frozen=True)
class Past:
    """The ends of a keeper's processes so far. It is pure: durations are arguments."""

    ends: int = 0  # in a row: all but the first came before STEADY_S
    false_starts: int = 0  # ends in a row before the process was ready, none after STEADY_S or more

    def after(self, ran_s: float, *, ready: bool = True) -> Past:
        if ran_s >= STEADY_S:
            return Past(ends=1)
        return Past(self.ends + 1, 0 if ready else self.false_starts + 1)

    def delay_s(self, longest_s: float) -> float:
        """Returns the delay before the next start."""
        return min(longest_s, FIRST_DELAY_S * 2.0 ** min(self.ends - 1, 30))

    @property
    def troubled(self) -> bool:
        return self.ends >= TROUBLED

    @property
    def hopeless(self) -> bool:
        return self.false_starts >= TROUBLED


@dataclass(frozen=True)
class Status:
    """Tells people what a process does now."""

    name: str
    doing: str = "not started"
    pid: int | None = None
    since_s: float = 0.0  # of the wall clock; when it began that
    restarts: int = 0


class Keeper:
    """Keeps one process running, in a thread."""

    def __init__(
        self,
        name: str,
        start: Callable[[], Process],
        say: Callable[[int, str], None],
        *,
        longest_s: float,
        log: Path | None = None,
        give_up: Callable[[str], None] | None = None,
    ) -> None:
        """`start` starts a process, and raises OSError or RuntimeError where that fails. `say` shows people a line of a
        level of logging. `longest_s` is the longest delay before a start. `give_up` is told why the process will never
        be ready, and it is not tried on; without it, ends in a row are reported with the last lines of `log`."""
        self.status = Status(name)
        self.fault: str | None = None  # how it stopped, if not well
        self._start, self._say, self._longest_s, self._log, self._give_up = start, say, longest_s, log, give_up
        self._stopping, self._starting = threading.Event(), threading.Lock()
        self._process: Process | None = None
        self._thread = threading.Thread(target=self._keep, name=f"keeps {name}", daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the process, and returns when it has ended."""
        with self._starting:
            self._stopping.set()
        process = self._process
        if process is not None and process.running:
            self._now("stops", process.pid)
            if (status := process.stop()) not in STOPPED_WELL:
                self.fault = f"did not stop well, but with {how(status)}"
                self._say(logging.WARNING, f"it {self.fault}")
        if self._thread.ident is not None:
            self._thread.join()
        self._now("stopped")
        self._say(logging.INFO, "has stopped")

    def _keep(self) -> None:
        past = Past()
        while not self._stopping.is_set():
            began_s = time.monotonic()
            ending = self._live()
            if self._stopping.is_set():
                return
            ran_s = time.monotonic() - began_s
            past = past.after(ran_s, ready=self._process is not None and self._process.is_ready)
            if self._give_up is not None and past.hopeless:
                words = "none" if self._process is None else self._process.last_line
                self._give_up(
                    f"{self.status.name} ended {past.false_starts} times before it was ready, with {ending}; "
                    f"its last words: {words}"
                )
                return
            delay_s = past.delay_s(self._longest_s)
            self._report(past, f"{ending} after {ran_s:.0f} s; it is started again in {delay_s:.0f} s")
            self._now(f"waits {delay_s:.0f} s after {ending}" if not past.troubled else f"fails: {ending}")
            self._stopping.wait(delay_s)
            self.status = replace(self.status, restarts=self.status.restarts + 1)

    def _live(self) -> str:
        """Runs one process, and returns how it ended."""
        with self._starting:  # `stop` finds either no process or this one
            self._process = None
            if self._stopping.is_set():
                return "no start"
            try:
                self._process = process = self._start()
            except (OSError, RuntimeError) as error:
                return f"no start ({error})"
            self._now("runs", process.pid)
        self._say(logging.INFO, f"is process {process.pid}")
        process.wait()
        return how(process.stop())  # with what it left

    def _report(self, past: Past, ending: str) -> None:
        if self._log is None or past.ends != TROUBLED:
            lines = [f"ended with {ending}"]
        else:
            lines = [
                f"ended {past.ends} times in a row, the last time with {ending}",
                f"its last words, of {self._log}:",
                *(f"    {line}" for line in tail(self._log) or ["none"]),
            ]
        for line in lines:
            self._say(logging.WARNING, line)

    def _now(self, doing: str, pid: int | None = None) -> None:
        self.status = replace(self.status, doing=doing, pid=pid, since_s=time.time())


def stop_all(keepers: Sequence[Keeper]) -> None:
    """Ends the processes of all these keepers at the same time, and returns when they have ended."""
    threads = [threading.Thread(target=keeper.stop) for keeper in keepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
