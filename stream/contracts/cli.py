"""Shows the schemas of the public records, writes them, and compares them with the released ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from stream.config.options import Json

app = typer.Typer(help="The schemas of the public records.", no_args_is_help=True)

Dir = Annotated[
    Path | None,
    typer.Option("--dir", file_okay=False, help="where the released schemas lie; default: deploy, in a clone"),
]


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(help="a record; default: a table of all")] = None,
    avro: Annotated[bool, typer.Option("--avro", help="its Avro schema and not its JSON Schema")] = False,
    json: Json = False,
) -> None:
    """Show which records there are, or the schema of one, as the code makes it.

    [bold]Examples[/]

      pathcast dev contracts show
      pathcast dev contracts show forecast
      pathcast dev contracts show forecast --avro
    """
    from stream.contracts.avro_schema import avro_schema
    from stream.contracts.catalog import contract
    from stream.contracts.json_schema import dump_schema, json_schema

    if name is not None:
        one = contract(name)
        typer.echo(dump_schema(avro_schema(one) if avro else json_schema(one)), nl=False)
    else:
        _table(as_json=json)


def _table(*, as_json: bool) -> None:
    from stream.contracts.catalog import RECORDS

    if as_json:
        rows = [
            {"name": one.name, "topic": one.topic, "key": one.key, "written_by": one.written_by, "way": one.way.value}
            for one in RECORDS
        ]
        typer.echo(msgspec.json.encode(rows))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("record", "topic", "key", "written by", box=None, pad_edge=False)
    for one in RECORDS:
        table.add_row(one.name, one.topic, one.key, one.written_by)
    Console().print(table)


@app.command()
def write(where: Dir = None) -> None:
    """Write the schemas and the AsyncAPI document, as the code makes them.

    A change that would break who uses the released schemas is refused, and nothing is written.

    [bold]Examples[/]

      pathcast dev contracts write
      pathcast dev contracts write --dir ~/schemas
    """
    from stream.contracts.files import released_folder, write

    place = released_folder(where)
    written = write(place)
    for path in written:
        typer.echo(f"written {place / path}")
    if not written:
        typer.echo("all are as the code makes them")


@app.command()
def check(
    where: Dir = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="COMMIT", help="what is released is what this commit of git has")
    ] = None,
    json: Json = False,
) -> None:
    """Compare the released schemas with what the code makes.

    Fails if a file is not what the code makes, and if a field was removed or renamed, changed its type, or became
    required or optional: stream/contracts/README.md has the rule.

    [bold]Examples[/]

      pathcast dev contracts check
      pathcast dev contracts check --against HEAD^
    """
    from stream.contracts.files import check, released_folder

    findings = check(released_folder(where), against)
    if json:
        rows = [{"file": str(one.path), "what": one.what, "broken": one.broken} for one in findings]
        typer.echo(msgspec.json.encode(rows))
    else:
        for one in findings:
            typer.echo(f"{'BREAKS ' if one.broken else 'differs'} {one.path}: {one.what}")
    if findings:
        raise typer.Exit(1)
    if not json:
        typer.echo("the released schemas are what the code makes, and nobody breaks")
