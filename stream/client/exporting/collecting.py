"""Reads what is to be exported, from topics or from a file of JSON lines, into tracks, forecasts and gap fills.

They go into a temporary file as they come, so that memory does not grow with them. The file is SQLite's: it is deleted
when it is closed, also by a kill -9, and lies where SQLITE_TMPDIR, TMPDIR or the system says. In memory are CACHE_KIB
of it, and the track of one entity at a time.
"""

from __future__ import annotations

import gzip
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import IO, Any, Final, NamedTuple, Self, cast

import msgspec

from stream.client.connecting import TopicAddress
from stream.client.filter import FORECASTS, GAP_FILLS, Kind, RecordFilter, Since
from stream.client.reader import Reader
from stream.config.security import KafkaSecurity
from stream.wire import Forecast, GapFill, Topics, loads_forecast, loads_gapfill
from stream.wire.escape import shown
from stream.wire.messages import decode

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


class TrackFix(NamedTuple):
    """One position of a track."""

    ts: int  # ms UTC
    lat: float  # degrees
    lon: float


class ExportSpool:
    """Holds what is to be exported. A track is made of pings and of the anchors of forecasts. Close it."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("")
        self._file.executescript(TABLES.format(cache_kib=CACHE_KIB))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def take(self, record: Forecast | GapFill | TrackFix, entity: str) -> None:
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

    def in_order(self) -> Iterator[tuple[str, list[TrackFix]]]:
        """Yields each entity's track in the order of its times."""
        rows = self._file.execute("SELECT entity, ts, lat, lon FROM tracks ORDER BY entity, ts")
        for entity, fixes in groupby(rows, key=lambda row: row[0]):
            yield entity, [TrackFix(*fix) for _, *fix in fixes]

    @property
    def tracks(self) -> int:
        """Returns how many entities have a track."""
        return self._count("SELECT COUNT(DISTINCT entity) FROM tracks")

    def forecasts(self) -> SpooledForecasts:
        """Returns all forecasts, in the order in which they came first."""
        return SpooledForecasts(self, "SELECT raw FROM forecasts ORDER BY place", "SELECT COUNT(*) FROM forecasts")

    def newest(self) -> SpooledForecasts:
        """Returns the newest forecast of each entity, in the order of the entities."""
        rows = f"SELECT raw FROM forecasts WHERE place IN ({NEWEST}) ORDER BY entity"
        return SpooledForecasts(self, rows, "SELECT COUNT(DISTINCT entity) FROM forecasts")

    def read_fills(self) -> Iterator[GapFill]:
        """Yields the fills that were not retracted."""
        for (raw,) in self._file.execute("SELECT raw FROM fills WHERE kept ORDER BY place"):
            yield _FILL.decode(raw)

    @property
    def fills(self) -> int:
        """Returns how many fills were not retracted."""
        return self._count("SELECT COUNT(*) FROM fills WHERE kept")

    def forget_fills(self) -> None:
        self._file.execute("DELETE FROM fills")

    def rows(self, sql: str) -> Iterator[Any]:
        return self._file.execute(sql)

    def _count(self, sql: str) -> int:
        (found,) = self._file.execute(sql).fetchone()
        return int(found)


@dataclass(frozen=True)
class SpooledForecasts:
    """Forecasts that are read from the file whenever they are iterated over."""

    collected: ExportSpool
    select: str
    count: str

    def __iter__(self) -> Iterator[Forecast]:
        for (raw,) in self.collected.rows(self.select):
            yield _FORECAST.decode(raw)

    def __len__(self) -> int:
        (found,) = next(iter(self.collected.rows(self.count)))
        return int(found)


STDIN: Final = "-"
POLL_S: Final = 1.0
CONNECT_S: Final = 10.0


class Span(NamedTuple):
    """From when to when, in milliseconds UTC, both included: by the records' publication in a topic, and by their own
    times in a file."""

    since: Since
    until_ms: int | None = None

    def holds(self, ts_ms: int) -> bool:
        early = self.since.time_ms is not None and ts_ms < self.since.time_ms
        return not early and (self.until_ms is None or ts_ms <= self.until_ms)


class _Ping(msgspec.Struct):
    entity_id: str | int
    ts: int
    lat: float
    lon: float


_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PING: Final = msgspec.json.Decoder(_Ping)


def from_lines(found: ExportSpool, lines: Iterable[bytes], name: str, wanted: RecordFilter, span: Span) -> None:
    """Takes forecasts, gap fills and pings (with `ts` in milliseconds UTC), a JSON object in each line.

    Raises ValueError, which names the line, for anything else.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record, entity, ts = _parse_line(line)
        except msgspec.DecodeError as error:
            raise ValueError(
                f"line {number} of {name} is no forecast, gap fill or ping ({error}): "
                f"{shown(line[:60].decode(errors='replace'))}"
            ) from error
        if span.holds(ts) and wanted.takes_key(entity.encode()):
            found.take(record, entity)


def _parse_line(line: bytes) -> tuple[Forecast | GapFill | TrackFix, str, int]:
    """Returns a record, whose it is, and its time (ms UTC)."""
    fields = decode(_FIELDS, line)
    if "forecast_id" in fields:
        forecast = loads_forecast(line)
        return forecast, forecast.entity_id, forecast.anchor.ts
    if "gap_id" in fields:
        fill = loads_gapfill(line)
        return fill, fill.entity_id, fill.end.ts
    ping = decode(_PING, line)
    return TrackFix(ping.ts, ping.lat, ping.lon), str(ping.entity_id), ping.ts


def open_lines(file: str) -> AbstractContextManager[IO[bytes]]:
    """Opens a file of lines, which is unpacked if its name ends in .gz; `-` is standard input. Raises OSError."""
    if file == STDIN:
        return nullcontext(sys.stdin.buffer)
    return cast(IO[bytes], (gzip.open if file.endswith(".gz") else open)(file, "rb"))


async def from_topics(
    found: ExportSpool,
    bootstrap: str,
    topics: Topics,
    security: KafkaSecurity,
    wanted: RecordFilter,
    span: Span,
    *,
    fills: bool,
) -> None:
    """Reads forecasts, and with `fills` gap fills, up to the end that the topics have now. Raises as `Reader.poll`."""
    wanting: list[tuple[str, Kind[Any]]] = [(topics.forecasts, FORECASTS)]
    if fills:
        wanting.append((topics.gapfills, GAP_FILLS))
    for topic, kind in wanting:
        await _read(TopicAddress(bootstrap, topic, security=security), kind, wanted, span, found.take)


async def _read(
    where: TopicAddress, kind: Kind[Any], wanted: RecordFilter, span: Span, take: Callable[[Any, str], None]
) -> None:
    reader = Reader(where, kind, wanted=wanted, since=span.since, follow=False, connect_s=CONNECT_S)
    try:
        while not reader.at_end:
            for one in (await reader.poll(POLL_S)).records:
                if span.until_ms is None or one.timestamp_ms <= span.until_ms:
                    take(one.record, one.record.entity_id)
    finally:
        await reader.close()


def span_of(since: str, until: str | None) -> Span:
    """Returns what the options mean. Raises ValueError."""
    now_ms = time.time_ns() // 1_000_000
    end = None if until is None else Since.of(until, now_ms)
    if end is not None and end.time_ms is None:
        raise ValueError(f"--until {until!r} is no time: give a span such as 10m, or an RFC 3339 time with its zone")
    return Span(Since.of(since, now_ms), None if end is None else end.time_ms)
