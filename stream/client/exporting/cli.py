"""`pathcast export`: tracks, forecasts and gap fills as GeoJSON, MF-JSON or CSV."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from stream.config.options import COMMON, Common, Json, quiet, with_common
from stream.config.wording import counted

STDOUT = "-"


class Format(StrEnum):
    GEOJSON = "geojson"
    MF_JSON = "mf-json"
    CSV = "csv"


class Which(StrEnum):
    NEWEST = "newest"
    ALL = "all"
    NONE = "none"


@with_common
def export(
    what: Annotated[Format, typer.Argument(metavar="FORMAT", help="geojson, mf-json or csv")],
    file: Annotated[str | None, typer.Argument(metavar="[FILE|-]", help="JSON lines; default: the topics")] = None,
    out: Annotated[str, typer.Option("--out", help="the file to write, or - for standard output")] = STDOUT,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="by publication, in a file by their own times: 1h, RFC 3339")
    ] = "earliest",
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="1h (ago), or RFC 3339")] = None,
    entity: Annotated[list[str] | None, typer.Option("--entity", help="only this one; may be repeated")] = None,
    forecasts: Annotated[
        Which | None, typer.Option("--forecasts", help="of each entity: newest, all (default of csv) or none")
    ] = None,
    fills: Annotated[bool, typer.Option("--fills/--no-fills", help="gap fills, too")] = True,
    region: Annotated[
        float, typer.Option("--region", min=0.0, max=0.999, help="chance that geojson's regions hold; 0 for none")
    ] = 0.9,
    common: Common = COMMON,
    as_json: Json = False,
) -> None:
    """Write tracks, forecasts and gap fills for maps and notebooks.

    FILE has a JSON object a line: forecasts, as replay and tail --json write them, gap fills, or pings; it may end in
    .gz, and - is standard input. Without FILE the topics of forecasts and gap fills are read, up to their present end.
    A track is made of pings, or of the anchors of forecasts. What is read lies in a temporary file ($TMPDIR), so that
    memory does not grow with it.

    [bold]Examples[/]

      pathcast export geojson --since 1h --out fleet.geojson
      pathcast export geojson forecasts.ndjson --out forecasts.geojson
      pathcast export mf-json --since 2026-11-30T08:00:00Z --until 2026-11-30T09:00:00Z --entity bus-7 --out bus7.json
      pathcast export csv --forecasts all --out - | head
    """
    from stream.client.exporting import formats
    from stream.client.exporting.collecting import ExportSpool, from_lines, from_topics, open_lines, span_of
    from stream.client.filter import RecordFilter

    try:
        span = span_of(since, until)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since, --until") from None
    wanted = RecordFilter.of(entity or None, None)
    numbers: dict[str, int] | None = None
    with quiet(), ExportSpool() as spool:
        if file is None:
            asyncio.run(from_topics(spool, common.bootstrap, common.topics, common.security, wanted, span, fills=fills))
        else:
            with open_lines(file) as lines:
                from_lines(spool, lines, file, wanted, span)
        if not fills:
            spool.forget_fills()
        which = forecasts or (Which.ALL if what is Format.CSV else Which.NEWEST)
        chosen: Any = [] if which is Which.NONE else spool.newest() if which is Which.NEWEST else spool.forecasts()
        with nullcontext(sys.stdout.buffer) if out == STDOUT else Path(out).open("wb") as sink:
            if what is Format.CSV:
                count = formats.write_csv(sink, spool, chosen)
            elif what is Format.MF_JSON:
                count = formats.write_collection(sink, formats.mf_json(spool, chosen), formats.MF_JSON)
            else:
                count = formats.write_collection(sink, formats.geojson(spool, chosen, region or None))
            sink.flush()
        numbers = {"tracks": spool.tracks, "forecasts": len(chosen), "gap_fills": spool.fills}
        numbers["rows" if what is Format.CSV else "features"] = count
    if numbers is None:
        return  # whoever read standard output has ended, as `head` does
    if as_json:
        typer.echo(json.dumps({"out": out, **numbers}), err=out == STDOUT)
    else:
        named = ((name.replace("_", " ").removesuffix("s"), number) for name, number in numbers.items())
        typer.echo(", ".join(counted(number, name) for name, number in named), err=True)
