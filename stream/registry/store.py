"""Versions and decisions as files of a storage: a folder, a cache in one, or an object store.

    <root>/weights/<version>/manifest.json
    <root>/weights/<version>/<content>/model.safetensors, config.json, README.md, golden.json
    <root>/atlas/<version>/manifest.json
    <root>/atlas/<version>/<content>/<version>.atlas
    <root>/decisions/<ts>-<random>.json
    <root>/weights/.publishing-<random>/     of a folder: being written; `.deleted-<random>/`: being deleted

A version exists if its manifest does. How it appears whole is each kind's own, as fsspec cannot say what a folder can:
to rename many files at once, on any file system, also where there are no hard links.
"""

from __future__ import annotations

import errno
import fcntl
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from model.files import flush, write_whole
from stream.config import failpoints
from stream.registry.manifest import KINDS, MAX_MANIFEST_BYTES, VERSION, Kind
from stream.storage import LocalFolder, Storage, UrlFolder

MANIFEST: Final = "manifest.json"
IS_VERSION: Final = re.compile(VERSION)
_DECISIONS: Final = "decisions"
_DECISION: Final = re.compile(r"[0-9]{15}-[0-9a-f]{8}\.json")  # begins with the time, so that names sort by it
_OBJECT: Final = re.compile(r"([0-9a-f]{16})/(?:([0-9a-f]{64})/[^/]+|manifest\.json)")
_PUBLISHING, _DELETED = ".publishing-", ".deleted-"
_MODE: Final = 0o755  # as versions are for every reader; mkdtemp gives 0700


class _Store:
    """Does what is the same in a folder and in an object store."""

    def __init__(self, storage: Storage) -> None:
        self._files = storage

    def listing(self, kind: Kind) -> dict[str, bytes]:
        """Returns the manifests, as they are, by version."""
        return self._files.read_each(kind, IS_VERSION, f"/{MANIFEST}", MAX_MANIFEST_BYTES)

    def manifest(self, kind: Kind, version: str) -> bytes | None:
        """Returns the manifest, as far as it is not longer than any, or None if there is none."""
        with suppress(FileNotFoundError):
            return next(self._files.pieces(f"{kind}/{version}/{MANIFEST}"), b"")  # a piece is longer than any
        return None

    def read(self, kind: Kind, version: str, content: str, name: str) -> Iterator[bytes]:
        """Yields a file piece by piece. Raises FileNotFoundError."""
        return self._files.pieces(f"{kind}/{version}/{content}/{name}")

    def append(self, name: str, raw: bytes) -> None:
        """Adds a decision, whole or not at all."""
        with self._files.writing(f"{_DECISIONS}/{name}") as part:
            part.write_bytes(raw)

    def decisions(self) -> dict[str, bytes]:
        """Returns the decisions, as they are, by name."""
        return self._files.read_each(_DECISIONS, _DECISION, "", MAX_MANIFEST_BYTES)


class LocalStore(_Store):
    """A folder. A version is written beside its place, flushed to the disk, and put there by one rename."""

    def __init__(self, folder: LocalFolder) -> None:
        super().__init__(folder)
        self._root = folder.root

    def exists(self) -> bool:
        return self._root.is_dir()

    def folder(self, kind: Kind, version: str, content: str) -> Path:
        """Returns where the files of a version lie."""
        return self._root / kind / version / content

    @contextmanager
    def staging(self, kind: Kind) -> Iterator[Path]:
        """Yields an empty folder on the same disk, which is gone afterwards."""
        (self._root / kind).mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=_PUBLISHING, dir=self._root / kind))
        try:
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def commit(self, kind: Kind, version: str, content: str, stage: Path, manifest: bytes) -> bool:
        """Makes the files in `stage`/`content` and the manifest a version. Returns whether it did: another publisher
        may have been faster.
        """
        failpoints.reach("before_manifest")
        write_whole(stage / MANIFEST, [manifest])
        for folder in (stage / content, stage):
            folder.chmod(_MODE)
            flush(folder)
        failpoints.reach("before_rename")
        target = self._root / kind / version
        try:
            _rename(stage, target)
        except FileExistsError:
            if (target / MANIFEST).exists():
                return False
            self.remove(kind, version)  # somebody copied it from elsewhere, and did not end
            try:
                _rename(stage, target)
            except FileExistsError:
                return False
        flush(target.parent)
        failpoints.reach("after_publication")
        return True

    def remove(self, kind: Kind, version: str) -> None:
        """Deletes a version. Its manifest and its files leave their place at the same moment."""
        away = Path(tempfile.mkdtemp(prefix=_DELETED, dir=self._root / kind))
        with suppress(FileNotFoundError):  # another process was faster
            (self._root / kind / version).rename(away / version)
        failpoints.reach("within_deletion")
        shutil.rmtree(away, ignore_errors=True)

    def clean(self, older_than_s: float) -> None:
        """Deletes what interrupted publications and deletions left, if it did not change after that time (s, Unix)."""
        for kind in KINDS:
            for name in self._files.folders(kind):
                folder = self._root / kind / name
                if name.startswith((_PUBLISHING, _DELETED)) and _last_change_s(folder) < older_than_s:
                    shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def lock(self, kind: Kind) -> Iterator[None]:
        """Holds a lock that one process at a time has, until it ends however it ends."""
        (self._root / kind).mkdir(parents=True, exist_ok=True)
        with (self._root / kind / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _rename(source: Path, target: Path) -> None:
    """Raises FileExistsError if the target is a folder that is not empty."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise FileExistsError(errno.EEXIST, "is there already", str(target)) from error
        raise


def _last_change_s(folder: Path) -> float:
    """Returns when anything in a folder was last written; never, if it is gone meanwhile."""
    with suppress(FileNotFoundError):
        return max(path.lstat().st_mtime for path in [folder, *folder.rglob("*")])
    return float("inf")


class RemoteStore(_Store):
    """An object store. Files are put first, below a name that is a hash of them, so that two publishers of other files
    never write to the same name; the manifest is put last and only if there is none.
    """

    def __init__(self, objects: UrlFolder) -> None:
        super().__init__(objects)
        self._objects = objects

    @contextmanager
    def staging(self, kind: Kind) -> Iterator[Path]:
        """Yields an empty local folder, which is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix=f"pathcast-{kind}-") as folder:
            yield Path(folder)

    def commit(self, kind: Kind, version: str, content: str, stage: Path, manifest: bytes) -> bool:
        """Publishes what `staging` was filled with, as a local store does; the manifest comes last."""
        # Also those that an interrupted publication left: written again, they are not cleaned away as old.
        for path in sorted((stage / content).iterdir()):
            failpoints.reach("before_file")
            self._objects.put(path, f"{kind}/{version}/{content}/{path.name}")
        failpoints.reach("before_manifest")
        try:
            self._objects.create(f"{kind}/{version}/{MANIFEST}", manifest)
        except FileExistsError:
            return False
        failpoints.reach("after_publication")
        return True

    def remove(self, kind: Kind, version: str) -> None:
        """Deletes the manifest first, and then the files."""
        self._objects.delete(f"{kind}/{version}/{MANIFEST}")
        failpoints.reach("within_deletion")
        for name in self._objects.find(f"{kind}/{version}"):
            self._objects.delete(f"{kind}/{version}/{name}")

    def clean(self, older_than_s: float) -> None:
        """Deletes files that no manifest names, if all of their version's were written before that time (s, Unix):
        interrupted publications and deletions left them.
        """
        for kind in KINDS:
            by_version: dict[str, dict[str, float]] = {}
            for name, found in self._objects.find(kind).items():
                if (part := _OBJECT.fullmatch(name)) is not None:
                    by_version.setdefault(part[1], {})[name] = found.written_s
            for version, objects in by_version.items():
                if all(at_s < older_than_s for at_s in objects.values()):
                    named = self.manifest(kind, version) or b""  # read again: it may have been published meanwhile
                    for name in objects:
                        if name.count("/") == 2 and name.split("/")[1].encode() not in named:
                            self._objects.delete(f"{kind}/{name}")
