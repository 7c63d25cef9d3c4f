"""What `--data` names -> the files it stands for, and the reader that takes them. Knows every format's name only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from stream.adapters import columns, text
from stream.adapters.columns import ColumnMap
from stream.adapters.formats import ais, geolife, gpx, gtfs, porto, tdrive
from stream.adapters.table_builder import Progress
from stream.adapters.tables import Table

TABLE: Final = "table"  # Parquet and CSV, one row per ping: what a path is if nothing else is said
TABLE_SUFFIXES: Final = (".parquet", ".csv", ".gz")


class Format(NamedTuple):
    """A reader, and the names of its files in a folder (patterns in lower case, which match any)."""

    read: Callable[[Sequence[Path], Progress], Table] | None  # None: it wants to know the folder, too
    names: tuple[str, ...]
    besides: tuple[str, ...] = ()  # what else it takes from there
    shows: bool = False  # such files, and a folder with these and no other kind that shows, need no prefix
    edition: int = 0  # goes up when the reader finds more in the same files, so that cached corpora are read again


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
    """One `--data` value: a format and a path, and for tables what their columns are called."""

    format: str
    path: Path
    columns: ColumnMap = _AS_OURS

    def __str__(self) -> str:
        return str(self.path) if self.format == TABLE else f"{self.format}:{self.path}"

    @property
    def name(self) -> str:
        """Without directories: the same on every machine."""
        own = self.path.name or self.path.absolute().name
        return own if self.format == TABLE else f"{self.format}:{own}"

    @property
    def edition(self) -> int:
        """Of its reader."""
        return FORMATS[self.format].edition if self.format in FORMATS else 0

    @property
    def title(self) -> str:
        """What a report calls it: a table without its suffix."""
        return self.path.stem if self.format == TABLE else self.name

    def files(self) -> list[Path]:
        """All files that its contents are in, in an order that the machine does not decide."""
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: no such file")
        if self.format == TABLE or self.path.is_file():
            return [self.path]
        format = FORMATS[self.format]
        if not _files_of(self.path, format.names):
            raise ValueError(f"{self}: no {' or '.join(format.names)} in it or below it")
        return _files_of(self.path, (*format.names, *format.besides))

    def read(self, progress: Progress) -> Table:
        """Its rows. Raises ValueError naming the file and what is wrong there, OSError for what cannot be read."""
        if self.format == TABLE:
            return columns.read(self.path, self.columns)
        read = FORMATS[self.format].read or partial(gpx.read, root=self.path)
        return read(self.files(), progress)


def parse(given: str | Path, columns: ColumnMap | None = None) -> Source:
    """`format:path`, or a path that shows what it is. `columns` is for tables.

    Raises ValueError for a format that we do not know, and FileNotFoundError for a path where nothing is.
    """
    prefix, colon, rest = str(given).partition(":")
    if colon and prefix in FORMATS:
        return _existing(Source(prefix, Path(rest)))
    path = Path(given)
    if not path.exists() and colon and prefix.isalpha() and len(prefix) > 1:
        raise ValueError(f"{given}: unknown format {prefix!r}, expected one of {', '.join(FORMATS)}")
    _existing(Source(TABLE, path))
    format = _shown_by_folder(path) if path.is_dir() else _shown_by_name(path)
    return Source(format, path, columns or _AS_OURS) if format == TABLE else Source(format, path)


def _existing(source: Source) -> Source:
    if not source.path.exists():
        raise FileNotFoundError(f"{source.path}: no such file")
    return source


def _shown_by_folder(folder: Path) -> str:
    shown = [name for name, format in FORMATS.items() if format.shows and _files_of(folder, format.names)]
    if len(shown) != 1:
        what = " and ".join(shown) or "nothing that shows its format"
        raise ValueError(f"{folder}: has {what}; say which: {', '.join(f'{name}:{folder}' for name in FORMATS)}")
    return shown[0]


def _shown_by_name(path: Path) -> str:
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
    """Recorders and Windows write A.GPX as readily as a.gpx."""
    return not text.is_macs(file.as_posix()) and any(fnmatchcase(file.name.lower(), pattern) for pattern in patterns)
