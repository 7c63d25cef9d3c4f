"""Runs one command to its end, and prints what it cost, as a separate program:

    python -I -S timed.py COMMAND...    the last line: wall s, CPU s, peak resident bytes; the status: the command's

It is a process of its own, and imports almost nothing, because on Linux the peak of a process counts from its fork on,
when it still has all memory of the one that started it: an empty Python would seem as large as the benchmark.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress


def main(command: list[str]) -> int:
    """Returns the command's exit status, as a shell shows it."""
    began_s = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ)

    def end(number: int, frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    signal.signal(signal.SIGTERM, end)
    _, status, used = os.wait4(pid, 0)
    wall_s = time.monotonic() - began_s
    cpu_s = used.ru_utime + used.ru_stime  # of the command, and of its children for which it has waited
    peak_bytes = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"{wall_s:.6f} {cpu_s:.6f} {peak_bytes}", flush=True)  # noqa: T201 - the parent reads it
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
