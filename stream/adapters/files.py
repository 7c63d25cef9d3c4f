"""Recorded tracks on disk: Parquet, CSV, NDJSON, GPX. Knows formats and columns; `stream.clean` judges the rows.

Tables need the columns entity_id, ts (or t; milliseconds UTC, or what else `clean` reads as a time), lat and lon;
columns named like the other fields of a ping are taken along, all others are left. A row that is no ping still becomes
a record, so that it is rejected, counted and shown where every other bad record is.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple
from xml.etree import ElementTree

import msgspec

from stream.clean import event_time_ms
from stream.wire import Ping

STDIN: Final = "-"
BATCH_ROWS: Final = 8_192
_FIELDS: Final = Ping.__struct_fields__
_TEXTS: Final = frozenset({"entity_id", "trip_id", "category", "source"})
_WHOLE: Final = frozenset({"ts", "sats", "received_ts"})
_REQUIRED: Final = ("entity_id", "ts", "lat", "lon")
_GPX_FIELDS: Final = {
    "ele": "alt_m",
    "time": "ts",
    "speed": "speed_mps",
    "course": "heading_deg",
    "hdop": "hdop",
    "sat": "sats",
}


class Row(NamedTuple):
    """One recorded ping as a record: its key, its JSON, and its event time for ordering (None: it has none)."""

    key: bytes | None
    value: bytes
    ts_ms: int | None


@dataclass(frozen=True)
class Rows:
    """Rows of a known number, to iterate over more than once."""

    count: int
    _iterate: Callable[[], Iterator[Row]]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Row]:
        return self._iterate()


def read(path: str | Path) -> Iterator[Row]:
    """The rows in the file's order, lazily. `-` is NDJSON on standard input.

    Raises:
        OSError: the file cannot be read.
        ValueError: its format is unknown or broken, or a column is missing; one line that names the file.
    """
    if str(path) == STDIN:
        return _ndjson(sys.stdin.buffer)
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: unknown suffix {path.suffix!r}, expected {', '.join(_READERS)} or - for stdin")
    return reader(path)


def read_in_order(path: str | Path) -> Rows:
    """All rows by event time; equal times keep the file's order.

    A row without a time stays behind its predecessor (in Parquet: comes last). Raises as `read` does.
    """
    if Path(path).suffix.lower() == ".parquet" and Path(path).exists():
        sorted_table = _sorted_parquet(Path(path))
        if sorted_table is not None:
            return sorted_table
    latest = 0
    keyed: list[tuple[int, Row]] = []
    for row in read(path):
        latest = latest if row.ts_ms is None else row.ts_ms
        keyed.append((latest, row))
    keyed.sort(key=lambda pair: pair[0])
    return Rows(len(keyed), lambda: (row for _, row in keyed))


def row_of(fields: dict[str, Any]) -> Row:
    """A row from the fields of a ping, whatever their values are. None, and NaN where it can be absent, is absent."""
    kept = {name: item for name, item in fields.items() if item is not None and not _is_hole(name, item)}
    entity_id, ts = kept.get("entity_id"), kept.get("ts")
    key = entity_id.encode("utf-8", "surrogateescape") if isinstance(entity_id, str) else None
    return Row(key, _json(kept), event_time_ms(ts))


def _is_hole(name: str, item: object) -> bool:
    """Whether it is the NaN by which tables of floats mark an absent value; in lat and lon it is a bad value."""
    return name not in ("lat", "lon") and isinstance(item, float) and math.isnan(item)


def _json(fields: dict[str, Any]) -> bytes:
    try:
        if all(math.isfinite(item) for item in fields.values() if isinstance(item, float)):
            return msgspec.json.encode(fields)
    except (TypeError, UnicodeEncodeError, OverflowError):
        pass
    # Anything else is written as it stands, bad numbers and bad bytes too, for `clean` to name what is wrong.
    return json.dumps(fields, ensure_ascii=False, default=str).encode("utf-8", "surrogateescape")


# -- tables -----------------------------------------------------------------------------------------------------------


def _columns(path: Path, present: Sequence[str]) -> dict[str, str]:
    """Ping field -> column of the file. Raises ValueError that names what is missing."""
    columns = {name: name for name in _FIELDS if name in present}
    if "ts" not in columns and "t" in present:
        columns["ts"] = "t"
    missing = ["ts (or t)" if name == "ts" else name for name in _REQUIRED if name not in columns]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; it has {', '.join(present) or 'none'}")
    return columns


@contextmanager
def _arrow_errors(path: Path) -> Iterator[None]:
    """What Arrow has to say about a file, in one line that names it."""
    import pyarrow as pa  # a tenth of a second that the other formats need not wait

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a Parquet file, or damaged: {error}") from error


def _parquet(path: Path) -> Iterator[Row]:
    from pyarrow import parquet

    with _arrow_errors(path):
        file = parquet.ParquetFile(path)
    columns = _columns(path, file.schema_arrow.names)

    def rows() -> Iterator[Row]:
        with _arrow_errors(path):
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns.values())):
                yield from _batch_rows(batch, columns)

    return rows()


def _sorted_parquet(path: Path) -> Rows | None:
    """Sorted by Arrow, in a tenth of the memory that rows would take; None if the times are not plain numbers."""
    import pyarrow as pa
    from pyarrow import parquet

    with _arrow_errors(path):
        columns = _columns(path, parquet.read_schema(path).names)
        table = parquet.read_table(path, columns=list(columns.values()))
        kind = table.schema.field(columns["ts"]).type
        if not (pa.types.is_integer(kind) or pa.types.is_timestamp(kind)):
            return None
        table = table.sort_by(columns["ts"])
    batches = table.to_batches(max_chunksize=BATCH_ROWS)
    return Rows(table.num_rows, lambda: (row for batch in batches for row in _batch_rows(batch, columns)))


def _batch_rows(batch: Any, columns: dict[str, str]) -> Iterator[Row]:
    values = [_arrow_values(name, batch.column(source)) for name, source in columns.items()]
    for items in zip(*values, strict=True):
        yield row_of(dict(zip(columns, items, strict=True)))


def _arrow_values(name: str, column: Any) -> list[Any]:
    """A column as Python values of the type that the field wants, or as they are where Arrow cannot cast them."""
    import pyarrow as pa
    from pyarrow import compute

    if pa.types.is_floating(column.type) and name in _WHOLE:  # NaN, which no integer can be, marks what is absent
        column = compute.if_else(compute.is_nan(column), pa.scalar(None, column.type), column)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
    wanted = {"valid": pa.bool_(), "attrs": column.type}.get(name, pa.float64())
    if name in _TEXTS:
        wanted = pa.string()
    elif name in _WHOLE:
        wanted = column.type if name == "ts" else pa.int64()
    with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
        column = column.cast(wanted)
    return list(column.to_pylist())


def _csv(path: Path) -> Iterator[Row]:
    file = path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    header = file.readline()
    delimiter = max(",;\t", key=header.count)
    names = next(csv.reader([header], delimiter=delimiter), [])
    try:
        columns = _columns(path, [name.strip() for name in names])
    except ValueError:
        file.close()
        raise
    places = {field: [name.strip() for name in names].index(column) for field, column in columns.items()}

    def rows() -> Iterator[Row]:
        with file:
            for cells in _csv_lines(csv.reader(file, delimiter=delimiter)):
                yield row_of(
                    {field: _cell(field, cells[at]) for field, at in places.items() if at < len(cells) and cells[at]}
                )

    return rows()


def _csv_lines(reader: Any) -> Iterator[list[str]]:
    """The lines of a CSV reader; one that it cannot take (a field of 128 KiB) is an empty row, and a reject."""
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            cells = [""]
        if cells:
            yield cells


def _cell(field: str, text: str) -> Any:
    """The text of a cell as the type that the field wants; as it stands if it is not one."""
    text = text.strip()
    if field in _TEXTS:
        return text
    if field == "valid":
        return {"true": True, "false": False, "1": True, "0": False}.get(text.lower(), text)
    for number in (int, float) if field in _WHOLE else (float,):
        try:
            return number(text)
        except ValueError:
            continue
    return text


# -- documents --------------------------------------------------------------------------------------------------------


class _Marks(msgspec.Struct):
    """What ordering and the key need of a line; the rest is for `clean`."""

    entity_id: Any = None
    ts: Any = None
    t: Any = None


_MARKS: Final = msgspec.json.Decoder(_Marks)


def _ndjson(lines: Iterable[bytes]) -> Iterator[Row]:
    for line in lines:
        value = line.strip()
        if value:
            yield _ndjson_row(value)


def _ndjson_row(value: bytes) -> Row:
    """The line as it came, unless its time is called `t`."""
    try:
        marks = _MARKS.decode(value)
        if marks.ts is None and marks.t is not None:
            fields = msgspec.json.decode(value)
            return row_of({"ts": fields.pop("t"), **fields})
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Row(None, value, None)
    key = marks.entity_id.encode() if isinstance(marks.entity_id, str) else None
    return Row(key, value, event_time_ms(marks.ts))


def _ndjson_file(path: Path) -> Iterator[Row]:
    def rows(file: BinaryIO) -> Iterator[Row]:
        with file:
            yield from _ndjson(file)

    return rows(path.open("rb"))


def _gpx(path: Path) -> Iterator[Row]:
    """Track points; the entity is the track's name, or the file's and the track's number."""
    number, name = 0, None
    try:
        for event, element in ElementTree.iterparse(path, events=("start", "end")):
            tag = element.tag.rpartition("}")[2]
            if event == "start" and tag == "trk":
                number, name = number + 1, None
            elif event == "end" and tag == "name" and name is None:
                name = (element.text or "").strip() or None
            elif event == "end" and tag == "trkpt":
                yield row_of({"entity_id": name or f"{path.stem}-{number}", **_gpx_point(element)})
                element.clear()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: not GPX: {error}") from error


def _gpx_point(point: ElementTree.Element) -> dict[str, Any]:
    fields = {name: _cell(name, text) for name in ("lat", "lon") if (text := point.get(name))}
    for child in point.iter():  # extensions nest speed and course
        name = _GPX_FIELDS.get(child.tag.rpartition("}")[2])
        if name is not None and child.text and child.text.strip():
            fields[name] = _cell(name, child.text)
    return fields


_READERS: Final[dict[str, Callable[[Path], Iterator[Row]]]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".ndjson": _ndjson_file,
    ".jsonl": _ndjson_file,
    ".gpx": _gpx,
}
