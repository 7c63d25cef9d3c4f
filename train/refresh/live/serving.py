"""Rounds one after the other, until it is told to stop. Each has a process of its own, which ends with it, as what
training imports takes 400 MB that nothing needs while the next round is waited for.

The process is given our own command line, and a variable that says it is to make one round. Once its stdin is closed,
it stops, and the next one goes on with the round: so it also ends with us, however we end. What it notes of itself
comes back through a pipe.
"""

from __future__ import annotations

import json
import logging
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final

from stream.config.security import Refused
from stream.http.rounds import Rounds
from train.refresh.live import rounds

if TYPE_CHECKING:
    from train.refresh.live.champion import LiveRefresh

log: Final = logging.getLogger(__name__)

PAUSE_S: Final = 60.0
END_S: Final = 15.0  # for a round that is told to stop; less than `up` and orchestrators give us
LOOK_S: Final = 0.5  # between two looks whether it is told to stop
DECISIONS: Final = ("canary", "promote", "refuse")
HANG_S: Final = 3_600.0  # between two signs of life: regions are fitted, and files sorted, without one
ROUND: Final = "_PATHCAST_REFRESH_ROUND"  # the variable of a process that makes one round: its end of the pipe
PROGRAM: Final = "from stream.commands.main import main; main(is_part=True)"


def build_notes(every_s: float | None) -> Rounds:
    """Returns where a refresh notes what its pages show."""
    return Rounds("refresh", every_s, DECISIONS, hang_s=HANG_S)


def serve(directory: Path, topic: str, every_s: float, stop: Event, notes: Rounds, make: Callable[[int], bool]) -> None:
    """Goes on until it is told to stop. `make` makes a round, and returns whether it has not failed; it gets the open
    file that holds the directory. Raises Refused, and ValueError where another process works in the directory."""
    with rounds.lock_directory(directory) as held:
        log.info("a round every %g s, in %s", every_s, directory)
        while not stop.is_set():
            wait_s = _wait_s(directory, topic, every_s, time.time())
            if wait_s > 0:
                log.info("the next round begins in %.0f s", wait_s)
                notes.wait(wait_s)
                stop.wait(wait_s)
            elif not make(held):
                stop.wait(min(every_s, PAUSE_S))  # it may have failed before it began
        log.info("stopped; the next start goes on from here")


def make_apart(stop: Event, notes: Rounds, held: int) -> bool:
    """Makes a round in a process of its own, which holds `held`, too. Returns whether it has not failed. Raises
    Refused."""
    theirs, ours = os.pipe()
    command = [sys.executable, "-P", "-c", PROGRAM, *sys.argv[1:]]
    env = {**os.environ, ROUND: str(ours)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(ours, held), env=env)
    os.close(ours)
    assert process.stdin is not None
    ended: dict[str, Any] = {}
    with os.fdopen(theirs, "rb", buffering=0) as pipe:
        left, until_s = b"", math.inf
        while True:
            if stop.is_set() and not process.stdin.closed:
                process.stdin.close()
                until_s = time.monotonic() + END_S
            if time.monotonic() > until_s:
                log.warning("this round did not end within %g s, and is killed: the next start goes on with it", END_S)
                process.kill()
                until_s = math.inf
            if not select.select([pipe], [], [], LOOK_S)[0]:
                continue
            if not (some := pipe.read(65_536)):
                break
            *lines, left = (left + some).split(b"\n")
            for name, *given in map(json.loads, lines):
                ended[name] = given
                if name != "refused":
                    getattr(notes, name)(*given)
    with suppress(BrokenPipeError):
        process.stdin.close()
    status = process.wait()
    if "refused" in ended:
        raise Refused(*ended["refused"])
    if "failed" in ended or "done" in ended or stop.is_set():
        return "failed" not in ended
    log.warning("this round ended with status %d, and is gone on with", status)
    notes.failed()
    return False


class _NotesOfRound:
    """Passes on what a round notes of itself, by the names of `Rounds`."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def __getattr__(self, name: str) -> Callable[..., None]:
        def write(*given: str | None) -> None:
            with suppress(BrokenPipeError):  # nobody listens any more, and stdin says so, too
                os.write(self._pipe, json.dumps((name, *given)).encode() + b"\n")

        return write


def make_round(open_live: Callable[[], LiveRefresh], pipe: int) -> None:
    """Makes one round in this process, and writes what it notes to this pipe, until stdin is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # who asks us to stop closes stdin
        signal.signal(number, signal.SIG_IGN)
    notes: Any = _NotesOfRound(pipe)
    stop = Event()

    def watch() -> None:
        os.read(0, 1)  # nothing comes before its end
        stop.set()

    Thread(target=watch, daemon=True).start()
    from train.refresh.cli import show_progress
    from train.refresh.live import service

    with show_progress() as shown:
        try:
            service.attempt(open_live(), service.Patience(stop, waits=True, rounds=notes), shown)
        except Refused as error:
            notes.refused(str(error))


def _wait_s(directory: Path, topic: str, every_s: float, now_s: float) -> float:
    """Returns how long until the next round; a killed one goes on at once."""
    last_ms = rounds.last_started_ms(directory)
    if last_ms is None or rounds.find_unfinished(directory, topic) is not None:
        return 0.0
    return min(every_s, last_ms / 1000 + every_s - now_s)
