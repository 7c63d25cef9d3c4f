"""A registry behind any URL that fsspec knows, such as s3://bucket/pathcast. `stream.registry.local` has the names.

An object store has no rename. Files are put first, below a name that is a hash of them, so that two publishers of other
files never write to the same name; the manifest is put last and only if there is none. A version exists if its manifest
does. fsspec is imported here alone, when such a registry is opened.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from stream.config import failpoints
from stream.config.security import in_words, shown
from stream.registry.local import DECISION, DECISIONS, MANIFEST
from stream.registry.manifest import MAX_MANIFEST_BYTES, Kind

# Where the stores of fsspec say when an object was written.
_WRITTEN: Final = ("LastModified", "last_modified", "updated", "mtime", "created")
_OBJECT: Final = re.compile("([0-9a-f]{16})/(?:([0-9a-f]{64})/[^/]+|manifest\\.json)")


class RemoteStore:
    """Versions and decisions as objects."""

    def __init__(self, fs: Any, root: str, url: str) -> None:
        self._fs = fs
        self._root = root.rstrip("/")
        self._url = url

    @classmethod
    def opened(cls, url: str) -> Self:
        """Connects to nothing yet. Raises RuntimeError if a package for this kind of URL is not installed."""
        try:
            import fsspec

            fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise RuntimeError(
                f"the registry {shown(url)} cannot be opened ({error}): pip install 'pathcast[s3]' is for s3://, and "
                "fsspec's own page names the package for another kind of URL"
            ) from error
        return cls(fs, root, url)

    def listing(self, kind: Kind) -> dict[str, bytes]:
        """Returns the manifests, as they are, by version."""
        return self._many(kind, lambda name: name.endswith(f"/{MANIFEST}") and _OBJECT.fullmatch(name) is not None)

    def manifest(self, kind: Kind, version: str) -> bytes | None:
        """Returns the manifest, as far as it is not longer than any, or None if there is none."""
        with self._errors_explained(), suppress(FileNotFoundError):
            self._fs.invalidate_cache()
            with self._fs.open(self._path(f"{kind}/{version}/{MANIFEST}"), "rb", cache_type="readahead") as file:
                return bytes(file.read(MAX_MANIFEST_BYTES + 1))
        return None

    @contextmanager
    def staging(self, kind: Kind) -> Iterator[Path]:
        """Yields an empty local folder, which is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix=f"pathcast-{kind}-") as folder:
            yield Path(folder)

    def commit(self, kind: Kind, version: str, content: str, stage: Path, manifest: bytes) -> bool:
        """Makes the files in `stage`/`content` and the manifest a version. Returns whether it did: another publisher
        may have been faster.
        """
        with self._errors_explained():
            # Also those that an interrupted publication left: written again, they are not cleaned away as old.
            for path in sorted((stage / content).iterdir()):
                failpoints.reach("before_file")
                self._fs.put_file(str(path), self._path(f"{kind}/{version}/{content}/{path.name}"))
            failpoints.reach("before_manifest")
            try:
                self._fs.pipe_file(self._path(f"{kind}/{version}/{MANIFEST}"), manifest, mode="create")
            except FileExistsError:
                return False
        failpoints.reach("after_publication")
        return True

    def read(self, kind: Kind, version: str, content: str, name: str) -> Iterator[bytes]:
        """Yields a file piece by piece. Raises FileNotFoundError."""
        with self._errors_explained():
            self._fs.invalidate_cache()
            with self._fs.open(self._path(f"{kind}/{version}/{content}/{name}"), "rb", cache_type="readahead") as file:
                while piece := file.read(1 << 22):
                    yield piece

    def remove(self, kind: Kind, version: str) -> None:
        """Deletes the manifest first, and then the files."""
        with self._errors_explained():
            self._remove(f"{kind}/{version}/{MANIFEST}")
            failpoints.reach("within_deletion")
            for name in self._found(f"{kind}/{version}"):
                self._remove(f"{kind}/{version}/{name}")

    def clean(self, older_than_s: float) -> None:
        """Deletes files that no manifest names, if all of their version's were written before that time (s, Unix):
        interrupted publications and deletions left them.
        """
        for kind in ("weights", "atlas"):
            by_version: dict[str, dict[str, float]] = {}
            for name, info in self._found(kind).items():
                if (part := _OBJECT.fullmatch(name)) is not None:
                    by_version.setdefault(part[1], {})[name] = _written_s(info)
            for version, objects in by_version.items():
                if all(at_s < older_than_s for at_s in objects.values()):
                    named = self.manifest(kind, version) or b""  # read again: it may have been published meanwhile
                    with self._errors_explained():
                        for name in objects:
                            if name.count("/") == 2 and name.split("/")[1].encode() not in named:
                                self._remove(f"{kind}/{name}")

    def append(self, name: str, raw: bytes) -> None:
        """Adds a decision."""
        with self._errors_explained():
            self._fs.pipe_file(self._path(f"{DECISIONS}/{name}"), raw, mode="create")

    def decisions(self) -> dict[str, bytes]:
        """Returns the decisions, as they are, by name."""
        return self._many(DECISIONS, lambda name: DECISION.fullmatch(name) is not None)

    # -- fsspec -------------------------------------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _found(self, folder: str) -> dict[str, dict[str, Any]]:
        """Returns what is said of every object below a folder, by its name from there."""
        with self._errors_explained():
            self._fs.invalidate_cache()  # other processes write here, too
            try:
                found = self._fs.find(self._path(folder), detail=True)
            except FileNotFoundError:
                return {}
        start = len(self._path(folder)) + 1
        return {name[start:]: info for name, info in found.items()}

    def _many(self, folder: str, wanted: Callable[[str], bool]) -> dict[str, bytes]:
        """Returns the wanted objects below a folder, by the first part of their names, but those that are empty or
        longer than any manifest."""
        sizes = {name: int(info.get("size") or 0) for name, info in self._found(folder).items()}
        # A range of an empty object is an error of S3.
        names = [name for name, size in sizes.items() if 0 < size <= MAX_MANIFEST_BYTES and wanted(name)]
        with self._errors_explained():
            paths = [self._path(f"{folder}/{name}") for name in names]
            ends = [MAX_MANIFEST_BYTES + 1] * len(paths)
            found = self._fs.cat_ranges(paths, [0] * len(paths), ends, on_error="return") if paths else []
            for one in found:
                if isinstance(one, Exception) and not isinstance(one, FileNotFoundError):  # deleted meanwhile
                    raise one
        read = zip(names, found, strict=True)
        return {name.partition("/")[0]: bytes(one) for name, one in read if not isinstance(one, Exception)}

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        """Lets every error but a missing file name the registry: each store of fsspec raises its own client's."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            raise OSError(f"the registry {shown(self._url)}: {in_words(error)}") from error


def _written_s(info: Mapping[str, Any]) -> float:
    """Returns when an object was written (s, Unix); infinity if its store does not say, so that it is kept."""
    for key in _WRITTEN:
        at = info.get(key)
        if isinstance(at, str):
            at = datetime.fromisoformat(at)
        if isinstance(at, datetime):
            return at.timestamp()
        if isinstance(at, int | float):
            return float(at)
    return float("inf")
