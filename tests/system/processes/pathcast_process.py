"""`pathcast ...` as a process of its own, and what is left of it. Tests import this; it tests nothing itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

COMMAND = [sys.executable, "-c", "from stream.commands.main import main; main()"]
VERIFY = [sys.executable, "-c", "import typer; from stream.verify.cli import verify; typer.run(verify)"]
PATIENCE_S = 240.0  # a bound on waiting, not a claim about speed


def environment(**extra: str) -> dict[str, str]:
    """Ours, without settings for pathcast that the caller may have, and wide enough for tables."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PATHCAST_")}
    return {**ours, "COLUMNS": "160", "OMP_NUM_THREADS": "1", **extra}


def pathcast(
    *arguments: object, stdin: bytes | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin or b"",  # never the terminal's
        capture_output=True,
        timeout=PATIENCE_S,
        env=env or environment(),
        check=False,
    )


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that name this folder; give each test's processes a folder of their own as TMPDIR."""
    listing = subprocess.run(["ps", "-axww", "-o", "command="], capture_output=True, text=True, check=True).stdout
    return [line for line in listing.splitlines() if str(folder) in line]


def eventually(holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return holds()
