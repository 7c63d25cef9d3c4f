"""`pathcast archive`: shows what has landed, and forgets an entity; and what lands pings as Parquet by day."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from stream.adapters.live.option import MapOption
from stream.config import failpoints
from stream.config.options import Json
from stream.config.times import DAY_S, seconds
from stream.config.wording import counted
from stream.members.command import Common, old_name
from stream.members.running import Service
from stream.services.archive.showing import ArchiveUrl, list_days, opened, show

FOREVER = "forever"
app = typer.Typer(
    help="Pings as Parquet files by day, each exactly once, for as long as you want to keep them.\n\n"
    "[bold]--data archive:DIR[/] reads them, in [bold]train[/], [bold]evaluate[/], [bold]atlas build[/], "
    "[bold]replay[/] and [bold]feed[/].",
    no_args_is_help=True,
)


def offer(
    common: Common,
    archive: ArchiveUrl,
    archive_group: Annotated[
        str | None,
        typer.Option(
            "--archive-group", envvar="PATHCAST_ARCHIVE_GROUP", help="Kafka consumer group; default: PREFIX-archive"
        ),
    ] = None,
    archive_every: Annotated[str, typer.Option("--archive-every", metavar="TIME", help="between two landings")] = "10m",
    rows: Annotated[
        int,
        typer.Option("--rows", min=1_000, max=2_000_000, help="pings in memory, of 200 bytes; with more, they land"),
    ] = 500_000,
    archive_retention: Annotated[
        str, typer.Option("--archive-retention", metavar="TIME|forever", help="days that are older are deleted")
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
) -> Service:
    """Lands a topic's pings as Parquet files by day."""
    from stream.services.archive.member import service
    from stream.services.archive.settings import ArchiveSettings, Rules

    retention_s, late_s = _span(archive_retention, "--archive-retention"), _span(late, "--late")
    if retention_s is not None and retention_s < DAY_S:
        raise typer.BadParameter(f"{archive_retention!r} is less than a day", param_hint="--archive-retention")
    settings = ArchiveSettings(
        archive,
        **common._asdict(),
        group=archive_group or f"{common.prefix}-archive",
        every_s=seconds(archive_every, "--archive-every"),
        rows=rows,
        rules=Rules(
            late_ms=None if late_s is None else late_s * 1000,
            retention_days=None if retention_s is None else retention_s // DAY_S,
            map=map_,
        ),
    )
    return service(settings)


app.command("run", hidden=True)(old_name("archive", offer))


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
    from stream.adapters.archived.catalog import to_change
    from stream.services.archive import forgetting

    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    catalog = to_change(opened(archive))
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
