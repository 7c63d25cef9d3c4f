"""The logs of processes: lines out of what one writes, and files that stay small."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

LIMIT_BYTES: Final = 10 * 1024 * 1024  # of one log; as much again is kept of what was before
LINE_BYTES: Final = 64 * 1024  # what is longer is shown in pieces
LAST_LINES: Final = 5  # that a report of a failing process repeats


class Lines:
    """Cuts what a process writes into lines, also what has no line ends."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, raw: bytes) -> list[str]:
        """Returns the lines that end in `raw`."""
        *whole, self._rest = (self._rest + raw).split(b"\n")
        while len(self._rest) >= LINE_BYTES:
            whole.append(self._rest[:LINE_BYTES])
            self._rest = self._rest[LINE_BYTES:]
        return [line.decode(errors="replace") for line in whole]

    def end(self) -> list[str]:
        """Returns the last line, if the process ended in the middle of one."""
        rest, self._rest = self._rest, b""
        return [rest.decode(errors="replace")] if rest else []


def bound(path: Path, limit_bytes: int = LIMIT_BYTES) -> None:
    """Moves the contents of a log that has grown beyond the limit to PATH.1.

    Whoever writes must append (O_APPEND), and may keep the file open: it is emptied in place, because a server opens
    its log only once. What is written between copy and cut, some milliseconds, is lost.
    """
    if path.exists() and path.stat().st_size > limit_bytes:
        shutil.copyfile(path, path.with_name(path.name + ".1"))
        os.truncate(path, 0)


def tail(path: Path, lines: int = LAST_LINES) -> list[str]:
    """Returns the last lines of a log that are not empty."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - lines * 4096))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
