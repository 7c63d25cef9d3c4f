"""`pathcast dev topics`: shows our topics on the broker, and creates those that are absent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from stream.config.options import COMMON, Common, Json, quiet, with_common
from stream.config.times import seconds

if TYPE_CHECKING:
    from stream.kafka.admin import TopicInfo  # kafka-python takes half a second to import, too long for --help


@with_common
def topics(
    create: Annotated[bool, typer.Option("--create", help="create the topics that do not exist")] = False,
    partitions: Annotated[
        int | None, typer.Option(min=1, max=10000, help="of each new topic; default: the broker's")
    ] = None,
    replication: Annotated[
        int | None, typer.Option(min=1, max=100, help="copies of each new topic; default: the broker's")
    ] = None,
    retention: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="how long each new topic keeps records, but for compacted ones; default: the broker's"
        ),
    ] = None,
    common: Common = COMMON,
    json: Json = False,
) -> None:
    """Show the topics and their partitions; with --create, make those that are absent.

    Those of versions and destinations have one partition, whatever --partitions says; those of newest forecasts and of
    arrivals as many as the forecasts have.

    [bold]Examples[/]

      pathcast dev topics
      pathcast dev topics --create --partitions 32 --replication 3 --retention 7d
    """
    retention_ms = None if retention is None else 1000 * seconds(retention, "--retention")
    from stream.kafka import admin

    names = common.topics
    with quiet(), admin.connected(common.bootstrap, common.security) as client:
        created: list[TopicInfo] = []
        if create:
            created = admin.create_all(
                client, names, partitions=partitions, replication=replication, retention_ms=retention_ms
            )
        infos = admin.describe(client, [*names, *names.of_services])
    made = [info.name for info in created]
    if json:
        rows = [{**info._asdict(), "created": info.name in made} for info in infos]
        typer.echo(msgspec.json.encode(rows))
    else:
        _show(infos, made)


def _show(infos: list[TopicInfo], created: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("topic", "partitions", "copies", "", box=None, pad_edge=False)
    for info in infos:
        if info.partitions is None:
            table.add_row(info.name, "-", "-", "absent: pathcast dev topics --create, or start what writes it")
        else:
            note = "created" if info.name in created else ""
            table.add_row(info.name, str(info.partitions), str(info.replication), note)
    Console().print(table)
