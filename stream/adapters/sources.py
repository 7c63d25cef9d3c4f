"""Finds the files that a `--data` value names, and their reader. It lists all formats by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from stream.adapters import columns, text
from stream.adapters.archived.reading import Archive, open_days
from stream.adapters.column_names import ColumnMap
from stream.adapters.formats import ais, geolife, gpx, gtfs, porto, tdrive
from stream.adapters.guess import guess_columns
from stream.adapters.table_builder import Progress
from stream.adapters.tables import Table

ARCHIVE: Final = "archive"  # what `pathcast beside archive` writes: a folder or a URL
TABLE: Final = "table"  # Parquet and CSV, one row per ping: the format of a path without a prefix
TABLE_SUFFIXES: Final = (".parquet", ".csv", ".gz")


class Format(NamedTuple):
    """A reader, and the names of its files in a folder (patterns in lower case, which match upper case, too)."""

    read: Callable[[Sequence[Path], Progress], Table] | None  # None: the reader needs the folder, too
    names: tuple[str, ...]
    besides: tuple[str, ...] = ()  # other files that it reads there
    shows: bool = False  # the names show the format: such files, and folders with one such format, need no prefix
    edition: int = 0  # increases when the reader finds more in the same files, so that cached corpora are read again


FORMATS: Final = {
    "geolife": Format(geolife.read, ("*.plt",), ("labels.txt",), shows=True),
    "tdrive": Format(tdrive.read, ("*.txt",)),
    "porto": Format(porto.read, ("*.csv", "*.csv.zip", "*.csv.gz")),
    "ais": Format(ais.read, ("*.csv", "*.zip", "*.csv.gz", "*.csv.zst")),
    "gpx": Format(None, ("*.gpx",), shows=True, edition=1),
    "gtfs": Format(gtfs.read, ("*.pb", "*.pb.gz"), shows=True),
}


_AS_OURS: Final = ColumnMap()


@dataclass(frozen=True)
class Source:
    """One `--data` value: a format and a path, and for tables the names of their columns."""

    format: str
    path: Path
    columns: ColumnMap = _AS_OURS
    pings: Archive | None = None  # of the format `archive`, whose `path` only says whether two are the same
    guessed: bool = field(default=False, compare=False)  # not all of `columns` were given

    def __str__(self) -> str:
        return str(self.path) if self.format == TABLE else f"{self.format}:{self.path}"

    @property
    def name(self) -> str:
        """Returns the name without directories, which is the same on every machine."""
        own = self.path.name or self.path.absolute().name
        return own if self.format == TABLE else f"{self.format}:{own}"

    @property
    def edition(self) -> int:
        """Returns the edition of the format's reader."""
        return FORMATS[self.format].edition if self.format in FORMATS else 0

    @property
    def title(self) -> str:
        """Returns the name in reports; that of a table has no suffixes."""
        return Path(self.path.name.removesuffix(".gz")).stem if self.format == TABLE else self.name

    def files(self) -> list[Path]:
        """Returns all files with its contents, in an order that does not depend on the machine."""
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: no such file")
        if self.format == TABLE or self.path.is_file():
            return [self.path]
        format = FORMATS[self.format]
        if not _files_of(self.path, format.names):
            raise ValueError(f"{self}: no {' or '.join(format.names)} in it or below it")
        return _files_of(self.path, (*format.names, *format.besides))

    def read(self, progress: Progress) -> Table:
        """Reads its rows. Raises ValueError, which names the file and what is wrong there, OSError if it cannot be
        read."""
        if self.pings is not None:
            return self.pings.table(progress)
        if self.format == TABLE:
            return columns.read(self.path, self.columns)
        read = FORMATS[self.format].read or partial(gpx.read, root=self.path)
        return read(self.files(), progress)


def parse(given: str | Path, columns: ColumnMap | None = None) -> Source:
    """Parses `format:path`, or a path whose name shows its format; `archive:URL?since=7d` has a span of days, too.
    `columns` is for tables; what neither it nor our names show is guessed.

    Raises ValueError for an unknown format, or columns that are not plain, and FileNotFoundError if the path does not
    exist; for an archive, also as `open_days`.
    """
    prefix, colon, rest = str(given).partition(":")
    if colon and prefix == ARCHIVE:
        url, pings = open_days(rest, time.time_ns() // 1_000_000)
        return Source(ARCHIVE, Path(url), pings=pings)
    if colon and prefix in FORMATS:
        return _existing(Source(prefix, Path(rest)))
    path = Path(given)
    if not path.exists() and colon and prefix.isalpha() and len(prefix) > 1:
        raise ValueError(f"{given}: unknown format {prefix!r}, expected one of {', '.join((*FORMATS, ARCHIVE))}")
    _existing(Source(TABLE, path))
    format = _show_by_folder(path) if path.is_dir() else _show_by_name(path)
    if format != TABLE:
        return Source(format, path)
    names = guess_columns(path, columns)
    return Source(format, path, names, guessed=names != (columns or _AS_OURS))


def _existing(source: Source) -> Source:
    if not source.path.exists():
        raise FileNotFoundError(f"{source.path}: no such file")
    return source


def _show_by_folder(folder: Path) -> str:
    shown = [name for name, format in FORMATS.items() if format.shows and _files_of(folder, format.names)]
    if len(shown) != 1:
        what = " and ".join(shown) or "nothing that shows its format"
        raise ValueError(f"{folder}: has {what}; say which: {', '.join(f'{name}:{folder}' for name in FORMATS)}")
    return shown[0]


def _show_by_name(path: Path) -> str:
    for name, format in FORMATS.items():
        if format.shows and _is_named(path, format.names):
            return name
    if path.name.lower().endswith(TABLE_SUFFIXES):
        return TABLE
    raise ValueError(
        f"{path}: the name must end in {', '.join(TABLE_SUFFIXES)}, or begin with a format: {', '.join(FORMATS)}"
    )


def _files_of(folder: Path, patterns: Sequence[str]) -> list[Path]:
    found = [file for file in folder.rglob("*") if _is_named(file, patterns) and file.is_file()]
    return sorted(found, key=lambda file: file.relative_to(folder).parts)


def _is_named(file: Path, patterns: Sequence[str]) -> bool:
    """Returns whether the file's name matches, also in upper case: recorders and Windows write A.GPX, too."""
    return not text.is_macs(file.as_posix()) and any(fnmatchcase(file.name.lower(), pattern) for pattern in patterns)
