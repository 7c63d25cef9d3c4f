"""The commands that show atlases: `pathcast models atlas` and `pathcast export atlas`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.config.options import Json, option
from stream.config.wording import counted

if TYPE_CHECKING:
    from model.atlas.atlas import Atlas

Horizon = Annotated[float, typer.Option("--horizon-s", help="15, 30, 45, 60, 90, 120, 180, ... 1080")]


class Format(StrEnum):
    geojson = "geojson"
    geoparquet = "geoparquet"


def show(
    file: Annotated[
        Path | None, typer.Argument(metavar="[ATLAS]", exists=True, dir_okay=False, help="a file of an atlas")
    ] = None,
    other: Annotated[
        Path | None, typer.Argument(metavar="[OTHER]", exists=True, dir_okay=False, help="an atlas to compare with it")
    ] = None,
    atlases: Annotated[
        Path | None, option("--atlases", "ATLASES", "their directory", exists=True, file_okay=False)
    ] = None,
    horizon_s: Horizon = 300.0,
    most: Annotated[int, typer.Option("--most", min=0, help="changes to show")] = 10,
    as_json: Json = False,
) -> None:
    """Show atlases: the versions in a directory, or which pings one contains, or what another one has gained and lost.

    An atlas is examined by the fleet's own newest pings: each is forecast with the passages of all other vehicles.
    What another one has gained and lost are buckets: map cells, with the direction in which things pass them. Only
    those that have three passages or more in both are compared, for where things now go to another place.

    [bold]Examples[/]

      pathcast models atlas --atlases /srv/pathcast/atlases
      pathcast models atlas fleet.atlas
      pathcast models atlas monday.atlas tuesday.atlas --horizon-s 600
    """
    if file is not None and other is not None:
        _show_changes(file, other, horizon_s, most, as_json=as_json)
    elif file is not None:
        _show_one(file, as_json=as_json)
    elif atlases is not None:
        _list_versions(atlases, as_json=as_json)
    else:
        raise typer.BadParameter("give the file of an atlas, or --atlases with their directory")


def _list_versions(atlases: Path, *, as_json: bool) -> None:
    from stream.versions.files import SUFFIX

    paths = sorted(atlases.glob(f"*{SUFFIX}"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    found = [_described(path) for path in paths]
    if as_json:
        typer.echo(json.dumps(found))
        return
    if not found:
        typer.echo(f"no atlases in {atlases}: `pathcast beside atlas` writes a version there every hour", err=True)
    for one in found:
        if "damaged" in one:
            typer.echo(f"{one['version']}  damaged: {one['damaged']}")
            continue
        typer.echo(
            f"{one['version']}  {_contained(one['contains'])}, {counted(one['passages'], 'passage')}, "
            f"{one['bytes'] / 1e6:,.1f} MB"
        )


def _described(path: Path) -> dict[str, Any]:
    from stream.atlas.showing.reading import read

    try:
        return {"version": path.stem, **_size(path, read(path))}
    except (OSError, ValueError) as error:
        return {"version": path.stem, "damaged": str(error)}


def _size(path: Path, atlas: Atlas) -> dict[str, Any]:
    """Returns what an atlas contains, and how large it is."""
    passages, buckets = len(atlas.passages.known), len(atlas.passages.bucket)
    return {"passages": passages, "buckets": buckets, "bytes": path.stat().st_size, "contains": atlas.contains}


def _show_changes(before: Path, after: Path, horizon_s: float, most: int, *, as_json: bool) -> None:
    from stream.atlas.showing import diff as compared
    from stream.atlas.showing.reading import read

    one, other = (read(file).passages for file in (before, after))
    buckets = compared.buckets(one, other)
    try:
        changes = compared.changes(one, other, horizon_s, most)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--horizon-s") from error
    if as_json:
        typer.echo(json.dumps({**buckets._asdict(), "changes": [each._asdict() for each in changes]}))
        return
    typer.echo(f"{counted(buckets.gained, 'bucket')} gained, {buckets.lost:,} lost, {buckets.kept:,} kept")
    for change in changes:
        heading = "still" if change.heading_deg is None else f"heading {change.heading_deg}"
        typer.echo(
            f"{change.moved_m:,.0f} m from {change.lat:.5f}, {change.lon:.5f}, {heading}: "
            f"{change.n[0]:,} and {change.n[1]:,} passages"
        )


def _show_one(file: Path, *, as_json: bool) -> None:
    from stream.atlas.showing.reading import read

    size = _size(file, read(file))
    if as_json:
        typer.echo(json.dumps(size))
        return
    passages = size["passages"]
    typer.echo(_contained(size["contains"]))
    typer.echo(
        f"{counted(passages, 'passage')} in {counted(size['buckets'], 'bucket')} (map cells and directions), "
        f"{size['bytes'] / max(passages, 1):,.0f} bytes a passage"
    )
    for line in _report(size["contains"].get("report", {})):
        typer.echo(line)


def _report(card: dict[str, Any]) -> Iterator[str]:
    """Yields the report card of an atlas (`model.atlas.examining`) in words."""
    questions = counted(card.get("questions", 0), "question")
    if not card.get("horizons"):
        yield f"not examined: {questions}, which is too few to find out how far its passages are to be believed"
        return
    yield f"examined by {questions}:"
    for one in card["horizons"]:
        off, nearer, held = f"{one['mean_m']:,.0f} m off", 100 * (1 - one["of_model"]), f"{100 * one['held']:.1f} %"
        by = f"{nearer:.1f} %" if nearer > 0 else "no"
        yield f"  after {one['after_s']:g} s: {off}, {by} nearer than the model alone; regions hold {held}"


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
    file: Annotated[Path, typer.Argument(metavar="ATLAS", exists=True, dir_okay=False, help="a file of an atlas")],
    out: Annotated[Path, typer.Option("--out", dir_okay=False, help="the file to write")],
    horizon_s: Horizon = 300.0,
    least: Annotated[int, typer.Option("--least", min=1, help="passages that an arrow must be made of")] = 3,
    form: Annotated[Format, typer.Option("--format", help="geoparquet: needs the extra readers")] = Format.geojson,
) -> None:
    """Draw an atlas as a map: an arrow for each map cell and direction, to where things were that long after."""
    from model.files import write_whole
    from stream.atlas.showing.flows import features
    from stream.atlas.showing.reading import read

    check_folder(out)
    passages = read(file).passages
    try:
        found = list(features(passages, horizon_s, least))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--horizon-s") from error
    if form is Format.geoparquet:
        from stream.atlas.showing.geoparquet import parquet

        write_whole(out, [parquet(found)])
    else:
        write_whole(out, [json.dumps({"type": "FeatureCollection", "features": found}).encode()])
    typer.echo(f"{counted(len(found), 'arrow')} in {out}")
