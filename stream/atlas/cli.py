"""`pathcast atlas`: builds an atlas of a fleet from its recorded pings, shows it, and draws it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from stream.adapters.options import Columns, recording_of
from stream.config.options import DEFAULT_BOOTSTRAP, Bootstrap, Json, quiet, secured
from stream.config.security import PLAIN_KAFKA, KafkaSecurity

if TYPE_CHECKING:
    from model.atlas.published import Published

app = typer.Typer(
    help="The fleet's own map: what became of earlier pings, counted by map cell, heading and speed.\n\n"
    "[bold]pathcast evaluate --atlas 1h[/] says what it is worth on your own tracks. A worker does not serve it yet.",
    no_args_is_help=True,
)
FINEST = 4
File = Annotated[Path, typer.Argument(metavar="ATLAS", exists=True, dir_okay=False, help="a file that build wrote")]


@app.command()
@secured
def build(
    out: Annotated[Path, typer.Option("--out", dir_okay=False, help="the file to write")],
    data: Annotated[
        str | None, typer.Option("--data", metavar="[FORMAT:]FILE", help="recorded pings, as replay takes them")
    ] = None,
    columns: Columns = None,
    from_topic: Annotated[
        str | None, typer.Option("--from-topic", metavar="TOPIC", help="instead: the pings that a topic still has")
    ] = None,
    min_entities: Annotated[
        int, typer.Option("--min-entities", min=1, max=16, help="that a key must be counted for to be written")
    ] = 3,
    half_life: Annotated[
        str, typer.Option("--half-life", metavar="TIME", help="after which a day counts half; after five, not at all")
    ] = "14d",
    max_cells: Annotated[
        int, typer.Option("--max-cells", min=1, help="at most; the smallest with the fewest outcomes are left out")
    ] = 20_000_000,
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="ENTITY", help="to count nothing of; may be repeated")
    ] = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    security: KafkaSecurity = PLAIN_KAFKA,
    as_json: Json = False,
) -> None:
    """Count what became of earlier pings by map cell, heading and speed, and write what three entities or more show.

    What fewer did could be recognised, as where they live: --min-entities 1 is for an atlas that stays with you. The
    same pings give the same bytes, from a file or from a topic, in whatever order their entities come.

    [bold]Examples[/]

      pathcast atlas build --data fleet.csv --columns t:s=timestamp,entity_id=vehicle --out fleet.atlas
      pathcast atlas build --from-topic pathcast.pings.v1 --bootstrap localhost:9092 --out fleet.atlas
      pathcast atlas export fleet.atlas --out flows.geojson
    """
    if (data is None) == (from_topic is None):
        raise typer.BadParameter("give either --data or --from-topic")
    if columns is not None and data is None:
        raise typer.BadParameter("--columns is for --data")
    if not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"no such directory: {out.parent}", param_hint="--out")
    recorded = None if data is None else recording_of(data, columns)
    if recorded is not None and out.exists() and Path(recorded.path).exists() and out.samefile(recorded.path):
        raise typer.BadParameter(f"{out} is the input itself", param_hint="--out")
    days = half_life_days(half_life)
    from model.atlas.version import dumps
    from stream.atlas import building

    rules, nobody = building.Rules(days, min_entities, max_cells), without or ()
    with _progress(silent=as_json) as told, quiet():
        if recorded is not None:
            rows = recorded.in_order()
            built = building.of_rows(rows, lambda done: told(done, len(rows)), nobody)
        else:
            built = asyncio.run(building.of_topic(bootstrap, str(from_topic), security, told, nobody))
    published, contains = built.published(rules)
    raw = dumps(published, contains)
    _write(out, raw)
    summary = {**contains, "left_out": built.left_out, "keys": len(published), "bytes": len(raw)}
    if as_json:
        typer.echo(json.dumps(summary))
        return
    typer.echo(
        f"{summary['pings']:,} pings of {summary['entities']:,} entities ({built.left_out:,} records left out), "
        f"{len(published):,} keys, {len(raw) / 1e6:,.1f} MB in {out}"
    )


@app.command()
def show(file: File, as_json: Json = False) -> None:
    """Show which pings an atlas contains, and how much it has seen at each level."""
    atlas, contains = _read(file)
    from model.atlas.cells import ZOOMS
    from model.atlas.outcomes import HORIZONS_S
    from model.atlas.published import UNIT

    levels = []
    for level, zoom in enumerate(ZOOMS):
        rows = atlas.key >> 60 == level
        outcomes = atlas.n[rows].sum(axis=0) // UNIT
        seen = {f"{h:g}": int(n) for h, n in zip(HORIZONS_S, outcomes, strict=True)}
        levels.append(_Level(level, zoom, int(rows.sum()), seen))
    if as_json:
        typer.echo(json.dumps({"contains": contains, "levels": [one._asdict() for one in levels]}))
        return
    typer.echo(f"{contains['pings']:,} pings of {contains['entities']:,} entities, {_span(contains)}")
    for one in levels:
        typer.echo(f"level {one.level} (zoom {one.zoom}): {one.keys:,} keys; {one.seen()}")


class _Level(NamedTuple):
    """Holds what an atlas has seen at one level."""

    level: int
    zoom: int
    keys: int
    outcomes: dict[str, int]  # by seconds ahead

    def seen(self) -> str:
        return ", ".join(f"{count:,} after {seconds} s" for seconds, count in self.outcomes.items())


def _span(contains: dict[str, Any]) -> str:
    begin, end = (datetime.fromtimestamp(contains[name] / 1000, UTC) for name in ("from_ms", "to_ms"))
    return f"{begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"


@app.command()
def export(
    file: File,
    out: Annotated[Path, typer.Option("--out", dir_okay=False, help="GeoJSON to write")],
    level: Annotated[int, typer.Option("--level", help="0 has the largest cells, 4 the smallest")] = FINEST,
    horizon_s: Annotated[float, typer.Option("--horizon-s", help="60, 120, 300, 600 or 900")] = 300.0,
    least: Annotated[int, typer.Option("--least", min=1, help="outcomes that an arrow must be made of")] = 3,
) -> None:
    """Draw an atlas as GeoJSON: an arrow for each cell, direction and class of speed, to about where they came."""
    from stream.atlas.flows import features

    atlas, _ = _read(file)
    try:
        found = list(features(atlas, level, horizon_s, least))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    _write(out, json.dumps({"type": "FeatureCollection", "features": found}).encode())
    typer.echo(f"{len(found):,} arrows in {out}")


def half_life_days(text: str) -> float:
    """Parses a time such as 14d or 36h, in days."""
    found = re.fullmatch(r"(\d+)([dh])", text.strip())
    if found is None or not int(found[1]):
        raise typer.BadParameter(f"{text!r} is no time like 14d or 36h", param_hint="--half-life")
    return int(found[1]) / (1 if found[2] == "d" else 24)


def _read(file: Path) -> tuple[Published, dict[str, Any]]:
    from model.atlas.version import AtlasError, loads

    try:
        return loads(file.read_bytes())
    except AtlasError as error:
        raise ValueError(f"{file}: {error}") from error


def _write(out: Path, raw: bytes) -> None:
    """Writes the file whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=out.absolute().parent, prefix=f".{out.name}-", delete=False) as part:
        try:
            part.write(raw)
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).chmod(0o644)
            Path(part.name).replace(out)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise


@contextmanager
def _progress(*, silent: bool) -> Iterator[Callable[[int, int], None]]:
    """Yields a function that shows how many records of how many are read, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=silent or not console.is_terminal) as shown:
        task = shown.add_task("", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
