"""A registry, or a cache of one, in a local folder.

    <root>/weights/<version>/manifest.json
    <root>/weights/<version>/<content>/model.safetensors, config.json, README.md, golden.json
    <root>/atlas/<version>/manifest.json
    <root>/atlas/<version>/<content>/<version>.atlas
    <root>/decisions/<ts>-<random>.json
    <root>/weights/.publishing-<random>/     being written; `.deleted-<random>/`: being deleted

A version is written beside its place, flushed to the disk, and put there by one rename of its folder: it is there whole
or not at all. The remote registry (`stream.registry.remote`) has the same names.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from stream.config import failpoints
from stream.registry.manifest import MAX_MANIFEST_BYTES, VERSION, Kind

MANIFEST: Final = "manifest.json"
DECISIONS: Final = "decisions"
DECISION: Final = re.compile(r"[0-9]{15}-[0-9a-f]{8}\.json")  # begins with the time, so that names sort by it
IS_VERSION: Final = re.compile(VERSION)
_PUBLISHING, _DELETED = ".publishing-", ".deleted-"
_MODE: Final = 0o755  # as versions are for every reader; mkdtemp gives 0700


class LocalStore:
    """Versions and decisions as files."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def exists(self) -> bool:
        return self._root.is_dir()

    def listing(self, kind: Kind) -> dict[str, bytes]:
        """Returns the manifests, as they are, by version."""
        found = {}
        for name in _names(self._root / kind):
            if IS_VERSION.fullmatch(name) and (raw := self.manifest(kind, name)) is not None:
                found[name] = raw
        return found

    def manifest(self, kind: Kind, version: str) -> bytes | None:
        """Returns the manifest, as far as it is not longer than any, or None if there is none."""
        return _read(self._root / kind / version / MANIFEST, MAX_MANIFEST_BYTES)

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
        _write(stage / MANIFEST, manifest)
        for folder in (stage / content, stage):
            folder.chmod(_MODE)
            _sync(folder)
        failpoints.reach("before_rename")
        target = self._root / kind / version
        try:
            _rename(stage, target)
        except FileExistsError:
            if (target / MANIFEST).exists():
                return False
            self._discard(target)  # somebody copied it from elsewhere, and did not end
            try:
                _rename(stage, target)
            except FileExistsError:
                return False
        _sync(target.parent)
        failpoints.reach("after_publication")
        return True

    def remove(self, kind: Kind, version: str) -> None:
        """Deletes a version. Its manifest and its files leave their place at the same moment."""
        self._discard(self._root / kind / version)

    def clean(self, older_than_s: float) -> None:
        """Deletes what interrupted publications and deletions left, if it did not change after that time (s, Unix)."""
        for kind in ("weights", "atlas"):
            for name in _names(self._root / kind):
                folder = self._root / kind / name
                if name.startswith((_PUBLISHING, _DELETED)) and _changed_s(folder) < older_than_s:
                    shutil.rmtree(folder, ignore_errors=True)

    def append(self, name: str, raw: bytes) -> None:
        """Adds a decision, whole or not at all."""
        folder = self._root / DECISIONS
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{name}"
        _write(part, raw)
        _rename(part, folder / name)
        _sync(folder)

    def decisions(self) -> dict[str, bytes]:
        """Returns the decisions, as they are, by name."""
        folder = self._root / DECISIONS
        names = sorted(name for name in _names(folder) if DECISION.fullmatch(name))
        found = {name: _read(folder / name, MAX_MANIFEST_BYTES) for name in names}
        return {name: raw for name, raw in found.items() if raw is not None}

    @contextmanager
    def locked(self, kind: Kind) -> Iterator[None]:
        """Holds a lock that one process at a time has, until it ends however it ends."""
        (self._root / kind).mkdir(parents=True, exist_ok=True)
        with (self._root / kind / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _discard(self, folder: Path) -> None:
        away = Path(tempfile.mkdtemp(prefix=_DELETED, dir=folder.parent))
        with suppress(FileNotFoundError):  # another process was faster
            folder.rename(away / folder.name)
        failpoints.reach("within_deletion")
        shutil.rmtree(away, ignore_errors=True)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):  # nothing was published yet; a file that somebody put there
        return []


def _read(path: Path, most: int) -> bytes | None:
    """Returns at most a byte more than `most`, which tells that there is more."""
    if not path.is_file():  # a pipe would never end
        return None
    with suppress(FileNotFoundError), path.open("rb") as file:
        return file.read(most + 1)
    return None


def _write(path: Path, raw: bytes) -> None:
    with path.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _rename(source: Path, target: Path) -> None:
    """Raises FileExistsError if the target is a folder that is not empty."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise FileExistsError(errno.EEXIST, "is there already", str(target)) from error
        raise


def _sync(folder: Path) -> None:
    """Makes new names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _changed_s(folder: Path) -> float:
    """Returns when anything in a folder was last written; never, if it is gone meanwhile."""
    with suppress(FileNotFoundError):
        return max(path.lstat().st_mtime for path in [folder, *folder.rglob("*")])
    return float("inf")
