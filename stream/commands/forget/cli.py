"""`pathcast forget`: the command, and its table."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from stream.config.options import DEFAULT_BOOTSTRAP, DEFAULT_PREFIX, Bootstrap, Json, Prefix, quiet, secured
from stream.config.security import PLAIN_KAFKA, PLAIN_REDIS, KafkaSecurity, RedisSecurity
from stream.config.settings import Settings
from stream.wire import MAX_ENTITY_ID_CHARS

if TYPE_CHECKING:
    from stream.commands.forget.findings import Finding

HELP = """Forget an entity: its states, its newest forecast, and its pings in the archive.

Workers that run hear of it by a record in the pings topic, and remove what they have in memory and in Redis; this
command waits for them, and for `latest run`, which might write it again. If the entity still sends, it is a new one
from then on. What Kafka holds stays until its retention deletes it, and what was counted or learnt of all stays: the
table says what, and for how long. Give the command again if a place was not reached, or waits: it exits with 1 then.

[bold]Examples[/]

  pathcast forget bus-7 --dry-run
  pathcast forget bus-7 --archive /srv/pings --bootstrap kafka:9092 --redis redis://redis:6379/0
"""


@secured
def forget(
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="its id")],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    redis: Annotated[
        str, typer.Option("--redis", envvar="PATHCAST_REDIS", help="where the workers' states are")
    ] = Settings.redis_url,
    group: Annotated[
        str, typer.Option("--group", envvar="PATHCAST_GROUP", help="the workers' consumer group")
    ] = Settings.group,
    prefix: Prefix = DEFAULT_PREFIX,
    archive: Annotated[
        str | None,
        typer.Option("--archive", envvar="PATHCAST_ARCHIVE", metavar="DIR|URL", help="of pings; default: none"),
    ] = None,
    latest_group: Annotated[
        str | None,
        typer.Option("--latest-group", help="the consumer group of latest run; default: the prefix and -latest"),
    ] = None,
    wait_s: Annotated[
        float,
        typer.Option("--wait-s", min=0, max=86_400, help="for the workers, and then for latest run, to come to it"),
    ] = 60.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only look")] = False,
    security: KafkaSecurity = PLAIN_KAFKA,
    redis_security: RedisSecurity = PLAIN_REDIS,
    json: Json = False,
) -> None:
    from stream.commands.forget import run

    if not entity or len(entity) > MAX_ENTITY_ID_CHARS:
        raise typer.BadParameter(f"an id has 1 to {MAX_ENTITY_ID_CHARS} characters", param_hint="ENTITY")
    settings = Settings(
        bootstrap=bootstrap, redis_url=redis, group=group, prefix=prefix, kafka=security, redis=redis_security
    )
    with quiet():
        rows = asyncio.run(run.forget(run.Request(entity, settings, archive, latest_group, wait_s, dry_run)))
    if json:
        typer.echo(msgspec.json.encode({"entity_id": entity, "dry_run": dry_run, "places": rows}))
    else:
        _show(rows)
    if not all(one.is_good for one in rows):
        raise typer.Exit(1)


forget.__doc__ = HELP


def _show(rows: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("place", "", "what", "", box=None, pad_edge=False)
    for one in rows:
        table.add_row(one.place, one.outcome.value, one.found, one.note)
    Console(soft_wrap=False, markup=False).print(table)
