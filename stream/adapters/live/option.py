"""Defines the option `--map`, which all have that read the pings topic as the workers do."""

from __future__ import annotations

from typing import Annotated

import typer


def _check(given: str | None) -> str | None:
    """Reads the map once, so that what is wrong with it is said before anything else."""
    from stream.adapters.live.on_topic import reader_of

    try:
        reader_of(given)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    return given


MapOption = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="NAME|FILE",
        envvar="PATHCAST_MAP",
        callback=_check,
        help="a preset (`pathcast ingest presets`) or a file with a map, for records that are no pings of ours",
    ),
]
