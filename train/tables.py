"""One file of tracks -> clean columns in order. Knows Parquet, CSV and which rows are no pings; knows no cutting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

MAX_SPEED_MPS = 50.0  # a reported speed beyond it is a sentinel (AIS says 102.3 kn for "unknown"), not a speed

_NUMBERS = ("lat", "lon", "speed_mps", "heading_deg")
_TIMES = ("t", "ts")
_SECONDS = (10**8, 10**10)  # 1973 to 2286 in seconds; in milliseconds it is January to April 1970, when nobody had GPS
_NAMES = ("entity_id", "traj_id", "mode")
_WANTED = (*_NAMES, *_TIMES, *_NUMBERS)


@dataclass(frozen=True)
class Table:
    """The rows of one file, sorted by entity, trajectory and time; R rows, S runs.

    A run is a stretch of rows of one entity, trajectory id and travel mode; `run_start` int64[S] is its first row.
    `dropped` counts the rows that were left out, by reason.
    """

    ts_ms: NDArray[np.int64]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    speed_mps: NDArray[np.float32]
    heading_deg: NDArray[np.float32]
    run_start: NDArray[np.int64]
    run_entity: NDArray[np.int64]  # index into `names`
    run_mode: NDArray[np.int64]  # index into `modes`, -1 where the file does not say
    names: tuple[str, ...]
    modes: tuple[str, ...]
    dropped: dict[str, int]


def read(path: Path) -> Table:
    """Read and clean one file.

    Needs `entity_id`, `t` or `ts` (milliseconds UTC, or a timestamp type), `lat`, `lon`; takes `speed_mps`,
    `heading_deg`, `traj_id` and `mode` where they are. Raises ValueError naming the file and the column, OSError for a
    file that cannot be read.
    """
    table = _open(path)
    time_name = next((name for name in _TIMES if name in table.column_names), None)
    missing = [name for name in ("entity_id", "lat", "lon") if name not in table.column_names]
    if time_name is None:
        missing.append("t (or ts)")
    if missing or time_name is None:
        raise ValueError(f"{path}: no column {', '.join(missing)}; its columns are {', '.join(_all_columns(path))}")
    ts_ms, has_ts = _times(path, time_name, table[time_name])
    number = {name: _numbers(path, name, table) for name in _NUMBERS}
    entity, names = _codes(table["entity_id"])
    trajectory, _ = _codes_if_any(table, "traj_id")
    mode, modes = _codes_if_any(table, "mode")
    return _clean(entity, names, trajectory, mode, modes, ts_ms, has_ts, number)


def _clean(
    entity: NDArray[np.int64],
    names: tuple[str, ...],
    trajectory: NDArray[np.int64],
    mode: NDArray[np.int64],
    modes: tuple[str, ...],
    ts_ms: NDArray[np.int64],
    has_ts: NDArray[np.bool_],
    number: dict[str, NDArray[np.float64]],
) -> Table:
    lat, lon = number["lat"], number["lon"]
    # exactly (0, 0) is a receiver without a fix; the comparisons are false for NaN
    possible = (np.abs(lat) <= 90) & (np.abs(lon) <= 180) & ~((lat == 0) & (lon == 0))
    whole = has_ts & (entity >= 0)
    order = np.flatnonzero(possible & whole)
    key = (ts_ms[order], trajectory[order], entity[order])
    if not _is_sorted(key):
        order = order[np.lexsort(key)]  # stable: of two fixes at one time the file's first stays first
    entity, trajectory, ts_ms = entity[order], trajectory[order], ts_ms[order]
    new_run = np.ones(len(order), bool)
    new_run[1:] = (np.diff(entity) != 0) | (np.diff(trajectory) != 0)
    fresh = new_run.copy()
    fresh[1:] |= np.diff(ts_ms) != 0
    kept = order[fresh]
    mode, entity = mode[kept], entity[fresh]
    new_run = new_run[fresh]
    new_run[1:] |= np.diff(mode) != 0  # who gets off the bus and walks has begun another journey
    speed, heading = number["speed_mps"][kept], number["heading_deg"][kept]
    return Table(
        ts_ms=ts_ms[fresh],
        lat=lat[kept],
        lon=lon[kept],
        speed_mps=np.where((speed >= 0) & (speed <= MAX_SPEED_MPS), speed, np.nan).astype(np.float32),
        heading_deg=np.where((heading >= 0) & (heading < 360), heading, np.nan).astype(np.float32),
        run_start=np.flatnonzero(new_run).astype(np.int64),
        run_entity=entity[new_run],
        run_mode=mode[new_run],
        names=names,
        modes=modes,
        dropped={
            "no_entity_or_time": int((~whole).sum()),
            "impossible_position": int((~possible & whole).sum()),
            "repeated_time": int((~fresh).sum()),
        },
    )


def _is_sorted(key: Sequence[NDArray[np.int64]]) -> bool:
    """Whether rows are in the order that np.lexsort(key) would give; the last key counts first."""
    tied = np.ones(max(0, len(key[0]) - 1), bool)
    for column in reversed(key):
        step = np.diff(column)
        if (step[tied] < 0).any():
            return False
        tied &= step == 0
    return True


def _open(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        if path.suffix.lower() == ".parquet":
            return pa.parquet.read_table(path, columns=[c for c in _all_columns(path) if c in _WANTED])
        if path.suffix.lower() in (".csv", ".gz"):
            present = [name for name in _all_columns(path) if name in _WANTED]
            # typed by name: inference would read entity "007" as the number 7
            types = dict.fromkeys(_NAMES, pa.string()) | dict.fromkeys(_NUMBERS, pa.float64())
            convert = pa.csv.ConvertOptions(column_types=types, include_columns=present)
            return pa.csv.read_csv(path, convert_options=convert)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: {error}") from error
    raise ValueError(f"{path}: the name must end in .parquet, .csv or .csv.gz")


def _all_columns(path: Path) -> list[str]:
    if path.suffix.lower() == ".parquet":
        return list(pa.parquet.read_schema(path).names)
    with pa.csv.open_csv(path) as reader:
        return list(reader.schema.names)


def _times(path: Path, name: str, column: Any) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Milliseconds and where there are any. Negative ones are fine: anonymised data is shifted to before 1970."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms", tz=column.type.tz), safe=False).cast(pa.int64())
    if not pa.types.is_integer(column.type):
        raise ValueError(f"{path}: column {name} is {column.type}, expected int64 milliseconds since 1970 UTC")
    present = np.asarray(pc.is_valid(column).to_numpy(), bool)
    ts_ms = np.asarray(pc.fill_null(column, 0).cast(pa.int64()).to_numpy(), np.int64)
    if present.any() and ts_ms[present].min() >= _SECONDS[0] and ts_ms[present].max() <= _SECONDS[1]:
        raise ValueError(f"{path}: column {name} looks like seconds since 1970, expected milliseconds")
    return ts_ms, present


def _numbers(path: Path, name: str, table: Any) -> NDArray[np.float64]:
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    column = table[name]
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        raise ValueError(f"{path}: column {name} is {column.type}, expected a number")
    return np.asarray(column.cast(pa.float64()).fill_null(float("nan")).to_numpy(), np.float64)


def _codes_if_any(table: Any, name: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if name in table.column_names:
        return _codes(table[name])
    return np.full(table.num_rows, -1, np.int64), ()


def _codes(column: Any) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Values as codes in the order of the sorted names; null is -1."""
    encoded = column.cast(pa.string()).dictionary_encode().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # combine_chunks keeps an empty column chunked
        return np.empty(0, np.int64), ()
    names = np.asarray(encoded.dictionary.to_pylist(), object)
    by_name = np.argsort(names, kind="stable")
    rank = np.empty(len(names) + 1, np.int64)
    rank[by_name] = np.arange(len(names))
    rank[-1] = -1
    codes = np.asarray(encoded.indices.fill_null(len(names)).to_numpy(zero_copy_only=False), np.int64)
    return rank[codes], tuple(str(name) for name in names[by_name])
