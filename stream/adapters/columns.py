"""Reads Parquet and CSV with one row per ping as columns. `column_names` says how a map names them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from stream.adapters import text
from stream.adapters.column_names import NAMES, NUMBERS, PER_S, TIMES, ColumnMap, columns_of, find_columns, parts_of
from stream.adapters.local_times import LocalTimes
from stream.adapters.table_builder import END_S
from stream.adapters.tables import SourceRows, Table, clean, codes

DROPPED: Final = b"pathcast.dropped"  # metadata of our own Parquet files: what was left out when writing, as JSON

_UNITS: Final = {"ms": "milliseconds", "s": "seconds", "us": "microseconds", "ns": "nanoseconds"}
_WHOLE: Final = ("ms", "us", "ns")  # numbers that are never fractions
_GPS_S: Final = (10**8, 10**10)  # 1973 to 2286: the same numbers are in this range in only one unit


def read(path: Path, columns: ColumnMap | None = None) -> Table:
    """Reads and cleans one file.

    It needs `entity_id`, `t` or `ts`, `lat`, `lon`, and reads `speed_mps`, `heading_deg`, `traj_id` and `mode` if they
    exist. Raises ValueError, which names the file and the column, OSError for a file that cannot be read.
    """
    columns = columns or ColumnMap()
    try:
        present = _all_columns(path)
        place = find_columns(path, present, columns, (*NAMES, "ts", *NUMBERS), TIMES)
        table, dropped = _open(path, place, columns, present)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: {error}") from error
    times = columns.local_times()
    if times is None or getattr(table[place["ts"]].type, "tz", None) is not None:
        ts_ms, has_ts = _read_times(path, place["ts"], table[place["ts"]], columns.clock)
    else:
        ts_ms, has_ts = _read_local_times(path, place, table, times)
    entity, names = codes(table[place["entity_id"]])
    trajectory, _ = _codes_if_any(table, place.get("traj_id"))
    mode, modes = _codes_if_any(table, place.get("mode"))
    number = {name: _read_numbers(path, place[name], table) if name in place else None for name in NUMBERS}
    lat, lon, speed, heading = (number[name] for name in NUMBERS)
    assert lat is not None and lon is not None  # noqa: PT018 - `find_columns` has checked it
    rows = SourceRows(entity, names, trajectory, mode, modes, ts_ms, has_ts, lat, lon, speed, heading)
    return clean(rows, dropped)


def _open(path: Path, place: dict[str, str], columns: ColumnMap, present: list[str]) -> tuple[Any, dict[str, int]]:
    """Returns the columns of `place`, and the number of rows that were left out, by reason. A time of two columns is
    joined to one, which has the name that `place` gives."""
    names, times = columns_of(place, present), parts_of(place["ts"], present)
    if _is_parquet(path):
        table = pa.parquet.read_table(path, columns=names)
        return _join_times(table, place["ts"], times), _count_dropped_before(table)
    dropped: Counter[str] = Counter()
    clock = columns.clock if columns.local_times() is None else "text"
    table = _open_typed(path, place, clock, names)
    if table is None:
        table = _convert_cells(path, place, clock, _open_text(path, names, dropped))
    return _join_times(table, place["ts"], times), +dropped


def _join_times(table: Any, name: str, parts: tuple[str, ...]) -> Any:
    if len(parts) == 1:
        return table
    return table.append_column(
        name, pc.binary_join_element_wise(*(table[part].cast(pa.string()) for part in parts), " ")
    )


def _open_typed(path: Path, place: dict[str, str], clock: str, names: list[str]) -> Any | None:
    """Reads typed columns. Returns None if a cell is not of its column's type, a row is too short or too long, or there
    is no row."""
    # typed by name: inference would read entity "007" as the number 7
    types = dict.fromkeys(names, pa.string())
    types |= {place[name]: pa.float64() for name in NUMBERS if name in place}
    if clock in _WHOLE:
        del types[place["ts"]]
    elif clock == "s":
        types[place["ts"]] = pa.float64()
    convert = pa.csv.ConvertOptions(column_types=types, include_columns=names)
    parsing = pa.csv.ParseOptions(delimiter=text.delimiter_of(path))
    try:
        table = pa.csv.read_csv(path, parse_options=parsing, convert_options=convert)
    except pa.ArrowException:
        return None
    kind = table[place["ts"]].type if clock in _WHOLE else pa.int64()
    is_time = pa.types.is_integer(kind) or pa.types.is_timestamp(kind)
    return table if is_time and table.num_rows else None


def _open_text(path: Path, names: list[str], dropped: Counter[str]) -> Any:
    """Reads columns of text. This takes three times as long, but a wrong cell or row costs only itself."""
    batches = list(text.sheets(path, names, dropped, lambda share: None, named=True))
    if not any(batch.num_rows for batch in batches):
        header = ", ".join(text.header(path))
        if dropped.total():
            raise ValueError(f"{path}, line 2: expected {header}, and neither this nor any line is that")
        raise ValueError(f"{path}: not one row below the header, {header}")
    return pa.Table.from_batches(batches)


def _convert_cells(path: Path, place: dict[str, str], clock: str, cells: Any) -> Any:
    """Converts columns of text to the types of `_open_typed`. A cell that is not of that type becomes null."""
    column = {name: cells[name] for name in cells.column_names}
    for ours, name in place.items():
        if ours in NUMBERS or (ours == "ts" and clock == "s"):
            numbers = text.numbers(cells[name])
            column[name] = pa.array(numbers, mask=np.isnan(numbers))
            _check_some(path, name, cells[name], column[name], "a number")
        elif ours == "ts" and clock in _WHOLE:
            column[name] = _convert_times(cells[name])
            _check_some(path, name, cells[name], column[name], f"int64 {_UNITS[clock]} since 1970 UTC")
    return pa.table(column)


def _convert_times(cells: Any) -> Any:
    """Converts cells to whole numbers; if there is not one, to times with or without a zone, as Arrow would infer."""
    bare = pc.utf8_trim_whitespace(cells)
    whole = pc.if_else(pc.match_substring_regex(bare, r"^-?\d{1,18}$"), bare, None).cast(pa.int64())
    if whole.null_count < len(whole):
        return whole
    zoned = text.zoned_ms(cells)
    ts_ms = zoned if (zoned != text.NO_TIME).any() else text.local_ms(cells)
    return pa.array(ts_ms, mask=ts_ms == text.NO_TIME).cast(pa.timestamp("ms"))


def _check_some(path: Path, name: str, cells: Any, column: Any, expected: str) -> None:
    """Raises ValueError if there are values, but none is of the expected type: then it is another column."""
    if column.null_count == len(column):
        said = cells.filter(pc.invert(pc.is_in(cells, value_set=pa.array(pa.csv.ConvertOptions().null_values))))
        if len(said):
            raise ValueError(f"{path}: column {name} has {said[0].as_py()!r}, expected {expected}")


def _all_columns(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return list(pa.parquet.read_schema(path).names) if _is_parquet(path) else text.header(path)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _count_dropped_before(table: Any) -> dict[str, int]:
    raw = (table.schema.metadata or {}).get(DROPPED)
    return {} if raw is None else {str(reason): int(rows) for reason, rows in json.loads(raw).items()}


def _read_times(path: Path, name: str, column: Any, clock: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Returns milliseconds, and which rows have any. Negative ones are valid: anonymised data may be before 1970."""
    if pa.types.is_timestamp(column.type):
        ts_ms, present = _read_whole(column.cast(pa.timestamp("ms", tz=column.type.tz), safe=False).cast(pa.int64()))
    elif clock == "rfc3339":
        ts_ms, present = _times_from_text(path, name, column)
    elif clock == "s":
        ts_ms, present = _times_from_seconds(path, name, column)
    else:
        ts_ms, present = _times_from_integers(path, name, column, clock)
    return ts_ms, present & (ts_ms > -1000 * END_S) & (ts_ms < 1000 * END_S)


def _times_from_integers(path: Path, name: str, column: Any, clock: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    if not pa.types.is_integer(column.type):
        raise ValueError(f"{path}: column {name} is {column.type}, expected int64 {_UNITS[clock]} since 1970 UTC")
    times, present = _read_whole(column)
    _check_unit(path, name, times[present], clock)
    return times // (PER_S[clock] // 1000), present


def _times_from_seconds(path: Path, name: str, column: Any) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise ValueError(f"{path}: column {name} is {column.type}, expected seconds since 1970 UTC")
    seconds = np.asarray(column.cast(pa.float64()).fill_null(float("nan")).to_numpy(), np.float64)
    present = np.isfinite(seconds)
    _check_unit(path, name, seconds[present], "s")
    present &= np.abs(seconds) < END_S
    return np.rint(np.where(present, seconds, 0.0) * 1000).astype(np.int64), present


def _check_unit(path: Path, name: str, times: NDArray[Any], clock: str) -> None:
    """Raises ValueError if the times are plausible in another unit, and none is in the declared one."""
    if len(times) == 0:
        return
    half = len(times) // 2
    least, middle, most = times.min().item(), np.partition(times, half)[half].item(), times.max().item()
    for unit, per_s in PER_S.items():
        # Times that are too small may also come from a clock that began at 0, so all of them must fit the other unit.
        # Times that are too large have no other reason; there the median decides, as a few may be 0 for "unknown".
        low, high = (middle, middle) if per_s > PER_S[clock] else (least, most)
        if unit != clock and _GPS_S[0] * per_s <= low and high <= _GPS_S[1] * per_s:
            raise ValueError(
                f"{path}: column {name} has {round(middle)}, expected {_UNITS[clock]} since 1970 UTC: "
                f"{_UNITS[unit]}? (--columns t:{unit}={name})"
            )


def _read_whole(column: Any) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    present = np.asarray(pc.is_valid(column).to_numpy(), bool)
    return np.asarray(pc.fill_null(column, 0).cast(pa.int64()).to_numpy(), np.int64), present


def _times_from_text(path: Path, name: str, column: Any) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Converts text to times. A text that is not a time is a row without one; if no text is a time, the column is
    wrong."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise ValueError(f"{path}: column {name} is {column.type}, expected RFC 3339 text")
    ts_ms = text.zoned_ms(column)
    present = ts_ms != text.NO_TIME
    if len(ts_ms) and not present.any():
        raise ValueError(
            f"{path}: column {name} has {column[0].as_py()!r}, expected RFC 3339 with a zone: 2026-11-25T13:22:48Z"
        )
    return ts_ms, present


def _read_local_times(
    path: Path, place: dict[str, str], table: Any, times: LocalTimes
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Converts text, or times without a zone, to milliseconds. If no text is a time, the column is wrong."""
    column, entities = table[place["ts"]], table[place["entity_id"]].to_pylist()
    if pa.types.is_timestamp(column.type):
        rows = zip(column.cast(pa.timestamp("ms"), safe=False).to_pylist(), entities, strict=True)
        found = [None if at is None else times.local_ms(at, entity) for at, entity in rows]
    else:
        texts = column.cast(pa.string()).to_pylist()
        found = [
            None if cell is None else times.to_ms(cell, entity) for cell, entity in zip(texts, entities, strict=True)
        ]
        if found and all(ts_ms is None for ts_ms in found):
            raise ValueError(f"{path}: column {place['ts']} has {texts[0]!r}, which is no time {times.describe()}")
    whole = np.array([0 if ts_ms is None else ts_ms for ts_ms in found], np.int64)
    return whole, np.array([ts_ms is not None for ts_ms in found], bool)


def _read_numbers(path: Path, name: str, table: Any) -> NDArray[np.float64]:
    column = table[name]
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        raise ValueError(f"{path}: column {name} is {column.type}, expected a number")
    return np.asarray(column.cast(pa.float64()).fill_null(float("nan")).to_numpy(), np.float64)


def _codes_if_any(table: Any, name: str | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    return (np.full(table.num_rows, -1, np.int64), ()) if name is None else codes(table[name])
