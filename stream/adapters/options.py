"""Defines the command-line options that commands reading recorded tracks share. It opens no connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stream.adapters.column_names import ColumnMap
    from stream.adapters.recorded import Recording

Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="OURS=YOURS,...",
        help="what Parquet and CSV call our columns, where that is not guessed: t:s=NAME (ms, us, ns) for numbers, "
        "t:iso=NAME or 't:%d.%m.%Y %H:%M=NAME' for text",
    ),
]
Timezone = Annotated[
    str | None,
    typer.Option("--timezone", metavar="ZONE", help="of times that have none, as Europe/London; default: UTC"),
]
# Not from the environment, as PATHCAST_MAP is for what reads a topic, and most recordings are no NDJSON.
MapOfLines = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="NAME|FILE",
        help="a preset or a file with a map, for lines of NDJSON, or rows of CSV, that are no pings of ours",
    ),
]


def recording_of(given: str, columns: str | None, map_: str | None = None, zone: str | None = None) -> Recording:
    """Returns the recording that an argument names, and says on stderr which of its columns were guessed. A wrong name
    or map is an error of bad usage."""
    from stream.adapters.recorded import recording

    try:
        found = recording(given, columns, map_, zone)
    except (ValueError, FileNotFoundError) as error:
        raise typer.BadParameter(str(error)) from error
    if found.guessed:
        typer.echo(guess_line(found.path, found.columns), err=True)
    return found


def guess_line(path: object, columns: ColumnMap | None) -> str:
    """Returns the line that says what was guessed, as options to keep."""
    assert columns is not None
    zone = "; times without a zone are taken for UTC" if columns.local_times() and not columns.zone else ""
    return f"{path}: guessed {columns.options()}{zone}"
