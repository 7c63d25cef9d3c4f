"""Reads what is to be exported, from topics or from a file of JSON lines, into tracks, forecasts and gap fills.

They go into a temporary file as they come (`stream.client.exporting.spool`).
"""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import IO, Any, Final, NamedTuple, cast

import msgspec

from stream.client.choosing import Since, Wanted
from stream.client.connecting import Where
from stream.client.exporting.spool import Collected, Fix
from stream.client.kinds import FORECASTS, GAP_FILLS, Kind
from stream.client.reader import Reader
from stream.config.security import KafkaSecurity
from stream.wire import Forecast, GapFill, Topics, loads_forecast, loads_gapfill
from stream.wire.escape import shown
from stream.wire.messages import decode

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


def from_lines(found: Collected, lines: Iterable[bytes], name: str, wanted: Wanted, span: Span) -> None:
    """Takes forecasts, gap fills and pings (with `ts` in milliseconds UTC), a JSON object in each line.

    Raises ValueError, which names the line, for anything else.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record, entity, ts = _parsed(line)
        except msgspec.DecodeError as error:
            raise ValueError(
                f"line {number} of {name} is no forecast, gap fill or ping ({error}): "
                f"{shown(line[:60].decode(errors='replace'))}"
            ) from error
        if span.holds(ts) and wanted.takes_key(entity.encode()):
            found.take(record, entity)


def _parsed(line: bytes) -> tuple[Forecast | GapFill | Fix, str, int]:
    """Returns a record, whose it is, and its time (ms UTC)."""
    fields = decode(_FIELDS, line)
    if "forecast_id" in fields:
        forecast = loads_forecast(line)
        return forecast, forecast.entity_id, forecast.anchor.ts
    if "gap_id" in fields:
        fill = loads_gapfill(line)
        return fill, fill.entity_id, fill.end.ts
    ping = decode(_PING, line)
    return Fix(ping.ts, ping.lat, ping.lon), str(ping.entity_id), ping.ts


def opened(file: str) -> AbstractContextManager[IO[bytes]]:
    """Opens a file of lines, which is unpacked if its name ends in .gz; `-` is standard input. Raises OSError."""
    if file == STDIN:
        return nullcontext(sys.stdin.buffer)
    return cast(IO[bytes], (gzip.open if file.endswith(".gz") else open)(file, "rb"))


async def from_topics(
    found: Collected,
    bootstrap: str,
    topics: Topics,
    security: KafkaSecurity,
    wanted: Wanted,
    span: Span,
    *,
    fills: bool,
) -> None:
    """Reads forecasts, and with `fills` gap fills, up to the end that the topics have now. Raises as `Reader.poll`."""
    wanting: list[tuple[str, Kind[Any]]] = [(topics.forecasts, FORECASTS)]
    if fills:
        wanting.append((topics.gapfills, GAP_FILLS))
    for topic, kind in wanting:
        await _read(Where(bootstrap, topic, security=security), kind, wanted, span, found.take)


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
