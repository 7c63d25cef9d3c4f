"""Objects behind a URL that fsspec knows. An object appears when its upload is complete.

What fsspec leaves open is added here: listings are never from its cache, as other processes write, too, and errors of a
store's own client, such as missing credentials, are OSErrors that name the URL.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

from stream.config.security import in_words, shown
from stream.storage.folder import PIECE_BYTES

# Where the stores of fsspec say when an object was written.
_WRITTEN: Final = ("LastModified", "last_modified", "updated", "mtime", "created")
_PLAIN: Final = (FileNotFoundError, FileExistsError, NotADirectoryError)


class ListedObject(NamedTuple):
    """Holds what a listing says of an object."""

    size: int
    written_s: float  # Unix; infinity if its store does not say, so that it is kept


class UrlFolder:
    """What lies below a URL. `LocalFolder` says what the methods do."""

    def __init__(self, url: str, what: str) -> None:
        try:
            import fsspec

            self._fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:  # the protocol's own package is missing, or nobody knows it
            raise ValueError(
                f"{what} {shown(url)} cannot be opened ({error}): pip install 'pathcast[s3]' is for s3://, and "
                "fsspec's own page names the package for another kind of URL"
            ) from error
        self._root = root.rstrip("/")
        self._what = what
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

    def find(self, folder: str) -> dict[str, ListedObject]:
        """Returns every object below a folder, by its name from there."""
        self._fs.invalidate_cache()
        try:
            with self._errors_explained():
                found = self._fs.find(self._path(folder), detail=True)
        except FileNotFoundError:
            return {}
        start = len(self._path(folder)) + 1
        return {
            name[start:]: ListedObject(int(info.get("size") or 0), _written_s(info)) for name, info in found.items()
        }

    def read(self, name: str) -> bytes:
        with self._errors_explained():
            return cast(bytes, self._fs.cat_file(self._path(name)))

    def open(self, name: str) -> BinaryIO:
        with self._errors_explained():
            return cast(BinaryIO, self._fs.open(self._path(name), "rb"))

    def pieces(self, name: str) -> Iterator[bytes]:
        with self._errors_explained():
            self._fs.invalidate_cache()
            with self._fs.open(self._path(name), "rb", cache_type="readahead") as file:
                while piece := file.read(PIECE_BYTES):
                    yield piece

    def read_each(self, folder: str, pattern: re.Pattern[str], below: str, most: int) -> dict[str, bytes]:
        """Reads all at once, after one listing."""
        # A range of an empty object is an error of S3.
        sized = [name for name, found in self.find(folder).items() if 0 < found.size <= most]
        names = [
            start for name in sized if name.endswith(below) and pattern.fullmatch(start := name.removesuffix(below))
        ]
        paths = [self._path(f"{folder}/{name}{below}") for name in names]
        with self._errors_explained():
            ends = [most + 1] * len(paths)
            read = self._fs.cat_ranges(paths, [0] * len(paths), ends, on_error="return") if paths else []
            for one in read:
                if isinstance(one, Exception) and not isinstance(one, FileNotFoundError):  # deleted meanwhile
                    raise one
        return {name: bytes(one) for name, one in zip(names, read, strict=True) if not isinstance(one, Exception)}

    def create(self, name: str, raw: bytes) -> None:
        with self._errors_explained():
            self._fs.pipe_file(self._path(name), raw, mode="create")

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="pathcast-") as scratch:
            part = Path(scratch) / "part"
            yield part
            self.put(part, name)

    def put(self, path: Path, name: str) -> None:
        """Uploads a file."""
        with self._errors_explained():
            self._fs.put_file(str(path), self._path(name))

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError), self._errors_explained():
            self._fs.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        """Lets every error but what says whether a file is there name the URL: each store raises its own client's."""
        try:
            yield
        except _PLAIN:
            raise
        except Exception as error:
            raise OSError(f"{self._what} {shown(self.url)}: {in_words(error)}") from error


def _written_s(info: Mapping[str, Any]) -> float:
    for key in _WRITTEN:
        at = info.get(key)
        if isinstance(at, str):
            at = datetime.fromisoformat(at)
        if isinstance(at, datetime):
            return at.timestamp()
        if isinstance(at, int | float):
            return float(at)
    return float("inf")
