"""How a block of commands is run: line by line in an empty folder, with what differs stated beside it. Tests import
this; it tests nothing itself.

A line that goes on until Ctrl-C is started, waited for until it says that it is ready, and gets its Ctrl-C at the end
of the block. Every other line has to end with 0.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from page_blocks import ROOT, Block, commands
from pathcast_process import environment

PATIENCE_S = 600.0  # a bound on waiting: kernels may have to be compiled
LONG_PATIENCE_S = 3_600.0  # of what takes minutes on an idle machine: with a load of 20, all extras took 11 to install
CTRL_C_S = 120.0  # a bound, too
ENDED = (0, 130)


@dataclass(frozen=True)
class Scene:
    """Where a block runs: an empty folder, and real servers whose topics nobody else uses."""

    folder: Path
    bootstrap: str
    redis_url: str
    prefix: str
    invented: Path  # tracks of invented vehicles, made once: Parquet
    forecasts: Path  # of some buses of the sample, made once: NDJSON

    @property
    def variables(self) -> dict[str, str]:
        """In place of the defaults: other servers than localhost's, topics and groups of this block's own, and small
        pools of threads. The ports of `pathcast up` are nobody's default here."""
        where = {"PATHCAST_BOOTSTRAP": self.bootstrap, "PATHCAST_REDIS": self.redis_url, "PATHCAST_PREFIX": self.prefix}
        doors = dict.fromkeys(("PATHCAST_SERVE_LISTEN", "PATHCAST_INGEST_LISTEN", "PATHCAST_MAP_LISTEN"), "0")
        return {**where, **doors, "PATHCAST_GROUP": self.prefix}

    def elsewhere(self, text: str) -> str:
        """The text with the servers of the pages replaced by real ones, and folders of the machine by ours."""
        for written in ("redis://localhost:6379/0", "redis://redis:6379/0"):
            text = text.replace(written, self.redis_url)
        for written in ("localhost:9092", "kafka:9092"):
            text = text.replace(written, self.bootstrap)
        for written in ("/srv/", "/var/lib/", "/var/log/"):
            text = text.replace(written, f"{self.folder}{written}")
        return text


@dataclass(frozen=True)
class Run:
    """The block is run here."""

    ready: Mapping[str, str] = field(default_factory=dict)  # of lines that begin so, which go on: what they say
    changes: Mapping[str, str] = field(default_factory=dict)  # beside servers and folders
    before: Callable[[Scene], Mapping[str, str] | None] = lambda scene: None  # makes files; returns more changes
    around: Callable[[Scene], AbstractContextManager[Mapping[str, str]]] = lambda scene: nullcontext({})  # likewise
    after: Callable[[Scene], None] = lambda scene: None  # looks at what the block has done
    alone: bool = False  # a line that goes on gets its Ctrl-C before the next line
    says: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()  # files
    fresh: bool = False  # in a copy of this tree, with no pathcast on the path
    long: bool = False  # minutes: only with --all


@dataclass(frozen=True)
class Elsewhere:
    """The block is run as it is written by another test, which reads the page."""

    test: str


@dataclass(frozen=True)
class Not:
    """The block is not run, and why. `like` runs the same commands with other words, where there is such a test."""

    why: str
    like: str = ""


Verdict = Run | Elsewhere | Not


def execute(block: Block, run: Run, scene: Scene) -> str:
    """Runs a block; all that it said."""
    said = exports = ""
    with ExitStack() as stack:
        made = run.before(scene) or {}
        text = changed(block, {**run.changes, **made, **stack.enter_context(run.around(scene))})
        text = scene.elsewhere(text)
        env = environment(**scene.variables)
        if run.fresh:
            copy_tree(scene.folder)
            # of up to 6 GB, and pytest keeps the folders of the last three runs
            stack.callback(shutil.rmtree, scene.folder / ".venv", ignore_errors=True)
        else:
            env["PATH"] = on_path(scene.folder)
        running: list[_Forever] = []
        for number, line in enumerate(commands(text)):
            if line.startswith("export "):
                exports += f"{line}\n"
                continue
            marks = [mark for begin, mark in run.ready.items() if line.startswith(begin)]
            if marks:
                running.append(stack.enter_context(_Forever(f"{exports}{line}", scene.folder, env, number)))
                running[-1].wait_for(marks[0])
                if run.alone:
                    said += running.pop().ctrl_c()
            else:
                patience_s = LONG_PATIENCE_S if run.long else PATIENCE_S
                said += _to_its_end(f"{exports}{line}", scene.folder, env, patience_s)
        for one in reversed(running):
            said += one.ctrl_c()
    for words in run.says:
        assert words in said, f"{block.name} did not say {words!r}:\n{said}"
    for name in run.makes:
        assert (scene.folder / name).stat().st_size > 0, name
    run.after(scene)
    return said


def changed(block: Block, changes: Mapping[str, str]) -> str:
    """The block's text with all changes made; each has to change something."""
    text = block.text
    for written, replaced in changes.items():
        assert written in text, f"{block.name} has no {written!r} any more"
        text = text.replace(written, replaced)
    return text


def copy_tree(folder: Path) -> None:
    """A clone of this tree, with what is not committed yet."""
    subprocess.run(["git", "clone", "-q", "--shared", str(ROOT), str(folder)], check=True)
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--modified", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def on_path(folder: Path) -> str:
    """A PATH on which `pathcast` and `python`, and those of an environment in the folder, are this tree's."""
    here = folder / ".venv" / "bin"
    here.mkdir(parents=True, exist_ok=True)
    for name, command in (("pathcast", "-m stream"), ("python", "")):
        (here / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        (here / name).chmod(0o755)
    return f"{here}:{os.environ['PATH']}"


def _to_its_end(line: str, folder: Path, env: Mapping[str, str], patience_s: float) -> str:
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", line],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=patience_s)
    finally:
        _kill_all_of(process)
    assert process.returncode == 0, f"{line}\nended with {process.returncode}:\n{said}"
    return said


def _kill_all_of(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _take_ctrl_c() -> None:
    """Who runs the tests in the background has a shell that ignores Ctrl-C for them, and for all that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class _Forever:
    """A line that goes on until Ctrl-C."""

    def __init__(self, line: str, folder: Path, env: Mapping[str, str], number: int) -> None:
        self._line, self._log = line, folder / f".line-{number}.log"
        with self._log.open("wb") as file:
            self._process = subprocess.Popen(
                ["bash", "-c", line],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                preexec_fn=_take_ctrl_c,
            )

    def __enter__(self) -> _Forever:
        return self

    def __exit__(self, *_: object) -> None:
        _kill_all_of(self._process)

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, mark: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while mark not in self.said():
            assert self._process.poll() is None, f"{self._line}\nended with {self._process.poll()}:\n{self.said()}"
            assert time.monotonic() < deadline, f"{self._line}\ndid not say {mark!r}:\n{self.said()}"
            time.sleep(0.1)

    def ctrl_c(self) -> str:
        os.killpg(self._process.pid, signal.SIGINT)  # as a terminal does: to all of the line
        status = self._process.wait(CTRL_C_S)
        assert status in ENDED, f"{self._line}\nended with {status} at Ctrl-C:\n{self.said()}"
        return self.said()
