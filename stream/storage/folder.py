"""Files of this machine. It needs hard links for `create` alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from model.files import flush, writing_whole

PIECE_BYTES: Final = 1 << 22


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def folders(self, folder: str = "") -> list[str]:
        """Returns the names of the folders in a folder, sorted; none if it does not exist."""
        return [entry.name for entry in self._entries(folder) if entry.is_dir()]

    def files(self, folder: str) -> list[str]:
        """Returns the names of the files in a folder, also of unfinished ones, sorted; none if it does not exist."""
        return [entry.name for entry in self._entries(folder) if not entry.is_dir()]

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / folder) as found:
                return sorted(found, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, name: str) -> bytes:
        """Returns a file's bytes. Raises FileNotFoundError."""
        return (self.root / name).read_bytes()

    def open(self, name: str) -> BinaryIO:
        """Opens a file for reading anywhere in it. Raises FileNotFoundError."""
        return (self.root / name).open("rb")

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yields a file in pieces of PIECE_BYTES. Raises FileNotFoundError."""
        return pieces(self.root / name)

    def read_each(self, folder: str, pattern: re.Pattern[str], below: str, most: int) -> dict[str, bytes]:
        """Returns the files FOLDER/NAME + `below` by NAME, of names of that pattern. What is longer than `most` bytes
        is cut or left out; what is empty may be left out."""
        found = {}
        for name in (entry.name for entry in self._entries(folder) if pattern.fullmatch(entry.name)):
            with suppress(FileNotFoundError):
                found[name] = next(self.pieces(f"{folder}/{name}{below}"), b"")[: most + 1]
        return found

    def create(self, name: str, raw: bytes) -> None:
        """Writes a file that is not there yet. Of several writers at once, one wins. Raises FileExistsError."""
        with self._whole(name, _name_first) as part:
            part.write_bytes(raw)

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """Returns a context that yields a path of this machine to be filled; the file is there when it ends well."""
        return self._whole(name, os.replace)

    @contextmanager
    def _whole(self, name: str, place: Callable[[Path, Path], Any]) -> Iterator[Path]:
        path = self.root / name
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            flush(path.parent.parent)
        with writing_whole(path, place) as part:
            yield part

    def delete(self, name: str) -> None:
        """Deletes a file, if it is there, and its folder, if that is empty then."""
        path = self.root / name
        path.unlink(missing_ok=True)
        with suppress(OSError):  # it is not empty
            path.parent.rmdir()


def pieces(path: Path) -> Iterator[bytes]:
    """Yields a regular file piece by piece. Raises FileNotFoundError for anything else: a pipe would never end."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def _name_first(part: Path, path: Path) -> None:
    try:
        os.link(part, path)  # unlike a rename, it fails if the name is taken
    except FileNotFoundError as error:  # whoever took the name has cleared away what others had begun
        raise FileExistsError(str(path)) from error
