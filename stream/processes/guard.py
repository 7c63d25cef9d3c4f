"""Becomes a server of others, and leaves a guard beside it, which ends the server once our parent is gone.

    python -I -S guard.py DIRECTORY HELD COMMAND...   stdin: a socket, whose other end the parent has; stdout: the log

The guard waits until the socket's other end is closed, which the kernel does however the parent ends. Then it stops the
server if that still runs, removes DIRECTORY (none if it is empty), and closes its end. The server is what the parent
started, so that the parent knows its id and its status; the guard is a child of the server, and knows by the id of its
own parent whether the server still runs. HELD are open files (`3,4`) that the guard, not the server, keeps open.

It is run by its path, so that no package is imported and it starts in some 20 ms.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

STOP_S = 8.0  # a server that has not ended so long after SIGTERM gets SIGKILL
CHECK_S = 0.02


def guard(server: int, directory: str) -> None:
    """Waits for the end of the parent, and then for that of the server, whose child this process is."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the end of the parent ends us
    for output in (1, 2):
        os.close(output)  # whoever reads what the server writes must not wait for us
    while os.read(0, 4096):
        pass
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_S
        if os.getppid() == server:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(server, number)
        while os.getppid() == server and time.monotonic() < deadline:
            time.sleep(CHECK_S)
    if directory:  # only now: until the socket closes, the parent may want to read why the server ended
        shutil.rmtree(directory, ignore_errors=True)


def become(command: list[str], held: Sequence[int]) -> None:
    """Replaces this program by the server. Raises OSError if it cannot be started."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for file in held:
        os.set_inheritable(file, False)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and the server would do so, too
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], command)


if __name__ == "__main__":
    itself = os.getpid()
    if os.fork() == 0:
        try:
            guard(itself, sys.argv[1])
        finally:
            os._exit(0)
    become(sys.argv[3:], [int(file) for file in sys.argv[2].split(",") if file])
