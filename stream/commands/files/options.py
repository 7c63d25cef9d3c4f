"""Defines the command-line options of `pathcast fill` and `pathcast forecast`."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from stream.commands.files import outputs
from stream.commands.files.outputs import STD


class Kind(StrEnum):
    """The formats of standard input and output."""

    NDJSON = "ndjson"
    CSV = "csv"
    GPX = "gpx"
    PARQUET = "parquet"


AtlasFile = Annotated[
    Path | None, typer.Option("--atlas", exists=True, dir_okay=False, help="a file of pathcast train atlas to ask")
]
AsksItself = Annotated[
    bool,
    typer.Option("--own-atlas/--no-own-atlas", help="without --atlas, ask where the file's own entities went besides"),
]
Force = Annotated[bool, typer.Option("--force", help="replace OUT if it exists")]
AsJson = Annotated[bool, typer.Option("--json", help="print the summary as JSON (to stderr if OUT is -)")]


def check_out(out: str, *, parquet: bool, force: bool) -> None:
    """Refuses an output that cannot be written as bad usage."""
    try:
        outputs.check(out, force=force)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--out") from None
    if out == STD and parquet:
        raise typer.BadParameter("Parquet is not written to standard output", param_hint="--out")


def print_json(summary: dict[str, Any], out: str) -> None:
    print(json.dumps(summary), file=sys.stderr if out == STD else sys.stdout)
