"""Folders of a world that lie on the disk, as the product maps and locks the files in them."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path


class Room:
    """The folders of one world."""

    def __init__(self) -> None:
        self._room = Path(tempfile.mkdtemp(prefix="pathcast-world-"))
        self.atlases, self.registry, self.rounds = (self._room / name for name in ("atlases", "registry", "rounds"))
        self.atlases.mkdir()

    def take_atlases(self) -> None:
        """Lets the atlases be gone, as a disk is that is not mounted."""
        with suppress(FileNotFoundError):
            self.atlases.rename(self._room / "away")

    def give_atlases(self) -> None:
        with suppress(FileNotFoundError):
            (self._room / "away").rename(self.atlases)

    def remove(self) -> None:
        shutil.rmtree(self._room, ignore_errors=True)
