"""The directory of one `pathcast up`, and its lock: two of them would give two servers the same files."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple


class Home(NamedTuple):
    """The folder in which everything is kept."""

    root: Path

    @property
    def atlases(self) -> Path:
        return self.root / "atlases"

    @property
    def registry(self) -> Path:
        return self.root / "registry"

    @property
    def archive(self) -> Path:
        return self.root / "archive"

    def archive_of(self, topic: str) -> Path:
        return self.archive / topic

    @property
    def refresh(self) -> Path:
        return self.root / "refresh"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def server(self, name: str) -> Path:
        """Returns the directory of an embedded server."""
        return self.root / name

    def make(self, topic: str) -> None:
        """Makes all folders, also that of the archive of the pings topic, which may be read before anything landed."""
        # Pings tell where people are: nobody else on this machine may read them.
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.atlases, self.registry, self.archive, self.archive_of(topic), self.logs):
            folder.mkdir(exist_ok=True)


@contextmanager
def lock_home(home: Home) -> Iterator[int]:
    """Holds the directory's lock, and yields its file descriptor.

    Whoever inherits the descriptor holds the lock, too. Children do, so that after a kill -9 of the parent the next
    `pathcast up` cannot start beside those that are still ending.

    Raises:
        RuntimeError: another process, or a child that it left, holds it.
    """
    path = home.root / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(_explain_refusal(home.root, path.read_text().strip())) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield descriptor
    finally:
        os.close(descriptor)  # it does not unlock what a child still holds


def _explain_refusal(root: Path, pid: str) -> str:
    if pid.isdigit() and _lives(int(pid)):
        return f"another pathcast up, process {pid}, works in {root}: stop it, or give another --dir"
    return f"processes of an earlier pathcast up are still ending in {root}: try again in half a minute"


def _lives(pid: int) -> bool:
    with suppress(PermissionError):  # it lives, and is another user's
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True
