"""Runs several worker processes, shows their log lines, restarts those that die, and stops all together.

SIGTERM, SIGINT  -> SIGTERM to every process; each is waited for
one dies         -> a line reports how, and it is started again, with a longer delay each time (`stream.processes`)
one cannot start -> all are stopped, and an error reports it: the next try would end the same way
kill -9 of us    -> the processes stop by themselves
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Final

from stream.processes.child import ONE_THREAD, Child
from stream.processes.keeper import Keeper, stop_all

log = logging.getLogger(__name__)

LONGEST_DELAY_S: Final = 30.0


def prefix_lines(number: int, line: str) -> str:
    return f"worker {number} | {line}"


def run(commands: Sequence[Sequence[str]], *, ready: str, shown: Callable[[int, str], str] = prefix_lines) -> None:
    """Keeps a process of each command running until SIGTERM or SIGINT, and then waits until each has ended.

    A process counts as ready once a line of it contains `ready`, or else after a minute. `shown` returns what we write
    for a process's number, from 1 on, and a line of it.

    Raises:
        RuntimeError: one could not be started, or did not stop after the signal; none is running any more.
    """
    ends: SimpleQueue[str | None] = SimpleQueue()  # why we end; it is one of the few things that a handler may use
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: ends.put(None))

    def start(number: int, command: Sequence[str]) -> Child:
        env = {**os.environ, **ONE_THREAD}
        return Child(command, env=env, on_line=lambda line: _write(shown(number, line)), ready=ready)

    keepers = [
        Keeper(
            name := f"worker {number}",
            partial(start, number, command),
            partial(_log, name),
            longest_s=LONGEST_DELAY_S,
            give_up=ends.put,
        )
        for number, command in enumerate(commands, 1)
    ]
    for keeper in keepers:
        keeper.begin()
    failure = ends.get()
    stop_all(keepers)
    faults = [failure, *(f"{keeper.status.name} {keeper.fault}" for keeper in keepers if keeper.fault)]
    if first := next(filter(None, faults), None):  # later ones may be consequences of the first
        raise RuntimeError(f"all workers were stopped: {first}")


def _log(name: str, level: int, line: str) -> None:
    log.log(level, "%s %s", name, line)


def _write(line: str) -> None:
    with suppress(OSError):  # our stderr may be closed; the process must not wait for a reader, so continue
        sys.stderr.write(f"{line}\n")
