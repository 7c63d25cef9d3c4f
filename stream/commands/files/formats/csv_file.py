"""Copies CSV with filled rows.

Each row keeps its text, and gets two cells more. A row that has not as many cells as the header is kept as it is where
it was no ping, or had too many; else empty cells come before the new ones.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from stream.adapters.column_names import ColumnMap
from stream.adapters.csv_rows import ERRORS, Sheet, is_packed
from stream.commands.files.plan import FILLED, SIGMA, Cursor, FilledPoint
from stream.commands.files.times import like
from stream.wire.ping_rules import event_time_ms

_MARK: Final = "\ufeff".encode()  # what some programs put before UTF-8
_DEGREES: Final = ".7f"  # a centimetre


def sample(path: Path, columns: ColumnMap | None) -> str | None:
    """Returns the first text that is a time, None if there is none."""
    with Sheet.open(path, columns) as sheet:
        for cells, _ in sheet.records():
            if cells and event_time_ms(sheet.fields(cells).get("ts")) is not None:
                return sheet.text("ts", cells)
    return None


def copy(path: Path, columns: ColumnMap | None, form: Any, cursor: Cursor, sink: BinaryIO) -> None:
    """Writes the file with the filled rows of the cursor's plan; `form` is what `sample` gave."""
    with Sheet.open(path, columns) as sheet, _pack(path, sink) as out:
        layout = _Layout(sheet, form)
        out.write(_byte_order_mark(path) + layout.header())
        row, line = 0, 2
        for cells, text in sheet.records():
            begins, line = line, line + max(1, text.count("\n"))
            if not cells:
                out.write(_encode(text))
                continue
            bad = cursor.at(row, begins)
            out.write(layout.copy_row(cells, text, bad=bad))
            if not bad:
                layout.note(cells, cursor)
            for point in cursor.after(row):
                out.write(layout.fill_row(point))
            row += 1


class _Layout:
    """The columns of the copy."""

    def __init__(self, sheet: Sheet, form: Any) -> None:
        self._sheet, self._form = sheet, form
        body = sheet.header.rstrip("\r\n")
        self._end = sheet.header[len(body) :] or "\n"
        self._more = [name for name in (FILLED, SIGMA) if name not in sheet.names]
        self._at = {name: at for at, name in enumerate([*sheet.names, *self._more])}
        self._latest: dict[str, tuple[str, str]] = {}  # by entity: its id and its time, as the last row has them
        self._words = [1]  # of each column of a time, in the last row
        self._decimal = "."  # of a number, in the last row
        self._open = False  # the last line written has no end

    def header(self) -> bytes:
        body = self._sheet.header.rstrip("\r\n")
        return _encode(self._sheet.delimiter.join([body, *self._more]) + self._end)

    def note(self, cells: list[str], cursor: Cursor) -> None:
        name = self._sheet.text("entity_id", cells)
        if name.strip() in cursor.entities:
            self._latest[name.strip()] = name, self._sheet.text("ts", cells)
            self._words = [len(cells[at].split(" ")) for at in self._sheet.time_places]
            self._decimal = "," if "," in self._sheet.text("lat", cells) else "."

    def copy_row(self, cells: list[str], text: str, *, bad: bool) -> bytes:
        body = text.rstrip("\r\n")
        end, missing = text[len(body) :], len(self._sheet.names) - len(cells)
        self._open = not end
        if not self._more or missing < 0 or (missing and bad) or body.count('"') % 2:
            return _encode(text)
        marks = ["false" if name == FILLED else "" for name in self._more]
        return _encode(self._sheet.delimiter.join([body, *[""] * missing, *marks]) + end)

    def fill_row(self, point: FilledPoint) -> bytes:
        name, time = self._latest.get(point.entity_id, (point.entity_id, self._form))
        cells = [""] * len(self._at)
        place = self._sheet.place
        cells[place["entity_id"]] = name
        self._set_time(cells, like(time, point.ts_ms, self._sheet.columns))
        for ours, degrees in (("lat", point.lat), ("lon", point.lon)):
            cells[place[ours]] = format(degrees, _DEGREES).replace(".", self._decimal)
        cells[self._at[FILLED]], cells[self._at[SIGMA]] = "true", str(point.sigma_m)
        text = io.StringIO()
        csv.writer(text, delimiter=self._sheet.delimiter, lineterminator=self._end).writerow(cells)
        begin, self._open = self._end if self._open else "", False
        return _encode(begin + text.getvalue())

    def _set_time(self, cells: list[str], time: Any) -> None:
        """Writes a time into its column; into a date's and a time's, each as many words as the last row has there."""
        *firsts, last = self._sheet.time_places
        words = str(time).split(" ")
        for at, count in zip(firsts, self._words, strict=False):
            cells[at], words = " ".join(words[:count]), words[count:]
        cells[last] = " ".join(words)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", ERRORS)


def _byte_order_mark(path: Path) -> bytes:
    """Returns the byte order mark with which the file begins, if it has one."""
    with (gzip.open if is_packed(path) else open)(path, "rb") as file:
        return _MARK if file.read(len(_MARK)) == _MARK else b""


@contextmanager
def _pack(path: Path, sink: BinaryIO) -> Iterator[Any]:
    if not is_packed(path):
        yield sink
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=sink, mtime=0) as packed:  # no clock: the same bytes each time
        yield packed
