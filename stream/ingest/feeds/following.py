"""Follows files that grow: reads what was appended since the last look, also after a file was moved away and begun
anew.

It knows bytes and lines; `files` knows what they mean.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec

from model.files import writing_whole

log: Final = logging.getLogger(__name__)

PART_BYTES: Final = 1 << 20  # that are read at once
MAX_LINE_BYTES: Final = 16 << 20  # without an end: what is longer is no line of pings


class FilePosition(NamedTuple):
    """Up to where a file was taken. The file is known by its inode, as its name may go to another one."""

    inode: int
    offset: int


class AppendedLines(NamedTuple):
    """Whole lines that were appended, and the place after them."""

    header: bytes  # the first line, with its end, of a file whose lines need it; else empty
    lines: bytes
    place: FilePosition


class GrowingFile:
    """One path, and the file that is there now."""

    def __init__(self, path: Path, place: FilePosition | None = None) -> None:
        self._path = path
        self._has_header = path.suffix.lower() == ".csv"
        self._place = place  # None: from the beginning
        self._file: BinaryIO | None = None
        self._header = b""

    def next(self) -> AppendedLines | None:
        """Returns what is new, or None if nothing is. It returns the same again until `took` was told.

        Raises OSError if the file cannot be read, ValueError if a line has no end.
        """
        if self._file is None and not self._open():
            return None
        assert self._file is not None
        assert self._place is not None
        part = self._read(self._file, self._place)
        if part is None and self._was_replaced():
            self._close()
            return self.next()
        return part

    def took(self, part: AppendedLines) -> None:
        """Moves on: Kafka has the part."""
        self._place = part.place

    def _open(self) -> bool:
        try:
            file = self._path.open("rb")
        except FileNotFoundError:  # it is moved away, and not begun anew yet
            return False
        inode = os.fstat(file.fileno()).st_ino
        if self._has_header:
            self._header = file.readline()
            if not self._header.endswith(b"\n"):  # it is being written
                file.close()
                return False
        if self._place is None or self._place.inode != inode:
            self._place = FilePosition(inode, len(self._header))
        self._file = file
        return True

    def _read(self, file: BinaryIO, place: FilePosition) -> AppendedLines | None:
        size = os.fstat(file.fileno()).st_size
        if size < place.offset:
            log.warning("%s was cut from %d to %d bytes: read from its beginning", self._path, place.offset, size)
            self._close()
            return None
        file.seek(place.offset)
        data = file.read(PART_BYTES)
        while data and b"\n" not in data and len(data) < MAX_LINE_BYTES and (more := file.read(PART_BYTES)):
            data += more
        whole = data[: data.rfind(b"\n") + 1]
        if whole:
            return AppendedLines(self._header, whole, FilePosition(place.inode, place.offset + len(whole)))
        if len(data) >= MAX_LINE_BYTES:
            raise ValueError(f"{self._path}: a line of more than {MAX_LINE_BYTES:,} bytes at byte {place.offset:,}")
        return None

    def _was_replaced(self) -> bool:
        try:
            return self._file is not None and self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._place = None
        self._header = b""


@dataclass
class FilePositions:
    """The places of all files, kept in a file of its own, so that a new process goes on where the last one stopped."""

    path: Path | None  # None: they are not kept

    def __post_init__(self) -> None:
        self._places: dict[str, FilePosition] = {}
        if self.path is not None and self.path.exists():
            try:
                self._places = msgspec.json.decode(self.path.read_bytes(), type=dict[str, FilePosition])
            except msgspec.MsgspecError as error:
                raise ValueError(f"{self.path}: not a file of places: {error}") from error

    def of(self, path: Path) -> FilePosition | None:
        """Returns where a file was left; None if it was never read."""
        return self._places.get(str(path.absolute()))

    def put(self, path: Path, place: FilePosition) -> None:
        """Notes a place. The file is replaced as a whole, so that a crash leaves the old one or the new one."""
        self._places[str(path.absolute())] = place
        if self.path is not None:
            with writing_whole(self.path) as part:
                part.write_bytes(msgspec.json.encode(self._places))
