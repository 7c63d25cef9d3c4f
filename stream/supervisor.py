"""Runs one server and outlives its parent just long enough to stop it. Knows processes, not what they serve.

A child process does not die with its parent, least of all when the parent was killed with -9. So between the two stands
a supervisor that holds the reading end of a pipe. The kernel closes the writing end whatever ends the parent, and then
the supervisor stops the server and removes its directory. Pipes work alike on Linux and macOS;
`prctl(PR_SET_PDEATHSIG)` is Linux only, and fires when the *thread* that forked ends, which is wrong for us.

This file is both sides: `Supervised` in the parent, and, run by its path (so that no package is imported and it is up
in some 20 ms), the supervisor itself:

    python -I -S supervisor.py LOG DIRECTORY COMMAND...    stdin: the pipe; stdout: the server's pid, one line
"""

from __future__ import annotations

import os
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

    Do not fork without exec while one runs (multiprocessing's `fork`): the copy would hold the pipe open.
    """

    def __init__(
        self, command: Sequence[str], *, log: Path, remove: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        """Start `command` with stdout and stderr appended to `log`; `remove` is a directory to delete at the end."""
        self.log = log
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(log), str(remove or ""), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=None if env is None else dict(env),
            start_new_session=True,  # Ctrl-C in the terminal is for the parent, which then decides
        )
        assert self._supervisor.stdout is not None
        line = self._supervisor.stdout.readline().decode().strip()
        if not line.isdigit():
            self.stop()
            raise RuntimeError(f"could not start {command[0]}: {line or self.log_tail() or 'no reason given'}")
        self.pid = int(line)  # of the server, not of its supervisor

    @property
    def running(self) -> bool:
        return self._supervisor.poll() is None

    def stop(self) -> int:
        """End the server (SIGTERM, then SIGKILL after STOP_S) and wait until it is gone; its exit status."""
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        self._supervisor.stdin.close()
        status = self._supervisor.wait()
        self._supervisor.stdout.close()
        return status

    def wait(self, timeout_s: float) -> int:
        """Wait for the server to end by itself; its exit status. Raises subprocess.TimeoutExpired."""
        return self._supervisor.wait(timeout_s)

    def log_tail(self, lines: int = 5) -> str:
        """The last lines that the server wrote, for an error message."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def _supervise(log: str, remove: str, command: Sequence[str]) -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Only the end of the pipe ends us. A handler, not SIG_IGN: exec resets handlers, but passes SIG_IGN on,
        # and the server must hear the SIGTERM that stops it.
        signal.signal(number, _do_nothing)
    try:
        with Path(log).open("ab") as sink:
            server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
    except OSError as error:
        _tell(str(error))
        return 127
    _tell(str(server.pid))
    threading.Thread(target=_stop_at_end_of_pipe, args=(server,), daemon=True).start()
    status = server.wait()
    if remove:
        shutil.rmtree(remove, ignore_errors=True)
    return status if status >= 0 else 128 - status


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _do_nothing(number: int, frame: object) -> None:
    pass


def _stop_at_end_of_pipe(server: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):
        pass
    server.terminate()
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    sys.exit(_supervise(sys.argv[1], sys.argv[2], sys.argv[3:]))
