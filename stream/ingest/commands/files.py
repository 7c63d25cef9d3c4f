"""`pathcast ingest files`: recorded files, and files that grow."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stream.adapters.options import Columns, MapOfLines, Timezone, recording_of
from stream.config.options import COMMON, Common, Metrics, with_common
from stream.ingest.running import IngestOptions, run

SOURCE = "files"


@with_common
def files(
    paths: Annotated[
        list[str], typer.Argument(metavar="FILE|FORMAT:PATH|-...", help="what to send, as for pathcast feed")
    ],
    columns: Columns = None,
    timezone: Timezone = None,
    map_: MapOfLines = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="then wait for lines that are appended (NDJSON, CSV), until Ctrl-C")
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", dir_okay=False, help="with --follow: keep here how far each file is taken"),
    ] = None,
    common: Common = COMMON,
    metrics: Metrics = "",
) -> None:
    """Send recorded files as fast as Kafka takes them, or follow files that grow.

    It reads what pathcast feed reads, which keeps the pace of the recording instead. A row that is no ping becomes a
    dead letter at once. While Kafka is away nothing is read: it goes on where it was. A file that is followed may be
    moved away and begun anew. With --resume a new process goes on, too, where the last one stopped.

    [bold]Examples[/]

      pathcast ingest files history/2026-11-*.parquet
      pathcast ingest files fleet.csv --columns t:s=timestamp,lat=y,lon=x,entity_id=vehicle
      pathcast ingest files /var/log/gps.ndjson --follow --resume /var/lib/pathcast/gps.places
    """
    if resume is not None and not follow:
        raise typer.BadParameter("it is for --follow", param_hint="--resume")
    options = IngestOptions(common, metrics)
    if follow:
        _follow(options, [_growing(given) for given in paths], columns, timezone, map_, resume)
        return
    recordings = [(given, recording_of(given, columns, map_, timezone)) for given in paths]
    from stream.ingest.feeds.files import send_all

    run(SOURCE, options, partial(send_all, recordings))


def _growing(given: str) -> Path:
    from stream.adapters.files import has_lines

    path = Path(given)
    if not has_lines(path) and path.suffix.lower() != ".csv":
        raise typer.BadParameter(f"{given}: only .ndjson, .jsonl and .csv files can be followed")
    if not path.exists():
        raise typer.BadParameter(f"{given}: no such file")
    return path


def _follow(
    options: IngestOptions,
    paths: list[Path],
    columns: str | None,
    timezone: str | None,
    map_: str | None,
    resume: Path | None,
) -> None:
    from stream.adapters.column_names import map_of
    from stream.adapters.live import presets
    from stream.ingest.feeds.files import follow
    from stream.ingest.feeds.following import FilePositions

    try:
        names = map_of(columns, timezone)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--columns") from None
    try:
        reader = None if map_ is None else presets.find_preset(map_).read
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--map") from None
    if resume is not None and not resume.absolute().parent.is_dir():
        raise typer.BadParameter(f"{resume.absolute().parent}: no such directory", param_hint="--resume")
    run(SOURCE, options, partial(follow, paths, names, reader, FilePositions(resume)))
