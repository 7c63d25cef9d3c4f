"""`pathcast export`: tracks, forecasts and gap fills as GeoJSON, MF-JSON or CSV."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from stream.config.options import COMMON, Common, Json, quiet, with_common
from stream.config.wording import counted

if TYPE_CHECKING:
    from stream.client.exporting.collecting import ExportSpool, SpooledForecasts
    from stream.wire import Forecast

STDOUT = "-"
HELP = """Write tracks, forecasts and gap fills for maps and notebooks.

FILE has a JSON object a line: forecasts, as replay and tail --json write them, gap fills, or pings; it may end in
.gz, and - is standard input. Without FILE the topics of forecasts and gap fills are read, up to their present end. A
track is made of pings, or of the anchors of forecasts. What is read lies in a temporary file ($TMPDIR), so that memory
does not grow with it.

[bold]Examples[/]

  pathcast export geojson --since 1h --out fleet.geojson
  pathcast export geojson forecasts.ndjson --out forecasts.geojson
  pathcast export mf-json --since 2026-11-30T08:00:00Z --until 2026-11-30T09:00:00Z --entity bus-7 --out bus7.json
  pathcast export csv --forecasts all --out - | head
"""


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
    from stream.client.exporting.collecting import ExportSpool, from_lines, from_topics, open_lines, span_of
    from stream.client.filter import RecordFilter

    try:
        span = span_of(since, until)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since, --until") from None
    wanted = RecordFilter.of(entity or None, None)
    with quiet(), ExportSpool() as found:
        if file is None:
            asyncio.run(from_topics(found, common.bootstrap, common.topics, common.security, wanted, span, fills=fills))
        else:
            with open_lines(file) as lines:
                from_lines(found, lines, file, wanted, span)
        if not fills:
            found.forget_fills()
        chosen = _chosen(found, forecasts or (Which.ALL if what is Format.CSV else Which.NEWEST))
        with _writing(out) as sink:
            count = _write(what, sink, found, chosen, region or None)
        _say(what, out, found, chosen, count, as_json)


export.__doc__ = HELP


def _chosen(found: ExportSpool, which: Which) -> SpooledForecasts | Sequence[Forecast]:
    if which is Which.NONE:
        return []
    return found.newest() if which is Which.NEWEST else found.forecasts()


def _write(
    what: Format,
    sink: IO[bytes],
    found: ExportSpool,
    forecasts: SpooledForecasts | Sequence[Forecast],
    region: float | None,
) -> int:
    from stream.client.exporting import formats

    if what is Format.GEOJSON:
        return formats.write_collection(sink, formats.geojson(found, forecasts, region))
    if what is Format.MF_JSON:
        return formats.write_collection(sink, formats.mf_json(found, forecasts), formats.MF_JSON)
    return formats.write_csv(sink, found, forecasts)


@contextmanager
def _writing(out: str) -> Iterator[IO[bytes]]:
    if out == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with Path(out).open("wb") as file:
            yield file


def _say(
    what: Format,
    out: str,
    found: ExportSpool,
    forecasts: SpooledForecasts | Sequence[Forecast],
    count: int,
    as_json: bool,
) -> None:
    numbers = {"tracks": found.tracks, "forecasts": len(forecasts), "gap_fills": found.fills}
    rows = {"rows" if what is Format.CSV else "features": count}
    if as_json:
        typer.echo(json.dumps({"out": out, **numbers, **rows}), err=out == STDOUT)
        return
    named = {name.replace("_", " ").removesuffix("s"): number for name, number in {**numbers, **rows}.items()}
    counts = ", ".join(counted(number, name) for name, number in named.items())
    typer.echo(f"{counts}", err=True)
