"""`pathcast ingest presets`: the formats that are known by name."""

from __future__ import annotations

from typing import Annotated

import typer


def presets(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="print the map of this preset, to begin an own one with")
    ] = None,
) -> None:
    """List the formats that --map knows by name, or print the map of one.

    [bold]Examples[/]

      pathcast ingest presets
      pathcast ingest presets samsara > mine.toml
    """
    from stream.adapters.live import presets as known

    if name is None:
        for one in known.names():
            typer.echo(f"{one:<12}{known.find_preset(one).about}")
        return
    try:
        typer.echo(known.text_of(name), nl=False)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from None
