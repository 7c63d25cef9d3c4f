"""`pathcast feed`: publishes recorded tracks to the pings topic."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec
import typer

from stream.adapters.options import Columns, Timezone, recording_of
from stream.config.options import COMMON, Common, Json, quiet, utc, with_common
from stream.config.wording import counted

if TYPE_CHECKING:
    from stream.adapters.files import RecordedRow
    from stream.adapters.recorded import Recording
    from stream.commands.feeder import FeedCounts


@with_common
def feed(
    file: Annotated[str, typer.Argument(metavar="FILE|FORMAT:PATH|-", help="what to publish; - is standard input")],
    columns: Columns = None,
    timezone: Timezone = None,
    speedup: Annotated[
        float, typer.Option(min=0, help="1 is real time, 60 is a minute per second, 0 is as fast as it goes")
    ] = 1.0,
    limit: Annotated[int | None, typer.Option(min=1, help="stop after so many records")] = None,
    common: Common = COMMON,
    json: Json = False,
) -> None:
    """Publish recorded tracks as pings.

    FILE is Parquet, CSV (also .csv.gz), NDJSON (.ndjson, .jsonl) or GPX, - for NDJSON on standard input, or what
    pathcast train takes: a folder, or FORMAT:PATH with geolife, tdrive, porto, ais, gpx or gtfs.

    Tables need the columns entity_id, ts (or t), lat and lon, or --columns says what they are called. The entity is the
    Kafka key. A row of a table that is no valid ping is sent as it is; the worker puts it on the dead letter topic with
    the reason. Rows of archives in another format that are no valid pings are left out and counted. A file without any
    valid ping is an error, and nothing of it is sent; standard input is sent as it comes.

    [bold]Examples[/]

      pathcast feed buses.parquet
      pathcast feed buses.parquet --speedup 60
      pathcast feed history.csv --speedup 0 --limit 10000 --json
      pathcast feed fleet.csv --columns t:s=timestamp,lat=y,lon=x,entity_id=vehicle
      pathcast feed ais:AIS_2024_01_01.zip --speedup 60
      gpspipe | jq -c ... | pathcast feed -
    """
    recording = recording_of(file, columns, zone=timezone)
    from stream.commands.feeder import pace, publisher, replay
    from stream.tracks.clean import parse

    recording.has_pings(parse)  # else it raises; an empty file is no error
    topic = common.topics.pings
    began = time.monotonic()
    with quiet(), publisher(common.bootstrap, topic, common.security, linger_ms=5 if speedup else 50) as out:
        total, rows = _rows(recording, speedup)
        if limit is not None:
            total, rows = min(limit, total or limit), islice(rows, limit)
        with suppress(KeyboardInterrupt), Interrupt() as interrupt:  # the summary then shows how much was sent
            send = interrupt.after(out.send)
            replay(pace(_show_progress(rows, total, out.fed, silent=json), speedup), send, stop=lambda: False)
        out.flush()
        _summary(out.fed, topic, time.monotonic() - began, json=json)


class Interrupt:
    """Handles Ctrl-C. It stops at once, unless a record is just being sent: then it waits until the record is counted,
    as it would be missing in the summary. A second Ctrl-C stops at once in any case."""

    def __init__(self) -> None:
        self._sending = self._waits = False

    def __enter__(self) -> Self:
        self._before = signal.getsignal(signal.SIGINT)
        if self._before != signal.SIG_IGN:  # a shell ignores it for processes in the background
            signal.signal(signal.SIGINT, self._handle_signal)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _handle_signal(self, *_: object) -> None:
        if not self._sending or self._waits:
            raise KeyboardInterrupt
        self._waits = True

    def after(self, send: Callable[[RecordedRow], None]) -> Callable[[RecordedRow], None]:
        def send_guarded(row: RecordedRow) -> None:
            self._sending = True
            try:
                send(row)
            finally:
                self._sending = False
            if self._waits:
                raise KeyboardInterrupt

        return send_guarded


def _rows(recording: Recording, speedup: float) -> tuple[int | None, Iterator[RecordedRow]]:
    """Returns the number of rows, if it is known, and the rows. With a pace, entities are merged by event time; at full
    speed the file's own order is enough, and is read lazily."""
    from stream.adapters.files import STDIN

    if recording.path == STDIN or (speedup == 0 and not recording.archive):
        return None, recording.rows()
    ordered = recording.pings_in_order()
    if ordered.left_out:
        typer.echo(f"left out: {ordered.left_out}", err=True)
    return len(ordered), iter(ordered)


def _show_progress(
    rows: Iterable[RecordedRow], total: int | None, fed: FeedCounts, *, silent: bool
) -> Iterator[RecordedRow]:
    """Yields the rows, and shows a progress line on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if silent or not console.is_terminal:
        yield from rows
        return
    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        for row in rows:
            if fed.sent % 100 == 0 or fed.sent < 100:
                description = f"{fed.sent:,} pings sent, {_time(fed.last_ts_ms)}"
                progress.update(task, completed=fed.sent, description=description)
            yield row


def _summary(fed: FeedCounts, topic: str, seconds: float, *, json: bool) -> None:
    if json:
        summary = {"topic": topic, "seconds": round(seconds, 3)}
        fields = {"sent": fed.sent, "odd": fed.odd, "oversized": fed.oversized, "last_ts": fed.last_ts_ms}
        typer.echo(msgspec.json.encode(summary | fields))
        return
    typer.echo(f"{counted(fed.sent, 'record')} to {topic} in {seconds:.1f} s ({fed.sent / max(seconds, 1e-9):,.0f}/s)")
    if fed.odd:
        has = "has" if fed.odd == 1 else "have"
        typer.echo(f"{fed.odd:,} of them {has} no entity id or no time: see pathcast tail dead-letters --from earliest")
    if fed.oversized:
        typer.echo(
            f"{fed.oversized:,} more {'was' if fed.oversized == 1 else 'were'} larger than Kafka takes, and not sent"
        )


def _time(ts_ms: int | None) -> str:
    return "no time yet" if ts_ms is None else utc(ts_ms)
