"""`pathcast dev archive`: shows what has landed."""

from __future__ import annotations

import json
from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.config.options import Json, utc
from stream.config.wording import counted

if TYPE_CHECKING:
    from stream.adapters.archived.catalog import Catalog
    from stream.adapters.archived.manifest import Manifest

ArchiveUrl = Annotated[
    str,
    typer.Option(
        "--archive", envvar="PATHCAST_ARCHIVE", metavar="DIR|URL", help="its directory, or s3://bucket/prefix"
    ),
]


def opened(archive: str) -> Catalog:
    """Opens an archive; that there is none is an error of bad usage."""
    from stream.adapters.archived.catalog import opened as found

    try:
        return found(archive)
    except (FileNotFoundError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint="--archive") from error


def show(
    archive: ArchiveUrl,
    days: Annotated[bool, typer.Option("--days", help="its days instead: pings, files and bytes")] = False,
    check: Annotated[bool, typer.Option("--check", help="read every file, and compare it with its hash")] = False,
    as_json: Json = False,
) -> None:
    """Show up to where each partition of an archive has landed, and what was left out.

    With --check, a file that is missing or not what was written is named, and the exit code is 1.

    [bold]Examples[/]

      pathcast dev archive --archive /srv/pings --days
      pathcast dev archive --archive s3://bucket/pings --check
    """
    if days and check:
        raise typer.BadParameter("give --days or --check, not both")
    catalog = opened(archive)
    if days:
        _show_days(catalog, as_json=as_json)
        return
    found = [_described(one) for one in catalog.manifests().values()]
    damaged = _damaged(catalog) if check else None
    forgotten = len(catalog.forgotten())
    if as_json:
        more = {} if damaged is None else {"damaged": damaged}
        text = {"topic": catalog.head.topic, "partitions": found, "forgotten_entities": forgotten, **more}
        typer.echo(json.dumps(text))
    else:
        typer.echo(f"topic {catalog.head.topic}; forgotten: {counted(forgotten, 'entity', 'entities')}")
        for one in found:
            left_out = ", ".join(f"{rows:,} {reason}" for reason, rows in one["left_out"].items()) or "none"
            landed = (
                "nothing" if one["next_offset"] is None else f"up to {one['next_offset']:,} at {utc(one['landed_ms'])}"
            )
            kept = f"{counted(one['pings'], 'ping')} in {counted(one['files'], 'file')}"
            typer.echo(
                f"partition {one['partition']}: {landed}; {kept}; "
                f"left out: {left_out}; lost to retention in Kafka: {one['lost']:,}"
            )
        if damaged is not None:
            typer.echo("\n".join(damaged) or "every file is what was written")
    if damaged:
        raise typer.Exit(1)


def _show_days(catalog: Catalog, *, as_json: bool) -> None:
    from stream.adapters.archived.catalog import files_of
    from stream.adapters.archived.manifest import date_of

    days: list[dict[str, Any]] = []
    for day, files in groupby(files_of(catalog.manifests()), key=lambda file: file.day):
        some = list(files)
        sums = {"pings": sum(file.rows for file in some), "bytes": sum(file.bytes for file in some)}
        days.append({"day": date_of(day), **sums, "files": len(some)})
    if as_json:
        typer.echo(json.dumps(days))
        return
    for one in days:
        typer.echo(f"{one['day']}  {one['pings']:>13,} pings  {one['files']:>4} files  {one['bytes'] / 1e6:>10,.1f} MB")
    total = {name: sum(one[name] for one in days) for name in ("pings", "files", "bytes")}
    what = f"{counted(len(days), 'day')}, {counted(total['pings'], 'ping')} in {counted(total['files'], 'file')}"
    typer.echo(f"{what}, {total['bytes'] / 1e6:,.1f} MB")


def _described(one: Manifest) -> dict[str, Any]:
    left_out = Counter(one.counts)
    left_out.pop("pings", None)
    return {
        "partition": one.partition,
        "next_offset": one.next_offset,
        "landed_ms": one.landed_ms,
        "pings": sum(file.rows for file in one.files),
        "files": len(one.files),
        "left_out": dict(left_out),
        "lost": one.lost,
    }


def _damaged(catalog: Catalog) -> list[str]:
    from stream.adapters.archived.catalog import files_of
    from stream.adapters.archived.manifest import digest_of

    found = []
    for file in files_of(catalog.manifests()):
        try:
            if digest_of(catalog.storage.read(file.name)) != file.digest:
                found.append(f"{file.name} is damaged: its hash is another")
        except FileNotFoundError:
            found.append(f"{file.name} is missing")
    return found
