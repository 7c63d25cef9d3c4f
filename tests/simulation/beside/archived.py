"""The archive of a world: a folder in which members land pings, and whose answers may be lost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Final
from unittest import mock

from stream.adapters.archived import catalog as catalogs
from stream.adapters.archived.catalog import Catalog, of_topic
from stream.adapters.archived.manifest import LANDED
from stream.config.settings import Settings
from stream.services.archive import changes
from stream.services.archive.member import Runner
from stream.services.archive.settings import ArchiveRules, ArchiveSettings
from stream.storage import LocalFolder

EVERY_S: Final = 1.5  # between two landings
RULES: Final = ArchiveRules(late_ms=None)  # vehicles have a clock of their own
MEMORY: Final = Path("/dev/shm")


class LossyFolder(LocalFolder):
    """A store that creates a file, and whose answer may be lost on the way, as that of objects behind a URL."""

    def __init__(self, root: Path, archive: WorldsArchive) -> None:
        super().__init__(root)
        self._archive = archive

    def create(self, name: str, raw: bytes) -> None:
        super().create(name, raw)
        if self._archive.unanswered and name.startswith(LANDED):
            self._archive.unanswered -= 1
            raise OSError("the store's answer was lost")


class WorldsArchive:
    """The archive of the pings topic."""

    def __init__(self, seed: int, settings: Settings) -> None:
        self.unanswered = 0  # of the next manifests
        self._chance = random.Random(f"archive {seed}")
        self._settings = settings
        self._folder = TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)

    def catalog(self) -> Catalog:
        found = of_topic(self._folder.name, self._settings.topics.pings)
        assert isinstance(found.storage, LocalFolder)
        return Catalog(LossyFolder(found.storage.root, self), found.head)

    def member(self) -> Runner:
        """Returns a member that has not run yet."""
        made = ArchiveSettings(
            bootstrap=self._settings.bootstrap,
            group=f"{self._settings.group}-archive",
            archive=self._folder.name,
            every_s=EVERY_S,
            rules=RULES,
        )
        return Runner(made, self.catalog(), made.reads.consumer())

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Lets the names of files be those of the seed. Deletes the folder in the end."""
        names = SimpleNamespace(token_hex=lambda size: self._chance.randbytes(size).hex())
        writers = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=self._chance.randbytes(16).hex()))
        try:
            with (
                mock.patch.object(changes, "secrets", names),
                mock.patch.object(changes, "uuid", writers),
                mock.patch.object(catalogs, "secrets", names),
            ):
                yield
        finally:
            self._folder.cleanup()
