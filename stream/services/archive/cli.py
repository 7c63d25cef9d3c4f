"""`pathcast archive`: lands pings as Parquet by day, shows what has landed, and forgets an entity."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Annotated

import typer

from stream.adapters.live.option import MapOption
from stream.config import failpoints
from stream.config.options import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_PREFIX,
    Bootstrap,
    Json,
    Prefix,
    log_to_stderr,
    secured,
)
from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.config.times import DAY_S, seconds
from stream.config.wording import counted
from stream.members.options import Metrics, Once
from stream.services.archive.showing import ArchiveUrl, list_days, open_or_refuse, show

FOREVER = "forever"
app = typer.Typer(
    help="Pings as Parquet files by day, each exactly once, for as long as you want to keep them.\n\n"
    "[bold]--data archive:DIR[/] reads them, in [bold]train[/], [bold]evaluate[/], [bold]atlas build[/], "
    "[bold]replay[/] and [bold]feed[/].",
    no_args_is_help=True,
)


@app.command()
@secured
def run(
    archive: ArchiveUrl,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    prefix: Prefix = DEFAULT_PREFIX,
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            envvar="PATHCAST_ARCHIVE_GROUP",
            help="Kafka consumer group of those that archive; default: PREFIX-archive",
        ),
    ] = None,
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="between two landings")] = "10m",
    rows: Annotated[
        int,
        typer.Option("--rows", min=1_000, max=2_000_000, help="pings in memory, of 200 bytes; with more, they land"),
    ] = 500_000,
    retention: Annotated[
        str, typer.Option("--retention", metavar="TIME|forever", help="days that are older are deleted")
    ] = "400d",
    late: Annotated[
        str,
        typer.Option(
            "--late",
            metavar="TIME|forever",
            help="how much older than its record a ping may be: more, where recorded pings are fed again",
        ),
    ] = "7d",
    map_: MapOption = None,
    once: Once = False,
    metrics: Metrics = "",
    security: KafkaSecurity = PLAIN_KAFKA,
) -> None:
    """Land a topic's pings as Parquet files by day, until it is stopped.

    Start one, or several that share the partitions. A kill -9 loses nothing and lands nothing twice: where to go on is
    written beside the files. Records that are no pings are counted, and those of the days before --retention, too.

    [bold]Examples[/]

      pathcast archive run --archive /srv/pings --bootstrap kafka:9092
      pathcast archive run --archive s3://bucket/pings --retention 90d
      pathcast train --data archive:/srv/pings/pathcast.pings.v1 --out runs/mine
    """
    from stream.members.running import SIGNALS, door_of
    from stream.services.archive.member import serve
    from stream.services.archive.settings import ArchiveSettings, Rules

    retention_s, late_s = _span(retention, "--retention"), _span(late, "--late")
    if retention_s is not None and retention_s < DAY_S:
        raise typer.BadParameter(f"{retention!r} is less than a day", param_hint="--retention")
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    log_to_stderr()
    settings = ArchiveSettings(
        archive=archive,
        bootstrap=bootstrap,
        prefix=prefix,
        group=group or f"{prefix}-archive",
        every_s=seconds(every, "--every"),
        rows=rows,
        rules=Rules(
            late_ms=None if late_s is None else late_s * 1000,
            retention_days=None if retention_s is None else retention_s // DAY_S,
            map=map_,
        ),
        once=once,
        kafka=security,
    )
    asyncio.run(serve(settings, SIGNALS, door_of(metrics)))


@app.command()
def forget(
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="its id")],
    archive: ArchiveUrl,
    as_json: Json = False,
) -> None:
    """Remove every ping of an entity, and store none of it again.

    Files that have it are written again without it, also while members run. Kafka's log, Redis, atlases and weights are
    not touched: deploy/PRIVACY.md says what they keep. If it is interrupted, give the command again.

    [bold]Example[/]

      pathcast archive forget bus-7 --archive /srv/pings
    """
    from stream.services.archive import forgetting

    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    catalog = open_or_refuse(archive, to_change=True)
    rows = forgetting.forget(catalog, entity)
    if as_json:
        typer.echo(json.dumps({"entity_id": entity, "pings": rows}))
        return
    typer.echo(f"removed {counted(rows, 'ping')} of {entity} from {catalog.storage.url}; it is not stored again")
    typer.echo(f"topic {catalog.head.topic} has those that its retention has not deleted yet", err=True)


app.command("list")(list_days)
app.command()(show)


def _span(text: str, option: str) -> int | None:
    return None if text.strip() == FOREVER else seconds(text, option)
