"""Runs one server under a supervisor process, which lives longer than its parent, just long enough to stop the server.

A child process does not die with its parent, least of all when the parent was killed with -9. So between the two there
is a supervisor that has the reading end of a pipe. The kernel closes the writing end however the parent ends, and then
the supervisor stops the server and removes its directory. Pipes work alike on Linux and macOS;
`prctl(PR_SET_PDEATHSIG)` is Linux only, and fires when the *thread* that forked ends, which is wrong for us.

This file is both sides: `Supervised` in the parent, and, run by its path (so that no package is imported and it starts
in some 20 ms), the supervisor itself:

    python -I -S supervisor.py LOG DIRECTORY COMMAND...    stdin: the pipe; stdout: the server's pid, one line; its exit
                                                           status, one more, when it ends
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_S = 8.0  # a server that has not ended so long after SIGTERM gets SIGKILL


class Supervised:
    """One server process under a supervisor. It ends on `stop`, and whenever this process ends, however that happens.

    Do not fork without exec while one runs (multiprocessing's `fork`): the copy would keep the pipe open.
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

        `held` are open files that the supervisor, not the server, keeps open as long as it lives, such as a lock.
        """
        self.log = log
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(log), str(remove or ""), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=None if env is None else dict(env),
            start_new_session=True,  # Ctrl-C in the terminal reaches only the parent, which then decides
            pass_fds=held,
        )
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        self._pipe, self._replies = self._supervisor.stdin, self._supervisor.stdout
        self._status: int | None = None
        line = self._replies.readline().decode().strip()
        if not line.isdigit():
            self.stop()
            raise RuntimeError(f"could not start {command[0]}: {line or self.log_tail() or 'no reason given'}")
        self.pid = int(line)  # of the server, not of its supervisor

    @property
    def running(self) -> bool:
        return self.wait(0) is None

    def wait(self, timeout_s: float) -> int | None:
        """Returns the status with which the server ended by itself, as a shell shows it; None if it still runs after
        `timeout_s`."""
        if self._status is None and select.select([self._replies], [], [], timeout_s)[0]:
            line = self._replies.readline().decode().strip()
            self._status = int(line) if line else 128 + signal.SIGKILL  # the supervisor itself was killed
        return self._status

    def stop(self) -> int:
        """Ends the server (SIGTERM, then SIGKILL after STOP_S), waits for its end, and returns its exit status."""
        self._pipe.close()
        status = self._supervisor.wait()
        self._replies.close()
        if self._status is None:
            self._status = status
        return self._status

    def log_tail(self, lines: int = 5) -> str:
        """Returns the last lines that the server wrote, for an error message."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def _supervise(log: str, remove: str, command: Sequence[str]) -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Only the end of the pipe ends us. It is a handler, not SIG_IGN: exec resets handlers, but passes SIG_IGN on,
        # and the server must get the SIGTERM that stops it.
        signal.signal(number, _do_nothing)
    try:
        with Path(log).open("ab") as sink:
            server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # as a service has one: then it can yield the cores (stream.config.priority)
            )
    except OSError as error:
        _tell(str(error))
        return 127
    _tell(str(server.pid))
    threading.Thread(target=lambda: _tell(str(_as_shell(server.wait()))), daemon=True).start()
    while os.read(0, 4096):
        pass
    status = _end(server)
    if remove:  # only now: until the pipe closes, the parent may want to read why the server ended
        shutil.rmtree(remove, ignore_errors=True)
    return status


def _end(server: subprocess.Popen[bytes]) -> int:
    server.terminate()
    try:
        return _as_shell(server.wait(STOP_S))
    except subprocess.TimeoutExpired:
        server.kill()
        return _as_shell(server.wait())


def _as_shell(status: int) -> int:
    return status if status >= 0 else 128 - status  # Popen has -9 where a shell has 137


def _tell(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the parent is gone, and nobody reads this any more
        os.write(1, f"{line}\n".encode())


def _do_nothing(number: int, frame: object) -> None:
    pass


if __name__ == "__main__":
    sys.exit(_supervise(sys.argv[1], sys.argv[2], sys.argv[3:]))
