"""The commands that show atlases: `pathcast atlas list`, `show`, `diff` and `export`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from stream.config.options import Json
from stream.config.wording import counted

FINEST = 4
File = Annotated[Path, typer.Argument(metavar="ATLAS", exists=True, dir_okay=False, help="a file of an atlas")]
Horizon = Annotated[float, typer.Option("--horizon-s", help="60, 120, 300, 600 or 900")]


class Format(StrEnum):
    geojson = "geojson"
    geoparquet = "geoparquet"


def list_versions(
    atlases: Annotated[
        Path,
        typer.Option("--atlases", envvar="PATHCAST_ATLASES", exists=True, file_okay=False, help="their directory"),
    ],
    as_json: Json = False,
) -> None:
    """List the versions in a directory, the oldest first, and what is damaged as such."""
    from stream.versions.files import SUFFIX

    paths = sorted(atlases.glob(f"*{SUFFIX}"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    found = [_described(path) for path in paths]
    if as_json:
        typer.echo(json.dumps(found))
        return
    if not found:
        typer.echo(f"no atlases in {atlases}: `pathcast atlas run` writes a version there every hour", err=True)
    for one in found:
        if "damaged" in one:
            typer.echo(f"{one['version']}  damaged: {one['damaged']}")
            continue
        contains = one["contains"]
        typer.echo(
            f"{one['version']}  {_contained(contains)}, {counted(one['keys'], 'key')}, {one['bytes'] / 1e6:,.1f} MB"
        )


def _described(path: Path) -> dict[str, Any]:
    from stream.atlas.showing.reading import read

    try:
        atlas, contains = read(path)
    except (OSError, ValueError) as error:
        return {"version": path.stem, "damaged": str(error)}
    return {"version": path.stem, "keys": len(atlas), "bytes": path.stat().st_size, "contains": contains}


def diff(
    before: File,
    after: File,
    horizon_s: Horizon = 300.0,
    most: Annotated[int, typer.Option("--most", min=0, help="changes to show")] = 10,
    as_json: Json = False,
) -> None:
    """Show which keys another atlas has gained and lost, and where the mean of what happened has moved farthest.

    Only means of three outcomes or more are compared.
    """
    from stream.atlas.showing import diff as compared
    from stream.atlas.showing.reading import read

    one, other = (read(file)[0] for file in (before, after))
    levels = compared.levels(one, other)
    try:
        changes = compared.changes(one, other, horizon_s, most)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--horizon-s") from error
    if as_json:
        found = {"levels": [each._asdict() for each in levels], "changes": [each._asdict() for each in changes]}
        typer.echo(json.dumps(found))
        return
    for level in levels:
        typer.echo(
            f"level {level.level}: {counted(level.gained, 'key')} gained, {level.lost:,} lost, {level.kept:,} kept"
        )
    for change in changes:
        heading = "still" if change.heading_deg is None else f"heading {change.heading_deg}"
        typer.echo(
            f"{change.moved_m:,.0f} m at {change.lat:.5f}, {change.lon:.5f}, {heading}, speed class "
            f"{change.speed_class}, level {change.level}: {change.n[0]:g} and {change.n[1]:g} outcomes"
        )


def show(file: File, as_json: Json = False) -> None:
    """Show which pings an atlas contains, and how much it has seen at each level."""
    from model.atlas.cells import LEVEL_SHIFT, ZOOMS
    from model.atlas.outcomes import HORIZONS_S
    from model.atlas.published import UNIT
    from stream.atlas.showing.reading import read

    atlas, contains = read(file)
    levels = []
    for level, zoom in enumerate(ZOOMS):
        rows = atlas.key >> LEVEL_SHIFT == level
        outcomes = atlas.n[rows].sum(axis=0) // UNIT
        seen = {f"{h:g}": int(n) for h, n in zip(HORIZONS_S, outcomes, strict=True)}
        levels.append(_Level(level, zoom, int(rows.sum()), seen))
    if as_json:
        typer.echo(json.dumps({"contains": contains, "levels": [one._asdict() for one in levels]}))
        return
    typer.echo(_contained(contains))
    for one in levels:
        typer.echo(f"level {one.level} (zoom {one.zoom}): {counted(one.keys, 'key')}; {one.seen()}")


class _Level(NamedTuple):
    """Holds what an atlas has seen at one level."""

    level: int
    zoom: int
    keys: int
    outcomes: dict[str, int]  # by seconds ahead

    def seen(self) -> str:
        return ", ".join(f"{count:,} after {seconds} s" for seconds, count in self.outcomes.items())


def check_folder(out: Path) -> None:
    """Raises Typer's error if there is no folder to write the file into."""
    if not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"no such directory: {out.parent}", param_hint="--out")


def _contained(contains: dict[str, Any]) -> str:
    pings, entities = counted(contains["pings"], "ping"), counted(contains["entities"], "entity", "entities")
    return f"{pings} of {entities}, {_span(contains)}"


def _span(contains: dict[str, Any]) -> str:
    begin, end = (datetime.fromtimestamp(contains[name] / 1000, UTC) for name in ("from_ms", "to_ms"))
    return f"{begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"


def export(
    file: File,
    out: Annotated[Path, typer.Option("--out", dir_okay=False, help="the file to write")],
    level: Annotated[int, typer.Option("--level", help="0 has the largest cells, 4 the smallest")] = FINEST,
    horizon_s: Horizon = 300.0,
    least: Annotated[int, typer.Option("--least", min=1, help="outcomes that an arrow must be made of")] = 3,
    form: Annotated[Format, typer.Option("--format", help="geoparquet: needs the extra readers")] = Format.geojson,
) -> None:
    """Draw an atlas as a map: an arrow for each cell, direction and class of speed, to about where they came."""
    from stream.atlas.showing.flows import features
    from stream.atlas.showing.reading import read
    from stream.versions.files import write_whole

    check_folder(out)
    atlas, _ = read(file)
    try:
        found = list(features(atlas, level, horizon_s, least))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if form is Format.geoparquet:
        from stream.atlas.showing.geoparquet import parquet

        write_whole(out, [parquet(found)])
    else:
        write_whole(out, [json.dumps({"type": "FeatureCollection", "features": found}).encode()])
    typer.echo(f"{counted(len(found), 'arrow')} in {out}")
