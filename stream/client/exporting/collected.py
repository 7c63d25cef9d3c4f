"""Reads what is to be exported, from topics or from a file of JSON lines, into tracks, forecasts and gap fills.

All of it is in memory at once: some 2 KB for each forecast.
"""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import msgspec

from stream.client.choosing import Since, Wanted
from stream.client.connecting import Where
from stream.client.kinds import FORECASTS, GAP_FILLS, Kind
from stream.client.reader import Reader
from stream.config.security import KafkaSecurity
from stream.wire import Forecast, GapFill, Topics, loads_forecast, loads_gapfill
from stream.wire.escape import shown

STDIN: Final = "-"
POLL_S: Final = 1.0
CONNECT_S: Final = 10.0


class Fix(NamedTuple):
    """One position of a track."""

    ts: int  # ms UTC
    lat: float  # degrees
    lon: float
    alt_m: float | None = None


class Span(NamedTuple):
    """From when to when, in milliseconds UTC, both included: by the records' publication in a topic, and by their own
    times in a file."""

    since: Since
    until_ms: int | None = None

    def holds(self, ts_ms: int) -> bool:
        early = self.since.time_ms is not None and ts_ms < self.since.time_ms
        return not early and (self.until_ms is None or ts_ms <= self.until_ms)


@dataclass
class Collected:
    """What is to be exported. A track is made of pings and of the anchors of forecasts."""

    tracks: dict[str, dict[int, Fix]] = field(default_factory=dict)  # by entity and time
    forecasts: dict[str, Forecast] = field(default_factory=dict)  # by id
    fills: dict[str, GapFill] = field(default_factory=dict)  # the latest revision by id

    def take(self, record: Forecast | GapFill | Fix, entity: str) -> None:
        if isinstance(record, Forecast):
            self.forecasts[record.forecast_id] = record
            anchor = record.anchor
            self.tracks.setdefault(entity, {}).setdefault(anchor.ts, Fix(anchor.ts, anchor.lat, anchor.lon))
        elif isinstance(record, GapFill):
            known = self.fills.get(record.gap_id)
            if known is None or known.revision <= record.revision:
                self.fills[record.gap_id] = record
        else:
            self.tracks.setdefault(entity, {})[record.ts] = record

    def in_order(self) -> Iterator[tuple[str, list[Fix]]]:
        """Yields each entity's track in the order of its times."""
        for entity in sorted(self.tracks):
            fixes = self.tracks[entity]
            yield entity, [fixes[ts] for ts in sorted(fixes)]

    def newest(self) -> list[Forecast]:
        """Returns the newest forecast of each entity."""
        found: dict[str, Forecast] = {}
        for one in self.forecasts.values():
            if one.entity_id not in found or found[one.entity_id].anchor.ts <= one.anchor.ts:
                found[one.entity_id] = one
        return [found[entity] for entity in sorted(found)]

    def kept_fills(self) -> list[GapFill]:
        """Returns the fills that were not retracted."""
        return [fill for fill in self.fills.values() if fill.points]


class _Ping(msgspec.Struct):
    entity_id: str | int
    ts: int
    lat: float
    lon: float
    alt_m: float | None = None


_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PING: Final = msgspec.json.Decoder(_Ping)


def from_lines(lines: Iterable[bytes], name: str, wanted: Wanted, span: Span) -> Collected:
    """Takes forecasts, gap fills and pings (with `ts` in milliseconds UTC), a JSON object in each line.

    Raises ValueError, which names the line, for anything else.
    """
    found = Collected()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record, entity = _parsed(line)
        except msgspec.DecodeError as error:
            raise ValueError(
                f"line {number} of {name} is no forecast, gap fill or ping ({error}): "
                f"{shown(line[:60].decode(errors='replace'))}"
            ) from error
        ts, places = _when_and_where(record)
        if span.holds(ts) and wanted.takes_key(entity.encode()) and wanted.takes_places(places):
            found.take(record, entity)
    return found


def _parsed(line: bytes) -> tuple[Forecast | GapFill | Fix, str]:
    fields = _FIELDS.decode(line)
    if "forecast_id" in fields:
        forecast = loads_forecast(line)
        return forecast, forecast.entity_id
    if "gap_id" in fields:
        fill = loads_gapfill(line)
        return fill, fill.entity_id
    ping = _PING.decode(line)
    return Fix(ping.ts, ping.lat, ping.lon, ping.alt_m), str(ping.entity_id)


def _when_and_where(record: Forecast | GapFill | Fix) -> tuple[int, Iterable[tuple[float, float]]]:
    if isinstance(record, Forecast):
        return record.anchor.ts, FORECASTS.places(record)
    if isinstance(record, GapFill):
        return record.end.ts, GAP_FILLS.places(record)
    return record.ts, ((record.lat, record.lon),)


@contextmanager
def opened(file: str) -> Iterator[IO[bytes]]:
    """Yields a file of lines, unpacked if its name ends in .gz; `-` is standard input. Raises OSError."""
    if file == STDIN:
        yield sys.stdin.buffer
    elif file.endswith(".gz"):
        with gzip.open(file, "rb") as packed:
            yield packed  # type: ignore[misc]  # it has what we use
    else:
        with Path(file).open("rb") as plain:
            yield plain


async def from_topics(
    bootstrap: str, topics: Topics, security: KafkaSecurity, wanted: Wanted, span: Span, *, fills: bool
) -> Collected:
    """Reads forecasts, and with `fills` gap fills, up to the end that the topics have now. Raises as `Reader.poll`."""
    found = Collected()
    wanting: list[tuple[str, Kind[Any]]] = [(topics.forecasts, FORECASTS)]
    if fills:
        wanting.append((topics.gapfills, GAP_FILLS))
    for topic, kind in wanting:
        await _read(Where(bootstrap, topic, security=security), kind, wanted, span, found.take)
    return found


async def _read(where: Where, kind: Kind[Any], wanted: Wanted, span: Span, take: Callable[[Any, str], None]) -> None:
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


def entities(names: Collection[str] | None) -> Wanted:
    return Wanted.of(names or None, None)
