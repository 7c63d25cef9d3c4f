"""Starts several processes, shows their log lines, restarts those that die, and stops all together.

    SIGTERM, SIGINT  -> SIGTERM to every process; each is waited for
    one dies         -> a line reports how, and it is started again, with a longer delay each time (`Past`)
    one cannot start -> all are stopped, and an error reports it: the next try would end the same way
    kill -9 of us    -> the processes stop by themselves

A child does not die with its parent, so each has the reading end of a pipe as its stdin. The kernel closes the writing
end however the parent ends, and a thread in the child (`end_with_parent`) then sends the child a SIGTERM.
`stream.demo.supervisor` does this for programs that are not ours; it is not used here, because it needs one more
process for each, and logs to a file.
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

RESTART_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # delay by the number of ends in a row; the last one repeats
STEADY_S = 60.0  # a process that ran for so long was sound: it ended for a new reason, not for the same fault again
FALSE_STARTS = 3  # in a row; one may be an accident, such as a lack of memory for a moment
# From SIGTERM to SIGKILL, for a process that hangs. It is well above the 9 s that a worker allows itself
# (stream.worker.app.STOP_S), as its end takes longer on an overloaded machine, and below the 30 s that most
# orchestrators allow us.
STOP_S = 25.0
# How a process ends that has no handler yet: by our SIGTERM, or by the Ctrl-C of a terminal that meets it before it has
# a session of its own.
NO_HANDLER_YET = (-signal.SIGTERM, -signal.SIGINT)
LINE_BYTES = 1024 * 1024  # a longer line is dropped
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a process uses one core


@dataclass(frozen=True)
class Past:
    """Decides about the next start of one worker by the ends of its processes so far. It is pure: durations are
    arguments."""

    ends: int = 0  # in a row; only the first of them may have come after STEADY_S or more
    false_starts: int = 0  # ends in a row before the process was ready, none after STEADY_S or more

    def after(self, ran_s: float, *, ready: bool) -> Past:
        if ran_s >= STEADY_S:
            return Past(ends=1)
        return Past(self.ends + 1, 0 if ready else self.false_starts + 1)

    @property
    def delay_s(self) -> float:
        """The delay before the next start."""
        return RESTART_S[min(self.ends, len(RESTART_S) - 1)]

    @property
    def hopeless(self) -> bool:
        return self.false_starts >= FALSE_STARTS


class Life(NamedTuple):
    """Holds what happened to one process from start to end."""

    status: int  # in Popen's form: -9 for SIGKILL
    ran_s: float
    ready: bool  # it logged that it was ready
    asked_to_stop: bool  # we have sent it the signal


def prefixed(number: int, line: str) -> str:
    return f"worker {number} | {line}"


async def run(commands: Sequence[Sequence[str]], *, ready: str, shown: Callable[[int, str], str] = prefixed) -> None:
    """Keeps a process of each command running until SIGTERM or SIGINT, and then waits until each has ended.

    A process counts as ready once a line of it contains `ready`, or else after STEADY_S. `shown` returns what we write
    for a process's number, from 1 on, and a line of it.

    Raises:
        RuntimeError: one could not be started, or did not stop after the signal; none is running any more.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    theirs, ours = os.pipe()  # nobody ever writes into it
    failures: list[Exception] = []  # in the order of their times: later ones may be consequences of the first

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
    """One of the workers: its process, and the next one when that has ended."""

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
        """Starts the process, and again when it ends, until `stop` is set. Returns only when the process has ended.

        Raises:
            OSError: no process can be started.
            RuntimeError: there were too many false starts, or the process did not stop well after the signal.
        """
        past = Past()
        while not self._stop.is_set():
            life = await self._live()
            if life.asked_to_stop and life.status not in (0, *NO_HANDLER_YET):
                raise RuntimeError(f"{self._name} did not stop well, but with {how(life.status)}")
            if self._stop.is_set():
                return
            past = past.after(life.ran_s, ready=life.ready)
            if past.hopeless:
                raise RuntimeError(
                    f"{self._name} ended {past.false_starts} times before it was ready, with {how(life.status)}; "
                    f"its last words: {self._last_words}"
                )
            log.warning(
                "%s ended with %s after %.0f s; it is started again in %.0f s",
                *(self._name, how(life.status), life.ran_s, past.delay_s),
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
            start_new_session=True,  # Ctrl-C in the terminal reaches only us, and we send one SIGTERM
            limit=LINE_BYTES,
        )
        log.info("%s is process %d", self._name, process.pid)
        assert process.stdout is not None
        relay = asyncio.create_task(self._relay(process.stdout))
        ended, stopped = asyncio.create_task(process.wait()), asyncio.create_task(self._stop.wait())
        await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        asked_to_stop = not ended.done()
        if asked_to_stop:
            await end(process.pid, ended)
        status = await ended
        await relay
        return Life(status, time.monotonic() - began_s, self._ready, asked_to_stop)

    async def _relay(self, said: asyncio.StreamReader) -> None:
        """Writes the process's lines to our stderr, each after its name, until it closes its side."""
        while not said.at_eof():
            try:
                line = (await said.readline()).decode(errors="replace").rstrip()
            except ValueError:  # longer than LINE_BYTES
                continue
            if not line:
                continue
            self._last_words = line
            self._ready = self._ready or self._sign in line
            with suppress(OSError):  # our stderr may be closed; the process must not wait for a reader, so continue
                sys.stderr.write(f"{self._shown(self._number, line)}\n")


async def end(pid: int, ended: asyncio.Task[int]) -> None:
    """Sends SIGTERM, and SIGKILL to a process that has not ended STOP_S later. `ended` waits for its end."""
    # Process.terminate() checks whether the process has ended, and may take the status from asyncio's watcher.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if (await asyncio.wait((ended,), timeout=STOP_S))[0]:
            return


def how(status: int) -> str:
    """Returns a status in Popen's form for people."""
    return f"status {status}" if status >= 0 else f"signal {-status} ({signal.strsignal(-status)})"


def end_with_parent() -> None:
    """Sends this process a SIGTERM, and later SIGKILL, once its parent is gone. Uses stdin for that."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
