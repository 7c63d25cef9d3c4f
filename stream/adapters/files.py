"""Reads recorded tracks from Parquet, CSV, NDJSON and GPX files as records. `stream.tracks.clean` validates them.

Tables need the columns entity_id, ts (or t; milliseconds UTC, or another form of time that `clean` reads), lat and lon.
Columns with the names of other fields of a ping are read, too; all others are ignored. A column map (`columns`) gives
the file's names for these columns, and the unit of its times. A row that is not a ping still becomes a record, so that
it is rejected, counted and shown like every other bad record.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from stream.adapters.column_names import (
    ColumnMap,
    arrow_values,
    cell,
    columns_of,
    find_columns,
    milliseconds,
    parts_of,
)
from stream.adapters.csv_rows import Sheet, open_text, split_header
from stream.adapters.formats.gpx import points_of
from stream.adapters.local_times import LocalTimes
from stream.wire.ping_rules import event_time_ms

STDIN: Final = "-"
BATCH_ROWS: Final = 8_192


class RecordedRow(NamedTuple):
    """One recorded ping as a record: its key, its JSON, and its event time for ordering (None: it has none)."""

    key: bytes | None
    value: bytes
    ts_ms: int | None


@dataclass(frozen=True)
class RecordedRows:
    """Rows of a known number, to iterate over more than once."""

    count: int
    _iterate: Callable[[], Iterator[RecordedRow]]
    left_out: str = ""  # a text for people about rows that were not pings and are left out

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[RecordedRow]:
        return self._iterate()


def takes(path: Path) -> bool:
    """Returns whether this module reads files of this name."""
    return suffix_of(path) in _READERS


def has_columns(path: Path) -> bool:
    """Returns whether the file is a table, whose columns may have other names."""
    return suffix_of(path) in _TABLES


def has_lines(path: Path) -> bool:
    """Returns whether each line of the file is a document in JSON."""
    return suffix_of(path) in (".ndjson", ".jsonl")


def has_documents(path: Path) -> bool:
    """Returns whether `read_documents` reads files of this name."""
    return has_lines(path) or suffix_of(path) in (".csv", ".csv.gz")


def suffix_of(path: Path) -> str:
    """Returns the suffix in lower case; both suffixes of a packed file, as other formats are packed by gzip, too."""
    return "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()


def read(path: str | Path, columns: ColumnMap | None = None) -> Iterator[RecordedRow]:
    """Yields the rows lazily in the file's order. `-` is NDJSON on standard input. `columns` is for tables.

    Raises:
        OSError: the file cannot be read.
        ValueError: its format is unknown or broken, or a column is missing; one line that names the file.
    """
    if str(path) == STDIN:
        return _ndjson(sys.stdin.buffer)
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    suffix = suffix_of(path)
    if suffix in _TABLES:
        return _TABLES[suffix](path, columns)
    if suffix not in _DOCUMENTS:
        raise ValueError(f"{path}: unknown suffix {suffix!r}, expected {', '.join(_READERS)} or - for stdin")
    return _DOCUMENTS[suffix](path)


def read_documents(path: str | Path) -> Iterator[RecordedRow]:
    """Yields the lines of NDJSON as they are, and the rows of CSV as JSON objects with the names of the header, in
    which what looks like a number is one. They are for a map, which says what they mean. Raises the errors of `read`.
    """
    if str(path) == STDIN or has_lines(Path(path)):
        return read(path)
    return _csv_objects(Path(path))


def _csv_objects(path: Path) -> Iterator[RecordedRow]:
    with open_text(path) as file:
        delimiter, names = split_header(file.readline())
        for cells in csv.reader(file, delimiter=delimiter):
            if cells:
                values = (cell("sats", text) for text in cells)
                yield RecordedRow(None, _json(dict(zip(names, values, strict=False))), None)


def read_part(path: Path, header: bytes, part: bytes, columns: ColumnMap | None = None) -> Iterator[RecordedRow]:
    """Yields the rows of some lines of a file: NDJSON, or CSV, whose first line is given, too, as `header`. The name
    of the file says which. Raises ValueError if a column is missing."""
    if has_lines(path):
        return _ndjson(part.split(b"\n"))
    return _csv_rows(Sheet.of_bytes(path, header + part, columns))


def read_in_order(path: str | Path, columns: ColumnMap | None = None) -> RecordedRows:
    """Returns all rows by event time; rows of equal times keep the file's order.

    A row without a time stays after its predecessor (in Parquet: it comes last). Raises the errors of `read`.
    """
    if Path(path).suffix.lower() == ".parquet" and Path(path).exists():
        sorted_table = _sort_parquet(Path(path), columns)
        if sorted_table is not None:
            return sorted_table
    return sort_rows(read(path, columns))


def sort_rows(rows: Iterable[RecordedRow]) -> RecordedRows:
    """Returns the rows by event time, as `read_in_order` does."""
    latest = 0
    keyed: list[tuple[int, RecordedRow]] = []
    for row in rows:
        latest = latest if row.ts_ms is None else row.ts_ms
        keyed.append((latest, row))
    keyed.sort(key=lambda pair: pair[0])
    return RecordedRows(len(keyed), lambda: (row for _, row in keyed))


def row_of(fields: dict[str, Any]) -> RecordedRow:
    """Returns a row from the fields of a ping, whatever their values are. None counts as absent, and so does NaN in a
    field that may be absent."""
    kept = {name: item for name, item in fields.items() if item is not None and not _is_hole(name, item)}
    entity_id, ts = kept.get("entity_id"), kept.get("ts")
    return RecordedRow(_key(entity_id), _json(kept), event_time_ms(ts))


def _key(entity_id: object) -> bytes | None:
    """Returns the record's key: the id, or the digits of an id that is an integer. None if it is neither."""
    if isinstance(entity_id, int) and not isinstance(entity_id, bool):
        return str(entity_id).encode()
    return entity_id.encode("utf-8", "surrogateescape") if isinstance(entity_id, str) else None


def _is_hole(name: str, item: object) -> bool:
    """Returns whether it is the NaN with which tables of floats mark an absent value; in lat and lon it is a bad
    value."""
    return name not in ("lat", "lon") and isinstance(item, float) and math.isnan(item)


def _json(fields: dict[str, Any]) -> bytes:
    try:
        if all(math.isfinite(item) for item in fields.values() if isinstance(item, float)):
            return msgspec.json.encode(fields)
    except (TypeError, UnicodeEncodeError, OverflowError):
        pass
    # Anything else is written as it is, with bad numbers and bad bytes, so that `clean` can report what is wrong.
    return json.dumps(fields, ensure_ascii=False, default=str).encode("utf-8", "surrogateescape")


# -- tables -----------------------------------------------------------------------------------------------------------


@contextmanager
def _arrow_errors(path: Path) -> Iterator[None]:
    """Turns Arrow's errors into a ValueError, in one line that names the file."""
    import pyarrow as pa  # takes a tenth of a second, for which the other formats should not wait

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a Parquet file, or damaged: {error}") from error


def _parquet(path: Path, columns: ColumnMap | None) -> Iterator[RecordedRow]:
    from pyarrow import parquet

    with _arrow_errors(path):
        file = parquet.ParquetFile(path)
    present = file.schema_arrow.names
    place = find_columns(path, present, columns)

    def rows() -> Iterator[RecordedRow]:
        times = columns.local_times() if columns else None
        with _arrow_errors(path):
            for batch in file.iter_batches(BATCH_ROWS, columns=columns_of(place, present)):
                yield from _batch_rows(batch, place, columns, times)

    return rows()


def _sort_parquet(path: Path, columns: ColumnMap | None) -> RecordedRows | None:
    """Sorts by Arrow, in a tenth of the memory that rows would need. Returns None if the times are neither integers nor
    timestamps."""
    import pyarrow as pa
    from pyarrow import parquet

    with _arrow_errors(path):
        present = parquet.read_schema(path).names
        place = find_columns(path, present, columns)
        if len(parts_of(place["ts"], present)) > 1 or (columns and columns.zone):
            return None
        table = parquet.read_table(path, columns=columns_of(place, present))
        kind = table.schema.field(place["ts"]).type
        if not (pa.types.is_integer(kind) or pa.types.is_timestamp(kind)):
            return None
        table = table.sort_by(place["ts"])
    batches = table.to_batches(max_chunksize=BATCH_ROWS)
    return RecordedRows(
        table.num_rows, lambda: (row for batch in batches for row in _batch_rows(batch, place, columns, None))
    )


def _batch_rows(
    batch: Any, place: dict[str, str], columns: ColumnMap | None, times: LocalTimes | None
) -> Iterator[RecordedRow]:
    parts = parts_of(place["ts"], batch.schema.names)
    values = {name: arrow_values(name, batch.column(source)) for name, source in place.items() if name != "ts"}
    kind = batch.schema.field(parts[0]).type
    if times is None or getattr(kind, "tz", None) is not None:
        values["ts"] = arrow_values("ts", batch.column(place["ts"]))
        if "timestamp" not in str(kind):  # a timestamp column has its own unit
            values["ts"] = [milliseconds(value, columns) for value in values["ts"]]
    else:
        cells = zip(*(batch.column(part).to_pylist() for part in parts), strict=True)
        values["ts"] = [_local_ms(cell, who, times) for cell, who in zip(cells, values["entity_id"], strict=True)]
    for items in zip(*(values[name] for name in place), strict=True):
        yield row_of(dict(zip(place, items, strict=True)))


def _local_ms(cell: tuple[Any, ...], entity: object, times: LocalTimes) -> Any:
    """Returns a time of a file's own clock in milliseconds, or as it is if it is none."""
    if len(cell) == 1 and isinstance(cell[0], datetime):
        ts_ms = times.local_ms(cell[0], entity)
        return str(cell[0]) if ts_ms is None else ts_ms
    if len(cell) == 1 and not isinstance(cell[0], str):
        return cell[0]
    text = " ".join(map(str, cell))
    ts_ms = times.to_ms(text, entity)
    return text if ts_ms is None else ts_ms


def _csv(path: Path, columns: ColumnMap | None) -> Iterator[RecordedRow]:
    """Reads a CSV file, packed or not: its header at once, its rows lazily."""
    return _csv_rows(Sheet.open(path, columns))


def _csv_rows(sheet: Sheet) -> Iterator[RecordedRow]:
    with sheet:
        for cells, _ in sheet.records():
            if cells:
                yield row_of(sheet.fields(cells))


# -- documents --------------------------------------------------------------------------------------------------------


class LineMarks(msgspec.Struct):
    """The fields of a line that the order and the key need; `clean` reads the rest."""

    entity_id: Any = None
    ts: Any = None
    t: Any = None


MARKS: Final = msgspec.json.Decoder(LineMarks)


def _ndjson(lines: Iterable[bytes]) -> Iterator[RecordedRow]:
    for line in lines:
        value = line.strip()
        if value:
            yield _ndjson_row(value)


def _ndjson_row(value: bytes) -> RecordedRow:
    """Returns the line as it came, unless its time has the name `t`."""
    try:
        marks = MARKS.decode(value)
        if marks.ts is None and marks.t is not None:
            fields = msgspec.json.decode(value)
            return row_of({"ts": fields.pop("t"), **fields})
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return RecordedRow(None, value, None)
    return RecordedRow(_key(marks.entity_id), value, event_time_ms(marks.ts))


def _ndjson_file(path: Path) -> Iterator[RecordedRow]:
    def rows(file: BinaryIO) -> Iterator[RecordedRow]:
        with file:
            yield from _ndjson(file)

    return rows(path.open("rb"))


def _gpx(path: Path) -> Iterator[RecordedRow]:
    for point in points_of(path):
        yield row_of({name: cell(name, text) for name, text in point.items()})


_TABLES: Final[dict[str, Callable[[Path, ColumnMap | None], Iterator[RecordedRow]]]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".csv.gz": _csv,
}
_DOCUMENTS: Final[dict[str, Callable[[Path], Iterator[RecordedRow]]]] = {
    ".ndjson": _ndjson_file,
    ".jsonl": _ndjson_file,
    ".gpx": _gpx,
}
_READERS: Final = (*_TABLES, *_DOCUMENTS)
