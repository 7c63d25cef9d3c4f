"""Chooses how a file is copied with filled rows between its own, by the end of its name.

csv_file    CSV, also packed by gzip
ndjson      a JSON object on each line
gpx         track points
parquet     Parquet, with types, metadata and compression; GeoParquet's points, too
forecasts   forecasts, written in each of these formats
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast

from stream.adapters.column_names import ColumnMap
from stream.adapters.files import suffix_of
from stream.commands.files.plan import Cursor

_MODULES: Final = {
    ".csv": "csv_file",
    ".csv.gz": "csv_file",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".gpx": "gpx",
    ".parquet": "parquet",
}


class Format(Protocol):
    """A module of this folder that copies files."""

    def sample(self, path: Path, columns: ColumnMap | None) -> Any:
        """Returns a time as the file has it, None if it has none."""

    def copy(self, path: Path, columns: ColumnMap | None, form: Any, cursor: Cursor, sink: BinaryIO) -> None:
        """Writes the file with the filled rows of the cursor's plan; `form` is what `sample` gave."""


def format_of(path: Path) -> Format:
    """Returns the module that copies a file. Raises ValueError for a name that ends in no format's suffix."""
    suffix = suffix_of(path)
    if suffix not in _MODULES:
        raise ValueError(f"{path}: unknown suffix {suffix!r}, expected {', '.join(_MODULES)}, or - with --format")
    # Arrow, which Parquet needs, takes a tenth of a second to import.
    return cast(Format, import_module(f"{__name__}.{_MODULES[suffix]}"))
