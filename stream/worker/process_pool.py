"""Several processes as if they were one: started, told apart, started again, stopped together.
Knows processes and their lines; knows nothing of what they do.

    SIGTERM, SIGINT  -> SIGTERM to every process; each is waited for
    one dies         -> a line says how, and it is started again, later each time (`Past`)
    one cannot start -> all are stopped, and an error says so: the next try would end the same way
    kill -9 of us    -> the processes stop by themselves

A child does not die with its parent, so each holds the reading end of a pipe as its stdin. The kernel closes the
writing end whatever ends the parent, and a thread in the child (`end_with_parent`) takes that for a SIGTERM. Not
`stream.demo.supervisor`, which does it for programs that are not ours: it is one more process for each, and logs to a
file.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

log = logging.getLogger(__name__)

RESTART_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # after so many ends in a row; the last repeats
STEADY_S = 60.0  # who ran for so long is sound: what ended it is news, not the same fault again
FALSE_STARTS = 3  # in a row; one may be bad luck, such as a lack of memory for a moment
# From SIGTERM to SIGKILL, for one that hangs: well above the 9 s that a worker gives itself (stream.worker.app.STOP_S):
# on a starved machine its end takes long, too; below the 30 s that orchestrators mostly give us.
STOP_S = 25.0
LINE_BYTES = 1024 * 1024  # a longer line is dropped
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a process is one core


@dataclass(frozen=True)
class Past:
    """What the ends of one member's processes so far say about its next start. Pure; durations are arguments."""

    ends: int = 0  # in a row, none of them, but perhaps the first, after STEADY_S or more
    false_starts: int = 0  # in a row, each before it was ready, none after STEADY_S or more

    def after(self, ran_s: float, *, ready: bool) -> Past:
        if ran_s >= STEADY_S:
            return Past(ends=1)
        return Past(self.ends + 1, 0 if ready else self.false_starts + 1)

    @property
    def delay_s(self) -> float:
        """Before the next start."""
        return RESTART_S[min(self.ends, len(RESTART_S) - 1)]

    @property
    def hopeless(self) -> bool:
        return self.false_starts >= FALSE_STARTS


class Life(NamedTuple):
    """One process from start to end."""

    status: int  # as Popen says it: -9 for SIGKILL
    ran_s: float
    ready: bool  # it said so
    told: bool  # to stop, by us


def prefixed(number: int, line: str) -> str:
    return f"worker {number} | {line}"


async def run(commands: Sequence[Sequence[str]], *, ready: str, shown: Callable[[int, str], str] = prefixed) -> None:
    """Keep a process of each command running until SIGTERM or SIGINT, then until each has ended.

    A process counts as ready once a line of it contains `ready`; one that never says it, after STEADY_S. `shown` makes
    what we write of a process's number, from 1 on, and a line of it.

    Raises:
        RuntimeError: one could not be started, or did not stop as told; by now none runs any more.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    theirs, ours = os.pipe()  # nobody ever writes
    failures: list[Exception] = []  # in the order of their times: what follows the first may be its consequence

    async def keep(number: int, command: Sequence[str]) -> None:
        try:
            await WorkerProcess(number, command, ready, theirs, stop, shown).keep()
        except (OSError, RuntimeError) as error:
            failures.append(error)
        finally:
            stop.set()

    await asyncio.gather(*(keep(number, command) for number, command in enumerate(commands, 1)))
    for end in (theirs, ours):
        os.close(end)
    if failures:
        raise RuntimeError(f"all workers were stopped: {failures[0]}") from failures[0]


class WorkerProcess:
    """One place in the crew: its process, and the next one when that has ended."""

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        ready: str,
        stdin: int,
        stop: asyncio.Event,
        shown: Callable[[int, str], str],
    ) -> None:
        self._number = number
        self._name = f"worker {number}"
        self._shown = shown
        self._command = command
        self._sign = ready
        self._stdin = stdin
        self._stop = stop
        self._ready = False
        self._last_words = "none"

    async def keep(self) -> None:
        """Returns when told to stop, and then only when the process has ended.

        Raises:
            OSError: no process can be made.
            RuntimeError: too many false starts, or it did not stop as told.
        """
        past = Past()
        while not self._stop.is_set():
            life = await self._live()
            if life.told and life.status not in (0, -signal.SIGTERM):  # by the signal itself: it had not begun yet
                raise RuntimeError(f"{self._name} did not stop well, but with {_how(life.status)}")
            if self._stop.is_set():
                return
            past = past.after(life.ran_s, ready=life.ready)
            if past.hopeless:
                raise RuntimeError(
                    f"{self._name} ended {past.false_starts} times before it was ready, with {_how(life.status)}; "
                    f"its last words: {self._last_words}"
                )
            log.warning(
                "%s ended with %s after %.0f s; it is started again in %.0f s",
                *(self._name, _how(life.status), life.ran_s, past.delay_s),
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(past.delay_s):
                    await self._stop.wait()

    async def _live(self) -> Life:
        self._ready = False
        began_s = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=self._stdin,
            stdout=PIPE,
            stderr=STDOUT,
            env={**os.environ, **ONE_THREAD},
            start_new_session=True,  # Ctrl-C in the terminal is for us, and reaches them once, as SIGTERM
            limit=LINE_BYTES,
        )
        log.info("%s is process %d", self._name, process.pid)
        assert process.stdout is not None
        relay = asyncio.create_task(self._relay(process.stdout))
        ended, stopped = asyncio.create_task(process.wait()), asyncio.create_task(self._stop.wait())
        await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        told = not ended.done()
        if told:
            await _end(process.pid, ended)
        status = await ended
        await relay
        return Life(status, time.monotonic() - began_s, self._ready, told)

    async def _relay(self, said: asyncio.StreamReader) -> None:
        """Its lines to our stderr, its name before each, until it closes its side."""
        while not said.at_eof():
            try:
                line = (await said.readline()).decode(errors="replace").rstrip()
            except ValueError:  # longer than LINE_BYTES
                continue
            if not line:
                continue
            self._last_words = line
            self._ready = self._ready or self._sign in line
            with suppress(OSError):  # nobody reads us any more; the process must not wait for a reader, so go on
                sys.stderr.write(f"{self._shown(self._number, line)}\n")


async def _end(pid: int, ended: asyncio.Task[int]) -> None:
    # Not Process.terminate(): it looks whether the process has ended, and may take the status from asyncio's watcher.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if (await asyncio.wait((ended,), timeout=STOP_S))[0]:
            return


def _how(status: int) -> str:
    return f"status {status}" if status >= 0 else f"signal {-status} ({signal.strsignal(-status)})"


def end_with_parent() -> None:
    """In a member's process: once the parent is gone, a SIGTERM to ourselves, and later SIGKILL. Takes over stdin."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
