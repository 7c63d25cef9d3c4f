"""Keeps files below one root: a folder of this machine, or a URL of fsspec (s3://bucket/pings, memory://pings).

A file appears whole or not at all, and `create` lets one of several writers win. Nothing is ever changed in place.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast

from stream.config.security import in_words, shown

WRITING: Final = ".writing"  # how names of unfinished files end; they begin with a dot
# Whose `pipe_file(mode="create")` is one atomic request (S3 by If-None-Match). fsspec's default looks first and writes
# then, so that two writers could both win.
_EXCLUSIVE: Final = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}


class Storage(Protocol):
    """Files by names relative to the root: "folder/file". A folder exists if something lies in it."""

    url: str

    def folders(self, folder: str = "") -> list[str]:
        """Returns the names of the folders in a folder, sorted; none if it does not exist."""
        ...

    def files(self, folder: str) -> list[str]:
        """Returns the names of the files in a folder, also of unfinished ones, sorted; none if it does not exist."""
        ...

    def read(self, name: str) -> bytes:
        """Returns a file's bytes. Raises FileNotFoundError."""
        ...

    def opened(self, name: str) -> BinaryIO:
        """Opens a file for reading anywhere in it. Raises FileNotFoundError."""
        ...

    def create(self, name: str, raw: bytes) -> None:
        """Writes a file that is not there yet. Of several writers at once, one wins. Raises FileExistsError."""
        ...

    def writing(self, name: str) -> Any:
        """Returns a context that yields a path of this machine to be filled; the file is there when it ends well."""
        ...

    def delete(self, name: str) -> None:
        """Deletes a file, if it is there, and its folder, if that is empty then."""
        ...


def storage_of(url: str | Path, *, to_write: bool = False) -> Storage:
    """Returns the storage at a path or URL.

    Raises ValueError if fsspec or what it needs for this URL is not installed, or if it is to be written to, and the
    kind of URL has no way to let one of several writers win.
    """
    text = str(url)
    if "://" not in text:
        return LocalFolder(Path(text))
    kind, _, rest = text.partition("://")
    if kind == "file":
        return LocalFolder(Path(rest))
    if to_write and kind not in _EXCLUSIVE:
        known = ", ".join(sorted(_EXCLUSIVE))
        raise ValueError(f"{text}: {kind}:// cannot create a file for one of several writers only; {known} can")
    return FsspecFolder(text)


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.url = str(root)

    def folders(self, folder: str = "") -> list[str]:
        return [entry.name for entry in self._entries(folder) if entry.is_dir()]

    def files(self, folder: str) -> list[str]:
        return [entry.name for entry in self._entries(folder) if not entry.is_dir()]

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._root / folder) as found:
                return sorted(found, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def opened(self, name: str) -> BinaryIO:
        return (self._root / name).open("rb")

    def create(self, name: str, raw: bytes) -> None:
        path = self._root / name
        with self._unfinished(path) as part:
            with part.open("xb") as file:
                file.write(raw)
            _flush(part)
            try:
                os.link(part, path)  # unlike a rename, it fails if the name is taken
            except FileNotFoundError as error:  # whoever took the name has cleared away what others had begun
                raise FileExistsError(str(path)) from error
        _flush(path.parent)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        path = self._root / name
        with self._unfinished(path) as part:
            yield part
            _flush(part)
            part.rename(path)
        _flush(path.parent)

    @contextmanager
    def _unfinished(self, path: Path) -> Iterator[Path]:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            _flush(path.parent.parent)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{WRITING}")
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        path = self._root / name
        path.unlink(missing_ok=True)
        with suppress(OSError):  # it is not empty
            path.parent.rmdir()


class FsspecFolder:
    """A URL that fsspec knows. A file of an object store appears when its upload is complete."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise ValueError(f"{url}: URLs need fsspec: pip install 'pathcast[s3]'") from error
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:  # the protocol's own package is missing, or nobody knows it
            raise ValueError(f"{url}: {error}") from error
        self._root = self._root.rstrip("/")
        self.url = url

    def folders(self, folder: str = "") -> list[str]:
        return [name for name, kind in self._entries(folder) if kind == "directory"]

    def files(self, folder: str) -> list[str]:
        return [name for name, kind in self._entries(folder) if kind != "directory"]

    def _entries(self, folder: str) -> list[tuple[str, str]]:
        self._fs.invalidate_cache()
        path = self._path(folder).rstrip("/")
        try:
            with self._errors_explained():
                found = self._fs.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        paths = [(entry["name"].rstrip("/"), entry["type"]) for entry in found]
        # A store may have an entry for the folder itself.
        return sorted((name.rpartition("/")[2], kind) for name, kind in paths if name != path)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def read(self, name: str) -> bytes:
        with self._errors_explained():
            return cast(bytes, self._fs.cat_file(self._path(name)))

    def opened(self, name: str) -> BinaryIO:
        with self._errors_explained():
            return cast(BinaryIO, self._fs.open(self._path(name), "rb"))

    def create(self, name: str, raw: bytes) -> None:
        with self._errors_explained():
            self._fs.pipe_file(self._path(name), raw, mode="create")

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="pathcast-archive-") as scratch:
            part = Path(scratch) / "part"
            yield part
            with self._errors_explained():
                self._fs.put_file(str(part), self._path(name))

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError), self._errors_explained():
            self._fs.rm_file(self._path(name))

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        """Lets errors of a store's own client, such as missing credentials, be OSErrors that name the archive."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"the archive {shown(self.url)}: {in_words(error)}") from error


def _flush(path: Path) -> None:
    """Waits until the disk has a file, or the entries of a folder."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
