"""A rehearsal of `.ci/release`: what it built, and the environment that it installed its wheel into. Tests import this;
it tests nothing itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from missing_servers import skip_unless_required
from pathcast_process import environment
from release_rig import REPOSITORY

# Runs at each start of the environment's Python: whoever touches a file of the checkout fails, and is noted.
WATCH = """
import os, sys
_checkout, _seen = {checkout!r}, {seen!r}
def _watch(event, arguments):
    if event not in ("open", "os.listdir", "os.scandir", "import"):
        return
    for argument in arguments[:2]:
        if isinstance(argument, (str, bytes, os.PathLike)):
            path = os.fsdecode(argument)
            if os.path.abspath(path).startswith(_checkout + os.sep):
                notes = os.open(_seen, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.write(notes, (path + chr(10)).encode())
                os.close(notes)
                raise PermissionError("the checkout was read: " + path)
sys.addaudithook(_watch)
"""


class Release(NamedTuple):
    out: Path
    env: Path
    said: str
    seen: Path  # which files of the checkout were touched, if any

    @property
    def python(self) -> Path:
        return self.env / "bin" / "python"

    @property
    def pathcast(self) -> Path:
        return self.env / "bin" / "pathcast"

    def run(self, *command: object, folder: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a program of the environment from an empty folder, with nothing of ours on its path."""
        ran = subprocess.run(
            list(map(str, command)), cwd=folder, env=alone(), capture_output=True, text=True, timeout=600, check=False
        )
        assert not check or ran.returncode == 0, (command, ran.stdout, ran.stderr)
        return ran


def alone() -> dict[str, str]:
    return {name: value for name, value in environment().items() if name != "PYTHONPATH"}


def rehearsed(folder: Path) -> Release:
    out, env, seen = folder / "dist", folder / "serving", folder / "seen"
    made = subprocess.run(
        [REPOSITORY / ".ci" / "release", "--rehearse", "--env", env, out],
        env={**os.environ, "PATHCAST_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=1_200,
        check=False,
    )
    if made.returncode != 0 and "No matching distribution found" in made.stderr:  # as pip says without a network, too
        skip_unless_required(f"needs a package index: {made.stderr[-300:]}")
    assert made.returncode == 0, made.stdout + made.stderr
    (packages,) = (env / "lib").glob("python3*/site-packages")
    (packages / "watch_checkout.py").write_text(WATCH.format(checkout=str(REPOSITORY), seen=str(seen)))
    (packages / "watch_checkout.pth").write_text("import watch_checkout\n")
    return Release(out, env, made.stdout, seen)
