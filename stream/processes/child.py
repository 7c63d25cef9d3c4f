"""One process that we start: a command of ours (`Child`), or a server of others (`Supervised`). Both end when we end.

A child does not die with its parent, least of all when the parent was killed with -9. So its stdin is one end of a pipe
or socket, whose other end the kernel closes however we end. A thread in a command of ours waits for that
(`end_with_parent`); a server of others has a guard for it, one more process (`guard`). `prctl(PR_SET_PDEATHSIG)` is
Linux only, and fires when the *thread* that forked ends, which is wrong for us.

Statuses are in Popen's form: -9 for SIGKILL.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from stream.processes import guard
from stream.processes.logs import LAST_LINES, Lines, bound, tail

# From SIGTERM to SIGKILL, for a process that hangs. It is well above the 9 s that a worker allows itself
# (stream.worker.app.STOP_S), as its end takes longer on an overloaded machine, and below the 30 s that most
# orchestrators allow us.
STOP_S = 25.0
# How a process ends that was asked to: with its own status, a shell's, or by the signal itself if it has no handler
# yet. That may be the Ctrl-C of a terminal that meets it before it has a session of its own.
STOPPED_WELL: Final = (0, -signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGINT)
READ_BYTES: Final = 64 * 1024
ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # it uses one core


class Process:
    """A process that has been started. Threads may use it at the same time."""

    is_ready = True  # it has logged so, if it is one that does
    last_line = "none"

    def __init__(self, process: subprocess.Popen[bytes], stop_s: float) -> None:
        self.pid = process.pid
        self._process, self._stop_s = process, stop_s
        self._cleaning, self._clean = threading.Lock(), False

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Returns the status with which it ended by itself; None if it still runs after `timeout_s`."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def stop(self) -> int:
        """Ends it if it runs (SIGTERM, then SIGKILL after `stop_s`) with what it left, and returns its status."""
        self._process.terminate()
        if self.wait(self._stop_s) is None:
            self._process.kill()
        status = self._process.wait()
        with self._cleaning:
            if not self._clean:
                self._clean_up()
                self._clean = True
        return status

    def _clean_up(self) -> None:
        raise NotImplementedError


class Child(Process):
    """A command of ours. Its lines go to `on_line`, in a thread, and what it writes to its log, if it has one."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        on_line: Callable[[str], None],
        log: Path | None = None,
        held: Sequence[int] = (),
        ready: str = "",
    ) -> None:
        """Starts it. `held` are open files that it keeps open, such as a lock. It is ready once a line contains
        `ready`. Raises OSError."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # nobody ever writes into it
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,  # Ctrl-C in the terminal reaches only us, and we stop all in order
            pass_fds=held,
        )
        super().__init__(process, STOP_S)
        self._log, self._on_line = log, on_line
        self._ready, self.is_ready = ready, not ready
        self._relay = threading.Thread(target=self._relay_lines, daemon=True)
        self._relay.start()

    def _clean_up(self) -> None:
        # What it started itself has its process group. It would hold the pipe open, and outlive us.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._relay.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _relay_lines(self) -> None:
        lines = Lines()
        assert self._process.stdout is not None
        while raw := os.read(self._process.stdout.fileno(), READ_BYTES):
            self._append(raw)
            self._tell(lines.feed(raw))
        if last := lines.end():
            self._append(b"\n")  # what the next process writes begins a line
            self._tell(last)

    def _tell(self, lines: Sequence[str]) -> None:
        for line in lines:
            if line := line.rstrip():
                self.last_line = line
                self.is_ready = self.is_ready or self._ready in line
                self._on_line(line)

    def _append(self, raw: bytes) -> None:
        if self._log is None:
            return
        with suppress(OSError):  # a full disk must not stop the process, which waits for us to read
            bound(self._log)
            with self._log.open("ab") as file:
                file.write(raw)


class Supervised(Process):
    """A server of others, with a guard. It ends on `stop`, and whenever this process ends, however that happens.

    Do not fork without exec while one runs (multiprocessing's `fork`): the copy would keep the socket open.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        remove: Path | None = None,
        env: Mapping[str, str] | None = None,
        held: Sequence[int] = (),
    ) -> None:
        """Starts `command` with stdout and stderr appended to `log`; `remove` is a directory to delete at the end.

        `held` are open files that the guard, not the server, keeps open as long as it lives. Raises RuntimeError.
        """
        if shutil.which(command[0], path=(os.environ if env is None else env).get("PATH")) is None:
            raise RuntimeError(f"could not start {command[0]}: No such file, or it is no program")
        self.log, self._remove = log, remove
        self._ours, theirs = socket.socketpair()
        bound(log)
        with theirs, log.open("ab") as sink:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", guard.__file__),
                    *(str(remove or ""), ",".join(map(str, held))),
                    *command,
                ],
                stdin=theirs.fileno(),
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                start_new_session=True,  # as a service has one: then it can yield the cores (stream.config.priority)
                pass_fds=held,
            )
        super().__init__(process, guard.STOP_S)

    def log_tail(self, lines: int = LAST_LINES) -> str:
        """Returns the last lines that the server wrote as one text."""
        return "\n".join(tail(self.log, lines))

    def _clean_up(self) -> None:
        with self._ours, suppress(OSError):  # macOS refuses the first if there is no guard any more
            self._ours.shutdown(socket.SHUT_WR)
            self._ours.recv(1)  # nothing comes: the guard closes it when it has ended
        if self._remove is not None:  # the guard has done it, but for a server that was stopped before it had one
            shutil.rmtree(self._remove, ignore_errors=True)


def how(status: int) -> str:
    """Returns a status for people."""
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
