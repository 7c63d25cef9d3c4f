"""Chooses the reader for the argument of `feed`, `replay` and `demo`, and yields rows.

-, FILE.parquet, .csv, .csv.gz, .ndjson, .gpx   `files`: each row becomes a record, also one that is not a ping
geolife:DIR, ais:FILE, a folder of .plt, ...    `sources`: columns, whose rows are pings; others are counted
archive:DIR_OR_URL                              `archived`: its pings, day by day
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from stream.adapters import files
from stream.adapters.column_names import ColumnMap, map_of
from stream.adapters.files import STDIN, RecordedRow, RecordedRows
from stream.adapters.guess import guess_columns
from stream.adapters.live import presets
from stream.adapters.live.parsed import Reader
from stream.wire import NO_TIME_MS, Ping, Record, Reject, dumps

if TYPE_CHECKING:
    from stream.adapters.sources import Source
    from stream.adapters.tables import Table


@dataclass(frozen=True)
class Recording:
    """A file, a folder or standard input, and the names of its columns. Nothing of it is read yet."""

    path: str | Path
    columns: ColumnMap | None = None
    archive: Source | None = None  # set for a format that `files` does not read
    reader: Reader | None = None  # of lines that are no pings of ours, for NDJSON, or of rows of CSV
    guessed: bool = False  # not all of `columns` were given

    def rows(self) -> Iterator[RecordedRow]:
        """Yields the rows lazily in the order of the file; those of an archive in the order of their times.

        Raises the errors of `files.read` and `Source.read`: ValueError or OSError, in one line that names the file.
        """
        if self.archive:
            return iter(self.in_order())
        if self.reader is None:
            return files.read(self.path, self.columns)
        return read_by_map(files.read_documents(self.path), self.reader)

    def in_order(self) -> RecordedRows:
        """Returns all rows in the order of their times. Raises the errors of `rows`."""
        if self.archive and self.archive.pings:
            return self.archive.pings.rows()
        if self.archive:
            return _pings(self.archive.read(lambda share: None))
        if self.reader is None:
            return files.read_in_order(self.path, self.columns)
        return files.sort_rows(read_by_map(files.read_documents(self.path), self.reader))

    def pings_in_order(self) -> RecordedRows:
        """Returns all rows in the order of their times. Raises ValueError if all were left out, too."""
        rows = self.in_order()
        if rows.left_out and not len(rows):
            raise ValueError(f"{self.path}: no row is a ping; left out: {rows.left_out}")
        return rows

    def has_pings(self, parse: Callable[[Record], Ping | Reject], most: int | None = None) -> bool:
        """Returns whether there are rows. Raises ValueError if none of the first `most` (None: of all) is a ping.

        It reads up to the first ping. Standard input cannot be read twice, and archives have pings alone.
        """
        if self.path == STDIN or self.archive:
            return True
        first, rows, now_ms = None, 0, time.time_ns() // 1_000_000
        for row in islice(self.rows(), most):
            ping = parse(Record("", 0, 0, now_ms, row.key, row.value))
            if not isinstance(ping, Reject):
                return True
            first, rows = first or ping, rows + 1
        if first is not None:
            raise self.without_pings(rows, first.code, first.message)
        return False

    def without_pings(self, rows: int, code: str, message: str) -> ValueError:
        """Returns the error that none of so many rows is a ping; code and message are those of the first."""
        has_columns = self.archive is None and files.has_columns(Path(self.path))
        hint = " (--columns maps names, and the unit of times)" if has_columns else ""
        return ValueError(f"{self.path}: none of {rows:,} rows is a ping; the first: {code}: {message}{hint}")


def recording(
    given: str | Path, columns: str | None = None, map_: str | None = None, zone: str | None = None
) -> Recording:
    """Returns the source that `given` names: `-`, a path, or FORMAT:PATH. `columns` is a map that `ColumnMap` parses,
    `zone` the time zone of times that have none; the columns of a table that neither they nor our names show are
    guessed. `map_` is a preset or a file with a map, for lines of NDJSON or rows of CSV that are no pings of ours.

    Raises ValueError for a wrong format or map, or columns that are not plain; FileNotFoundError if there is no such
    path.
    """
    found = Recording(given) if _is_of_files(given) else _archive(str(given))
    is_table = not found.archive and files.has_columns(Path(found.path))
    if map_ is not None:
        if str(given) != STDIN and (found.archive or not files.has_documents(Path(found.path))):
            raise ValueError(f"--map is for NDJSON and CSV, and {given} is neither")
        if columns is not None or zone is not None:
            raise ValueError("--map says itself what columns and times are: leave --columns and --timezone out")
        return replace(found, reader=presets.find_preset(map_).read)
    if not is_table:
        if columns is not None or zone is not None:
            option = "--timezone" if columns is None else "--columns"
            raise ValueError(f"{option} is for Parquet and CSV, and {given} is neither")
        return found
    names = map_of(columns, zone)
    guess = guess_columns(Path(found.path), names)
    if guess == (names or ColumnMap()):
        return replace(found, columns=names)
    return replace(found, columns=guess, guessed=True)


def read_by_map(rows: Iterator[RecordedRow], reader: Reader) -> Iterator[RecordedRow]:
    """Yields each ping in a line that is none of ours, in the line's place. What holds none stays, and is rejected."""
    for row in rows:
        if row.key is not None and row.ts_ms is not None:
            yield row
            continue
        found = reader(row.value, NO_TIME_MS)
        yield from (RecordedRow(one.entity_id.encode(), dumps(one), one.ts) for one in found if isinstance(one, Ping))
        if any(isinstance(one, Reject) for one in found) or not found:
            yield row


def _is_of_files(given: str | Path) -> bool:
    return str(given) == STDIN or (Path(given).is_file() and files.takes(Path(given)))


def _archive(given: str) -> Recording:
    if ":" not in given and not Path(given).exists():
        raise FileNotFoundError(f"{given}: no such file")
    from stream.adapters.sources import parse  # imports numpy and Arrow, for which NDJSON should not wait

    source = parse(given)
    return Recording(source.path, archive=source)


def _pings(table: Table) -> RecordedRows:
    """Returns the rows of the table as records, by time; rows of the same time keep the table's order."""
    import numpy as np

    from stream.adapters.tables import UNREADABLE_FILE, why

    order = np.argsort(table.ts_ms, kind="stable")
    entity = np.repeat(table.run_entity, np.diff([*table.run_start, len(order)]))
    # Reported values are stored as 32-bit floats, whose digits after the hundredth do not come from the receiver.
    reported = {name: np.round(getattr(table, name).astype(np.float64), 2) for name in ("speed_mps", "heading_deg")}
    columns = {"ts": table.ts_ms, "lat": table.lat, "lon": table.lon, **reported}

    def rows() -> Iterator[RecordedRow]:
        for begin in range(0, len(order), files.BATCH_ROWS):
            some = order[begin : begin + files.BATCH_ROWS]
            names = [table.names[code] for code in entity[some].tolist()]
            values = [column[some].tolist() for column in columns.values()]
            for fields in zip(names, *values, strict=True):
                yield files.row_of(dict(zip(("entity_id", *columns), fields, strict=True)))

    unread = table.dropped.get(UNREADABLE_FILE, 0)
    besides = [f"files that cannot be read: {unread:,}, the first {table.unreadable[0]}"] if unread else []
    return RecordedRows(len(order), rows, ", ".join(filter(None, (why(table.dropped), *besides))))
