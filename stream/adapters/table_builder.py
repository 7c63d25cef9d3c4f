"""Collects pieces of tracks and joins them into one Table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.adapters.tables import UNREADABLE_FILE, Codes, Floats, SourceRows, Table, clean, ranks

Progress = Callable[[float], None]  # called with the part that is done, 0..1
ABSENT = np.float32(np.nan)
END_S: Final = 253_402_300_800  # the year 10,000: a later time comes from a broken clock, or is in other units


class Piece(NamedTuple):
    """Some rows of one source; a single value in place of an array holds for all rows."""

    entity: str | Any  # or an Arrow array of text; an empty text means none
    ts_ms: NDArray[np.int64]  # int64's least value: no time
    lat: NDArray[np.float64]  # NaN: no position; below, NaN means no value, too
    lon: NDArray[np.float64]
    speed_mps: Floats | None = None
    heading_deg: Floats | None = None
    trajectory: int | NDArray[np.int64] = 0
    mode: tuple[Codes, Sequence[str]] | None = None  # by row, an index into the names; -1: none


class TableBuilder:
    """Collects pieces; call `table` at the end. It joins one column at a time, so that peak memory stays near one
    copy."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self._columns: dict[str, list[Any]] = {name: [] for name in Piece._fields}
        self._lengths: list[int] = []
        self._names: dict[str, int] = {}
        self._modes: dict[str, int] = {}
        self._unreadable: list[Path] = []

    def each(self, files: Sequence[Path], progress: Progress, read: Callable[[Path, Progress], None]) -> None:
        """Reads the files one by one; `read` is called with each file and a callback for the progress within it.

        A file that cannot be read is counted, and its rows are removed: an archive of a year has a day on which the
        server was busy. Raises the first ValueError if no file can be read.
        """
        first: ValueError | None = None
        for done, file in enumerate(files):
            before = len(self._lengths), len(self._names), len(self._modes), self.dropped.copy()

            def within(share: float, done: int = done) -> None:
                progress((done + share) / len(files))

            try:
                read(file, within)
            except ValueError as error:
                first = first or error
                self._unreadable.append(file)
                self._go_back(*before)
                self.dropped[UNREADABLE_FILE] += 1
            within(1.0)
        if first is not None and len(self._unreadable) == len(files):
            raise first

    def add(self, piece: Piece) -> int:
        """Adds the rows that have a time and a position, and returns their number. The others are counted as
        unreadable."""
        readable = (piece.ts_ms != np.iinfo(np.int64).min) & ~np.isnan(piece.lat) & ~np.isnan(piece.lon)
        rows = int(readable.sum())
        self.dropped["unreadable_row"] += len(readable) - rows
        if rows == 0:
            return 0
        self._lengths.append(rows)
        coded = {"entity": self._encode_entities(piece.entity), "mode": self._encode_modes(piece.mode)}
        for name, column in (piece._asdict() | coded).items():
            per_row = isinstance(column, np.ndarray)
            self._columns[name].append(column[readable] if per_row and rows < len(readable) else column)
        return rows

    def _go_back(self, pieces: int, names: int, modes: int, dropped: Counter[str]) -> None:
        for column in (*self._columns.values(), self._lengths):
            del column[pieces:]
        for codes, known in ((self._names, names), (self._modes, modes)):
            for name in list(codes)[known:]:
                del codes[name]
        self.dropped = dropped

    def table(self) -> Table:
        """Returns all rows, cleaned and in order."""
        rank, names = ranks(list(self._names))
        mode_rank, modes = ranks(list(self._modes))
        rows = sum(self._lengths)
        table = clean(
            SourceRows(
                entity=rank.astype(np.int32)[self._join("entity", np.int32)],
                names=names,
                trajectory=self._join("trajectory", np.int64),
                mode=mode_rank.astype(np.int16)[self._join("mode", np.int16)],
                modes=modes,
                ts_ms=self._join("ts_ms", np.int64),
                has_ts=np.broadcast_to(np.True_, (rows,)),
                lat=self._join("lat", np.float64),
                lon=self._join("lon", np.float64),
                speed_mps=self._join_if_any("speed_mps"),
                heading_deg=self._join_if_any("heading_deg"),
            ),
            {reason: rows for reason, rows in self.dropped.items() if rows},
        )
        return replace(table, unreadable=tuple(self._unreadable))

    def _join(self, name: str, dtype: Any) -> NDArray[Any]:
        """Returns one column of all pieces, and removes it from them."""
        out, first = np.empty(sum(self._lengths), dtype), 0
        for column, rows in zip(self._columns.pop(name), self._lengths, strict=True):
            out[first : first + rows] = column
            first += rows
        return out

    def _join_if_any(self, name: str) -> NDArray[np.float32] | None:
        if all(column is None for column in self._columns[name]):
            return None
        self._columns[name] = [ABSENT if column is None else column for column in self._columns[name]]
        return self._join(name, np.float32)

    def _encode_entities(self, entity: Any) -> int | Codes:
        if isinstance(entity, str):
            return self._encode_name(self._names, entity)
        encoded = entity.dictionary_encode()
        own = np.array(
            [*(self._encode_name(self._names, name) for name in encoded.dictionary.to_pylist()), -1], np.int32
        )
        return own[np.asarray(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)]

    def _encode_modes(self, mode: tuple[Codes, Sequence[str]] | None) -> int | Codes:
        if mode is None:
            return -1
        own = np.array([*(self._encode_name(self._modes, name) for name in mode[1]), -1], np.int16)
        return own[mode[0]]

    @staticmethod
    def _encode_name(codes: dict[str, int], name: str | None) -> int:
        return codes.setdefault(name, len(codes)) if name else -1
