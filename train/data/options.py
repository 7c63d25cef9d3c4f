"""Declares the options that say which tracks a command of `train` reads, and shows the progress of reading.

The formats themselves are in `stream.adapters.sources`. Heavy imports wait for the call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from stream.adapters.live.option import MapOption
from stream.adapters.options import Columns, Timezone, guess_line
from stream.config.options import option
from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.config.settings import Settings

if TYPE_CHECKING:
    from stream.adapters.sources import Source

LOG_EVERY_S = 10.0  # between two lines where there is no terminal; shorter readings print nothing

_DATA = typer.Option(
    "--data",
    metavar="[FORMAT:]PATH",
    help="tracks: Parquet or CSV, or geolife:, tdrive:, porto:, ais:, gpx:, gtfs:PATH, archive:DIR_OR_URL",
)
Files = Annotated[list[str] | None, _DATA]
MoreFiles = Annotated[
    list[str] | None, typer.Argument(metavar="[[FORMAT:]PATH]...", help="more of them after --data", show_default=False)
]
CacheOption = Annotated[
    Path | None, typer.Option("--cache", file_okay=False, help="where columns are kept; default: the user's cache")
]


@dataclass(frozen=True)
class TrackOptions:
    """Holds which tracks a command reads: files, and the pings of a topic, as workers read them."""

    data: Files = None
    more: MoreFiles = None
    columns: Columns = None
    timezone: Timezone = None
    from_topic: Annotated[
        str | None,
        typer.Option("--from-topic", metavar="TOPIC", help="a Kafka topic of pings, up to where it ends now"),
    ] = None
    map_: MapOption = None
    bootstrap: Annotated[str, option("--bootstrap", "BOOTSTRAP", "Kafka of --from-topic, host:port")] = (
        Settings.bootstrap
    )
    security: KafkaSecurity = PLAIN_KAFKA

    def table_options(self) -> list[str]:
        """Returns the options about columns as words of a command line."""
        columns = [] if self.columns is None else ["--columns", self.columns]
        return [*columns, *([] if self.timezone is None else ["--timezone", self.timezone])]

    def sources(self) -> list[Source]:
        """Returns the named files; none are needed if a topic is given. An error in the names is a usage error."""
        return self.sources_and_others(None)[0]

    def sources_and_others(self, others: Sequence[str] | None) -> tuple[list[Source], list[Source]]:
        """Returns the same, and other files for another use, with the same columns."""
        return sources_and_others(self.data, self.more, others, self.columns, self.from_topic, self.timezone)

    def topic_snapshot(self, cache: Path | None, reading: Callable[[str, float], None]) -> list[Source]:
        """Writes the topic's pings to a Parquet file beside the corpora and prints its path on stderr. Returns nothing
        without a topic.
        """
        if (topic := self.from_topic) is None:
            return []
        from stream.adapters.sources import parse
        from train.data.corpus import default_cache
        from train.data.topic import snapshot

        directory = default_cache() if cache is None else cache
        path = snapshot(topic, self.bootstrap, directory, lambda share: reading(topic, share), self.security, self.map_)
        typer.echo(f"topic {topic}: now in {path}", err=True)
        return [parse(path)]


NO_TRACKS: Final = TrackOptions()


def sources_of(data: Sequence[str] | None, more: Sequence[str] | None, columns: str | None) -> list[Source]:
    """Returns the named files. An error in the names is a usage error."""
    return sources_and_others(data, more, None, columns)[0]


def sources_and_others(
    data: Sequence[str] | None,
    more: Sequence[str] | None,
    others: Sequence[str] | None,
    columns: str | None,
    from_topic: str | None = None,
    zone: str | None = None,
) -> tuple[list[Source], list[Source]]:
    """Returns the same, and other files for another use, with the same columns; a file may be in both lists."""
    from stream.adapters.column_names import map_of
    from stream.adapters.sources import TABLE, parse

    given = [*(data or []), *(more or [])]
    if not given and from_topic is None:
        raise typer.BadParameter("give --data, --from-topic or both")
    try:
        column_map = map_of(columns, zone, besides=())
        found, besides = ([parse(name, column_map) for name in names] for names in (given, others or []))
    except (ValueError, FileNotFoundError) as error:
        raise typer.BadParameter(str(error)) from error
    for source in (*found, *besides):
        if source.guessed:
            typer.echo(guess_line(source.path, source.columns), err=True)
    if column_map is not None and all(source.format != TABLE for source in (*found, *besides)):
        raise typer.BadParameter("--columns is for Parquet and CSV, and no file is either")
    for sources in (found, besides):
        named: dict[Path, Source] = {}
        for source in sources:
            if (first := named.setdefault(source.path.resolve(), source)) is not source:
                raise typer.BadParameter(f"{source} is {first} once more, and every track would count twice")
    return found, besides


@contextmanager
def progress_bar(what: str, *, hidden: bool = False) -> Iterator[Callable[[float], None]]:
    """Yields a function that takes the share that is done. It shows a bar on stderr, if that is a terminal, from the
    first share on.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=hidden or not console.is_terminal) as bar:
        task = bar.add_task(what, total=1.0, visible=False)
        yield lambda share: bar.update(task, completed=share, visible=True)


@contextmanager
def read_watch() -> Iterator[Callable[[str, float], None]]:
    """Shows a progress bar on a terminal, elsewhere a line now and then, for a log. Both are on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("reading {task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, object] = {}
        said_at = time.monotonic()

        def reading(source: str, share: float) -> None:
            nonlocal said_at
            if source not in tasks:
                tasks[source] = bar.add_task(source, total=1.0)
            bar.update(tasks[source], completed=share)  # type: ignore[arg-type]
            if not console.is_terminal and time.monotonic() - said_at >= LOG_EVERY_S:
                said_at = time.monotonic()
                typer.echo(f"reading {source}: {share:.0%}", err=True)

        yield reading
