"""A parent with children, as processes of their own, for the tests of what starts and stops them. Tests import this; it
tests nothing itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from pathcast_process import PATIENCE_S, eventually, processes_of

SERVES = """
print("serves", flush=True)
while True:
    time.sleep(600)
"""
DEAF = f"signal.signal(signal.SIGTERM, signal.SIG_IGN){SERVES}"
LONG_S = 60.0  # until SIGKILL: longer than any test waits for a SIGTERM to be enough


class Parent:
    """Runs a program whose processes all name `home` in their command lines; it ends with the block."""

    def __init__(self, home: Path, program: str, *arguments: object) -> None:
        self._home = home
        self._written = home / "written"
        with self._written.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # a process group of its own, as a shell gives it
            )

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        for pid in map(int, re.findall(r" is process (\d+)$", self.log(), re.MULTILINE)) if self._processes() else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def log(self) -> str:
        """What the parent has written."""
        return self._written.read_text(errors="replace")

    def lines(self, name: str) -> list[str]:
        """What a child has written, and what the parent says of it."""
        return re.findall(rf"^{name} \| (.*)$", self.log(), re.MULTILINE)

    def pids(self, name: str) -> list[int]:
        """The processes of a child so far; the last may live."""
        return [int(pid) for pid in re.findall(rf"{name}(?: \|)? is process (\d+)$", self.log(), re.MULTILINE)]

    def status(self) -> int:
        """The exit status, when it has ended."""
        return self.process.wait(PATIENCE_S)

    def nobody_is_left(self) -> bool:
        return eventually(lambda: not self._processes())

    def _processes(self) -> list[str]:
        return processes_of(self._home)
