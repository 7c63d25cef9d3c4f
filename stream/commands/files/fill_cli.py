"""`pathcast fill`: options in, a file with its gaps filled out. Heavy imports wait for the call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from stream.adapters.options import Columns, Timezone, recording_of
from stream.commands.files import outputs
from stream.commands.files.options import AsJson, AsksItself, AtlasFile, Force, Kind, check_out, print_json
from stream.commands.files.outputs import STD
from stream.config.options import Weights, quiet
from stream.config.settings import Settings
from stream.config.times import seconds
from stream.config.wording import counted


def fill(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="recorded pings; - is standard input")],
    *,
    out: Annotated[
        str | None, typer.Option("--out", metavar="OUT|-", help="the file to write; default: FILE.filled.SUFFIX")
    ] = None,
    columns: Columns = None,
    timezone: Timezone = None,
    weights: Weights = Settings.weights,
    atlas: AtlasFile = None,
    own_atlas: AsksItself = True,
    every: Annotated[
        str | None, typer.Option("--every", metavar="TIME", help="between filled rows: 5s, 1m; default: the cadence")
    ] = None,
    kind: Annotated[Kind, typer.Option("--format", help="of standard input")] = Kind.NDJSON,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Fill the gaps of a recorded file: write a copy with added rows where reports went missing.

    FILE is CSV (also .csv.gz), NDJSON (.ndjson, .jsonl), GPX or Parquet, or - for standard input. Columns, their order,
    types and values stay as they are. Rows that are no valid pings stay, too; they are counted, and shown with their
    numbers. Two columns are added: filled, which is true for a filled row, and sigma_m, one standard deviation in
    metres. A filled row has only id, time, latitude and longitude besides; its other columns are empty.

    Only gaps between two rows of an entity are filled, by the rule of a worker: silences that are longer than a minute
    and than three cadences (usual intervals) of the entity, and at most an hour long. Filled rows are one cadence
    apart, or --every, at most 240 in a gap (3,600 with --every).

    A gap is filled along ways on which the file's entities, also the same one, went at other times from one end of it
    to the other; --atlas asks a fleet's atlas instead, and --no-own-atlas neither.

    OUT is the name of FILE with .filled before its suffix, unless --out names another file. It appears when it is
    complete.

    [bold]Examples[/]

      pathcast fill fleet.csv --columns t:s=timestamp,entity_id=vehicle
      pathcast fill ride.gpx --out ride-filled.gpx --every 5s
      pathcast fill week.parquet --atlas fleet.atlas --force
      pathcast fill - --format csv --columns t:s=timestamp,entity_id=vehicle < fleet.csv > filled.csv
    """
    step_ms = 0 if every is None else 1000 * seconds(every, "--every")
    place = _output_of(file, out)
    check_out(place, parquet=kind is Kind.PARQUET if file == STD else file.lower().endswith(".parquet"), force=force)
    console, began_s = Console(stderr=True), time.monotonic()
    with quiet(), outputs.as_file(file, f".{kind}") as path:
        recorded = recording_of(str(path), columns, zone=timezone)
        if recorded.archive is not None:
            raise typer.BadParameter(f"{path}: a folder or an archive is not written again: give a file")
        from stream.commands.files.formats import format_of
        from stream.commands.files.plan import Cursor, find_fills
        from stream.commands.files.showing import Steps, describe_own, list_rejects, rejects_json

        format = format_of(path)
        form = format.sample(path, recorded.columns)
        found = find_fills(recorded, form, weights, atlas, step_ms, Steps(console), makes_own=own_atlas)
        cursor = Cursor(found.plan, [one.row for one in found.rejects.first])
        with outputs.writing(place, force=force) as sink:
            format.copy(path, recorded.columns, form, cursor, sink)
    where = {".gpx": "point", ".parquet": "row"}.get(path.suffix.lower(), "line")  # what its rows are counted by
    summary = {
        "rows": len(found.survey),
        "entities": len(found.survey.names),
        "order": found.survey.order,
        "gaps": found.gaps,
        "filled": cursor.written,
        "gaps_along_passages": found.along,
        "duplicates": found.counts.duplicates,
        "rejects": sum(found.rejects.codes.values()),
        "rejects_by_code": dict(found.rejects.codes.most_common()),
        "first_rejects": rejects_json(found.rejects.first, cursor.lines, where),
        "out": place,
        "seconds": round(time.monotonic() - began_s, 3),
    }
    if as_json:
        print_json(summary, place)
    else:
        if found.own is not None:
            console.print(describe_own(found.own, found.along, found.gaps, "gap"), highlight=False, soft_wrap=True)
        _print_summary(summary, list_rejects(found.rejects.first, found.rejects.codes, cursor.lines, where), console)


def _output_of(file: str, out: str | None) -> str:
    if out is not None:
        return out
    if file == STD:
        return STD
    path = Path(file)
    suffix = "".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix
    return str(path.with_name(f"{path.name.removesuffix(suffix)}.filled{suffix}"))


def _print_summary(summary: dict[str, Any], rejects: Sequence[str], console: Console) -> None:
    for line in rejects:
        console.print(f"kept, and no ping: {line}", style="yellow", markup=False, soft_wrap=True)
    if summary["order"] == "none":
        text = "the rows were neither in the order of time nor by entity and time: all were in memory"
        console.print(text, style="yellow", soft_wrap=True)
    counts = (
        f"{counted(summary['rows'], 'row')} of {counted(summary['entities'], 'entity', 'entities')}",
        counted(summary["gaps"], "gap"),
        f"{counted(summary['filled'], 'row')} filled",
        counted(summary["rejects"], "reject"),
        f"{counted(summary['duplicates'], 'duplicate')}: {summary['out']}",
    )
    console.print(", ".join(counts), highlight=False, markup=False, soft_wrap=True)
