"""Keeps what is to be exported in a temporary file, so that memory does not grow with it.

The file is SQLite's: it is deleted when it is closed, also by a kill -9, and lies where SQLITE_TMPDIR, TMPDIR or the
system says. In memory are CACHE_KIB of it, and the track of one entity at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, NamedTuple, Self

import msgspec

from stream.wire import Forecast, GapFill

CACHE_KIB: Final = 16_384
TABLES: Final = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -{cache_kib};
CREATE TABLE tracks (entity TEXT, ts INTEGER, lat REAL, lon REAL, PRIMARY KEY (entity, ts)) WITHOUT ROWID;
CREATE TABLE forecasts (place INTEGER PRIMARY KEY, id TEXT UNIQUE, entity TEXT, ts INTEGER, raw BLOB);
CREATE TABLE fills (place INTEGER PRIMARY KEY, id TEXT UNIQUE, revision INTEGER, kept INTEGER, raw BLOB);
"""
FORECAST: Final = """
INSERT INTO forecasts (id, entity, ts, raw) VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET entity = excluded.entity, ts = excluded.ts, raw = excluded.raw
"""
# The latest revision counts, and of the same one the last that came.
FILL: Final = """
INSERT INTO fills (id, revision, kept, raw) VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, kept = excluded.kept, raw = excluded.raw
WHERE excluded.revision >= revision
"""
NEWEST: Final = """
SELECT place FROM
(SELECT place, ROW_NUMBER() OVER (PARTITION BY entity ORDER BY ts DESC, place DESC) AS number FROM forecasts)
WHERE number = 1
"""
_ENCODE: Final = msgspec.msgpack.Encoder()
_FORECAST: Final = msgspec.msgpack.Decoder(Forecast)
_FILL: Final = msgspec.msgpack.Decoder(GapFill)


class Fix(NamedTuple):
    """One position of a track."""

    ts: int  # ms UTC
    lat: float  # degrees
    lon: float


class Collected:
    """What is to be exported. A track is made of pings and of the anchors of forecasts. Close it."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("")
        self._file.executescript(TABLES.format(cache_kib=CACHE_KIB))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def take(self, record: Forecast | GapFill | Fix, entity: str) -> None:
        run = self._file.execute
        if isinstance(record, Forecast):
            anchor = record.anchor
            run(FORECAST, (record.forecast_id, record.entity_id, anchor.ts, _ENCODE.encode(record)))
            place = (entity, anchor.ts, anchor.lat, anchor.lon)
            run("INSERT OR IGNORE INTO tracks (entity, ts, lat, lon) VALUES (?, ?, ?, ?)", place)
        elif isinstance(record, GapFill):
            run(FILL, (record.gap_id, record.revision, bool(record.points), _ENCODE.encode(record)))
        else:
            run("INSERT OR REPLACE INTO tracks (entity, ts, lat, lon) VALUES (?, ?, ?, ?)", (entity, *record))

    def in_order(self) -> Iterator[tuple[str, list[Fix]]]:
        """Yields each entity's track in the order of its times."""
        rows = self._file.execute("SELECT entity, ts, lat, lon FROM tracks ORDER BY entity, ts")
        for entity, fixes in groupby(rows, key=lambda row: row[0]):
            yield entity, [Fix(*fix) for _, *fix in fixes]

    @property
    def tracks(self) -> int:
        """How many entities have a track."""
        return self._number("SELECT COUNT(DISTINCT entity) FROM tracks")

    def forecasts(self) -> Forecasts:
        """Returns all forecasts, in the order in which they came first."""
        return Forecasts(self, "SELECT raw FROM forecasts ORDER BY place", "SELECT COUNT(*) FROM forecasts")

    def newest(self) -> Forecasts:
        """Returns the newest forecast of each entity, in the order of the entities."""
        rows = f"SELECT raw FROM forecasts WHERE place IN ({NEWEST}) ORDER BY entity"
        return Forecasts(self, rows, "SELECT COUNT(DISTINCT entity) FROM forecasts")

    def kept_fills(self) -> Iterator[GapFill]:
        """Yields the fills that were not retracted."""
        for (raw,) in self._file.execute("SELECT raw FROM fills WHERE kept ORDER BY place"):
            yield _FILL.decode(raw)

    @property
    def fills(self) -> int:
        """How many these are."""
        return self._number("SELECT COUNT(*) FROM fills WHERE kept")

    def forget_fills(self) -> None:
        self._file.execute("DELETE FROM fills")

    def rows(self, sql: str) -> Iterator[Any]:
        return self._file.execute(sql)

    def _number(self, sql: str) -> int:
        (found,) = self._file.execute(sql).fetchone()
        return int(found)


@dataclass(frozen=True)
class Forecasts:
    """Forecasts that are read from the file whenever they are iterated over."""

    collected: Collected
    select: str
    count: str

    def __iter__(self) -> Iterator[Forecast]:
        for (raw,) in self.collected.rows(self.select):
            yield _FORECAST.decode(raw)

    def __len__(self) -> int:
        (found,) = next(iter(self.collected.rows(self.count)))
        return int(found)
