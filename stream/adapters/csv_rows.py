"""Reads a CSV file record by record, packed by gzip or not: the cells of each, and its text as the file has it."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from stream.adapters.column_names import ColumnMap, cell, find_columns, milliseconds, parts_of
from stream.adapters.local_times import LocalTimes

ENCODING: Final = "utf-8-sig"
ERRORS: Final = "surrogateescape"  # other bytes come back as they were


@dataclass(frozen=True)
class Sheet:
    """An opened file whose header is read. Close it by `with`."""

    path: Path
    file: Any
    header: str  # the first line, with its end
    delimiter: str
    names: list[str]
    place: dict[str, int]  # where the column of each field of a ping is; of the time, the first
    time_places: tuple[int, ...]  # where the columns of the time are: one, or a date's and a time's
    columns: ColumnMap | None
    times: LocalTimes | None  # what reads times that are text, in the order of the rows

    @classmethod
    def open(cls, path: Path, columns: ColumnMap | None) -> Self:
        """Raises OSError, and ValueError for a file that is damaged or lacks a column; its text names the file."""
        return cls.of(path, open_text(path), columns)

    @classmethod
    def of_bytes(cls, path: Path, content: bytes, columns: ColumnMap | None) -> Self:
        """Returns the same of some lines, the header among them, of a file with that name."""
        return cls.of(
            path, io.TextIOWrapper(io.BytesIO(content), encoding=ENCODING, errors=ERRORS, newline=""), columns
        )

    @classmethod
    def of(cls, path: Path, file: Any, columns: ColumnMap | None) -> Self:
        """Returns the same of an open text file, which is closed on errors."""
        try:
            with unpacking(path):
                header = file.readline()
            delimiter, names = split_header(header)
            column = find_columns(path, names, columns)
            at = {field: tuple(map(names.index, parts_of(name, names))) for field, name in column.items()}
            place = {field: places[0] for field, places in at.items()}
            times = columns.local_times() if columns else None
            return cls(path, file, header, delimiter, names, place, at["ts"], columns, times)
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def records(self) -> Iterator[tuple[list[str], str]]:
        """Yields the cells of each record below the header, and its text with its end.

        An empty line has no cells. A record that cannot be read (a field of 128 KiB) has one empty cell, and so is a
        reject. Raises ValueError, which names the file, where a packed file is damaged.
        """
        lines = _Lines(self.file)
        reader = csv.reader(lines, delimiter=self.delimiter)
        with unpacking(self.path):
            while True:
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error:
                    cells = [""]
                yield cells, lines.take_text()

    def text(self, field: str, cells: list[str]) -> str:
        """Returns the text of a field's cell; empty if the record has no such cell."""
        places = self.time_places if field == "ts" else (self.place[field],)
        return " ".join(cells[at] for at in places if at < len(cells))

    def fields(self, cells: list[str]) -> dict[str, Any]:
        """Returns the fields of a ping that a record has, each as the type of its field if it can be converted."""
        found = {name: cell(name, cells[at]) for name, at in self.place.items() if at < len(cells) and cells[at]}
        if "ts" in found and self.times is not None:
            text = self.text("ts", cells)
            ts_ms = self.times.to_ms(text, found.get("entity_id"))
            found["ts"] = text if ts_ms is None else ts_ms
        elif "ts" in found:
            found["ts"] = milliseconds(found["ts"], self.columns)
        return found


def split_header(line: str) -> tuple[str, list[str]]:
    """Returns what separates the cells, and the names of the columns in the first line of a file."""
    delimiter = max(",;\t|", key=line.count)
    return delimiter, [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]


def open_text(path: Path) -> Any:
    """Opens a file, packed by gzip or not, without the mark that some programs put before UTF-8."""
    unpack = gzip.open if is_packed(path) else open
    return unpack(path, "rt", encoding=ENCODING, errors=ERRORS, newline="")


def is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


class _Lines:
    """The lines of a file, which remembers those that a reader took for one record."""

    def __init__(self, file: Iterator[str]) -> None:
        self._file, self._taken = file, list[str]()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = next(self._file)
        self._taken.append(line)
        return line

    def take_text(self) -> str:
        """Returns the text of the lines since the last call."""
        text = self._taken[0] if len(self._taken) == 1 else "".join(self._taken)
        self._taken.clear()
        return text


@contextmanager
def unpacking(path: Path) -> Iterator[None]:
    """Turns errors of gzip into a ValueError, in one line that names the file."""
    try:
        yield
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path}: not a gzip file, or damaged: {error}") from error
