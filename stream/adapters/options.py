"""Defines the command-line options that commands reading recorded tracks share. It opens no connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stream.adapters.recorded import Recording

Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="OURS=YOURS,...",
        help="what Parquet and CSV call our columns; t:s=NAME (us, ns) for epoch seconds, t:rfc3339=NAME for text",
    ),
]
# Not from the environment, as PATHCAST_MAP is for what reads a topic, and most recordings are no NDJSON.
MapOfLines = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="NAME|FILE",
        help="a preset or a file with a map, for lines of NDJSON that are no pings of ours",
    ),
]


def recording_of(given: str, columns: str | None, map_: str | None = None) -> Recording:
    """Returns the recording that an argument names. A wrong name or map is an error of bad usage."""
    from stream.adapters.recorded import recording

    try:
        return recording(given, columns, map_)
    except (ValueError, FileNotFoundError) as error:
        raise typer.BadParameter(str(error)) from error
