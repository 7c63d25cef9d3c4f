"""Turns the rows of one source into clean columns in order, and counts the rows that are not pings by reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MAX_SPEED_MPS = 50.0  # a reported speed above it is a sentinel (AIS has 102.3 kn for "unknown"), not a speed

# Reasons to leave rows out, as ends of a sentence that begins with how many; Porto's rows are trips.
UNREADABLE_FILE: Final = "unreadable_file"  # the only reason that counts files, not rows
WHY: Final = {
    "no_entity_or_time": "without an entity or a time",
    "impossible_position": "at an impossible position",
    "repeated_time": "at a time that their entity had already",
    "no_position": "without a position",
    "no_time": "without a time",
    "unreadable_row": "that cannot be read",
    "no_canonical_ping": "that are no ping as workers read them",
    "marked_invalid": "that are marked invalid",
    "missing_data": "that are marked as having gaps",
    "empty_trip": "that are trips without a point",
}

Codes = NDArray[np.signedinteger[Any]]  # -1 means "none"
Floats = NDArray[np.floating[Any]]


class SourceRows(NamedTuple):
    """Holds what a reader found: R rows in any order, with nothing left out yet."""

    entity: Codes  # (R,) index into `names`, which are sorted
    names: tuple[str, ...]
    trajectory: NDArray[np.int64]  # (R,) any numbers; rows of one entity with one number may be one track
    mode: Codes  # (R,) index into `modes`
    modes: tuple[str, ...]
    ts_ms: NDArray[np.int64]  # (R,)
    has_ts: NDArray[np.bool_]  # (R,)
    lat: NDArray[np.float64]  # (R,) NaN where there is none, as in the columns below
    lon: NDArray[np.float64]  # (R,)
    speed_mps: Floats | None = None  # (R,); None: the source has no such column
    heading_deg: Floats | None = None  # (R,)


@dataclass(frozen=True)
class Table:
    """The rows of one source, sorted by entity, trajectory and time; R rows, S runs.

    A run is a stretch of rows of one entity, trajectory id and travel mode; `run_start` int64[S] is its first row.
    `dropped` counts the rows that were left out, by reason, and the files of a folder that were not of its format,
    which `unreadable` names.
    """

    ts_ms: NDArray[np.int64]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    speed_mps: NDArray[np.float32]
    heading_deg: NDArray[np.float32]
    run_start: NDArray[np.int64]
    run_entity: NDArray[np.int64]  # index into `names`
    run_mode: NDArray[np.int64]  # index into `modes`, -1 where the source does not state it
    names: tuple[str, ...]
    modes: tuple[str, ...]
    dropped: dict[str, int]
    unreadable: tuple[Path, ...] = ()


def clean(rows: SourceRows, dropped: Mapping[str, int] | None = None) -> Table:
    """Returns the rows that are pings, in order. `dropped` counts what the reader has left out already, by reason."""
    lat, lon = rows.lat, rows.lon
    # exactly (0, 0) is a receiver without a fix; the comparisons are false for NaN
    possible = (np.abs(lat) <= 90) & (np.abs(lon) <= 180) & ~((lat == 0) & (lon == 0))
    whole = rows.has_ts & (rows.entity >= 0)
    order = np.flatnonzero(possible & whole)
    key = (rows.ts_ms[order], rows.trajectory[order], rows.entity[order])
    if not _is_sorted(key):
        by_key = np.lexsort(key)  # stable: of two fixes at the same time, the file's first stays first
        order, key = order[by_key], (key[0][by_key], key[1][by_key], key[2][by_key])
    ts_ms, trajectory, entity = key
    new_run = np.ones(len(order), bool)
    new_run[1:] = (np.diff(entity) != 0) | (np.diff(trajectory) != 0)
    fresh = new_run.copy()
    fresh[1:] |= np.diff(ts_ms) != 0
    kept = order[fresh]
    mode, entity = rows.mode[kept], entity[fresh]
    new_run = new_run[fresh]
    new_run[1:] |= np.diff(mode) != 0  # somebody who gets off the bus and walks has begun another journey
    return Table(
        ts_ms=ts_ms[fresh],
        lat=lat[kept],
        lon=lon[kept],
        speed_mps=_filter_reported(rows.speed_mps, kept, lambda speed: (speed >= 0) & (speed <= MAX_SPEED_MPS)),
        heading_deg=_filter_reported(rows.heading_deg, kept, lambda heading: (heading >= 0) & (heading < 360)),
        run_start=np.flatnonzero(new_run).astype(np.int64),
        run_entity=entity[new_run].astype(np.int64),
        run_mode=mode[new_run].astype(np.int64),
        names=rows.names,
        modes=rows.modes,
        dropped=_add_counts(
            {
                "no_entity_or_time": int((~whole).sum()),
                "impossible_position": int((~possible & whole).sum()),
                "repeated_time": int((~fresh).sum()),
            },
            dropped or {},
        ),
    )


def why(dropped: Mapping[str, int]) -> str:
    """Returns a text for people about the rows that were left out; empty if none were."""
    counted = {reason: rows for reason, rows in dropped.items() if rows and reason != UNREADABLE_FILE}
    return ", ".join(f"{rows:,} {WHY.get(reason, reason)}" for reason, rows in counted.items())


def _add_counts(ours: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {reason: ours.get(reason, 0) + more.get(reason, 0) for reason in dict.fromkeys((*ours, *more))}


def _filter_reported(column: Floats | None, kept: NDArray[np.int64], possible: Any) -> NDArray[np.float32]:
    """Returns the reported values; NaN where there is none or an impossible one."""
    if column is None:
        return np.full(len(kept), np.nan, np.float32)
    said = column[kept]
    return np.where(possible(said), said, np.nan).astype(np.float32)


def _is_sorted(key: Sequence[Codes]) -> bool:
    """Returns whether rows are in the order that np.lexsort(key) would give; the last key counts first."""
    tied = np.ones(max(0, len(key[0]) - 1), bool)
    for column in reversed(key):
        step = np.diff(column)
        if (step[tied] < 0).any():
            return False
        tied &= step == 0
    return True


def codes(column: Any) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Returns the values of an Arrow column as codes in the order of the sorted names, and these names; null and the
    empty text are -1."""
    encoded = column.cast(pa.string()).dictionary_encode().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # combine_chunks keeps an empty column chunked
        return np.empty(0, np.int64), ()
    names = encoded.dictionary.to_pylist()
    rank, in_order = ranks(names)
    own = np.asarray(encoded.indices.fill_null(len(names)).to_numpy(zero_copy_only=False), np.int64)
    return rank[own], in_order


def ranks(names: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Returns the rank of each name among the sorted names, with -1 after the last one, and the sorted names.

    An empty name means none, so its rank is -1: CSV has no other way to leave a text out, and vehicles without an id
    are not one vehicle.
    """
    by_name = sorted((place for place, name in enumerate(names) if name), key=names.__getitem__)
    rank = np.full(len(names) + 1, -1, np.int64)
    rank[by_name] = np.arange(len(by_name))
    return rank, tuple(names[place] for place in by_name)
