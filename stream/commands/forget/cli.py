"""`pathcast forget`: the command, and its table."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from stream.config import failpoints
from stream.config.options import SERVERS, Json, Servers, option, quiet, with_common
from stream.wire import MAX_ENTITY_ID_CHARS

if TYPE_CHECKING:
    from stream.commands.forget.findings import Finding


@with_common
def forget(
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="its id")],
    servers: Servers = SERVERS,
    archive: Annotated[str | None, option("--archive", "ARCHIVE", "of pings; default: none", metavar="DIR|URL")] = None,
    archive_only: Annotated[bool, typer.Option("--archive-only", help="only there: no server is asked")] = False,
    latest_group: Annotated[
        str | None, typer.Option("--latest-group", help="the consumer group of `beside latest`; default: PREFIX-latest")
    ] = None,
    wait_s: Annotated[
        float, typer.Option("--wait-s", min=0, max=86400, help="for the workers, and then for `latest`, to come to it")
    ] = 60.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only look")] = False,
    json: Json = False,
) -> None:
    """Forget an entity: its states, its newest forecast, and its pings in the archive.

    Workers that run hear of it by a record in the pings topic, and remove what they have in memory and in Redis; this
    command waits for them, and for `beside latest`, which might write it again. If the entity still sends, it is a new
    one from then on. What Kafka holds stays until its retention deletes it, and what was counted or learnt of all
    stays: the table says what, and for how long. Give the command again if a place was not reached, or waits: it exits
    with 1 then.

    [bold]Examples[/]

      pathcast forget bus-7 --dry-run
      pathcast forget bus-7 --archive /srv/pings --archive-only
      pathcast forget bus-7 --archive /srv/pings --bootstrap kafka:9092 --redis redis://redis:6379/0
    """
    from stream.commands.forget import run

    if not entity or len(entity) > MAX_ENTITY_ID_CHARS:
        raise typer.BadParameter(f"an id has 1 to {MAX_ENTITY_ID_CHARS} characters", param_hint="ENTITY")
    if archive_only and archive is None:
        raise typer.BadParameter("it needs --archive", param_hint="--archive-only")
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    with quiet():
        request = run.Request(entity, servers.settings(), archive, latest_group, wait_s, dry_run, archive_only)
        rows = asyncio.run(run.forget(request))
    if json:
        typer.echo(msgspec.json.encode({"entity_id": entity, "dry_run": dry_run, "places": rows}))
    else:
        _show(rows)
    if not all(one.is_good for one in rows):
        raise typer.Exit(1)


def _show(rows: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("place", "", "what", "", box=None, pad_edge=False)
    for one in rows:
        table.add_row(one.place, one.outcome.value, one.found, one.note)
    Console(soft_wrap=False, markup=False).print(table)
