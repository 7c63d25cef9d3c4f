"""`pathcast dev archive`: shows what has landed."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.config.options import Json, option, utc
from stream.config.wording import counted

if TYPE_CHECKING:
    from stream.adapters.archived.catalog import Catalog
    from stream.adapters.archived.manifest import Manifest

ArchiveUrl = Annotated[str, option("--archive", "ARCHIVE", "its directory, or s3://bucket/prefix", metavar="DIR|URL")]


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
    catalog = _open(archive)
    if days:
        _show_days(catalog, as_json=as_json)
        return
    partitions = [_describe(one) for one in catalog.manifests().values()]
    forgotten, damaged = len(catalog.forgotten()), _list_damaged(catalog) if check else []
    if as_json:
        text = {"topic": catalog.head.topic, "partitions": partitions, "forgotten_entities": forgotten}
        typer.echo(json.dumps({**text, "damaged": damaged} if check else text))
    else:
        typer.echo(f"topic {catalog.head.topic}; forgotten: {counted(forgotten, 'entity', 'entities')}")
        for one in partitions:
            left_out = ", ".join(f"{rows:,} {reason}" for reason, rows in one["left_out"].items()) or "none"
            at = one["next_offset"]
            landed = "nothing" if at is None else f"up to {at:,} at {utc(one['landed_ms'])}"
            typer.echo(
                f"partition {one['partition']}: {landed}; {counted(one['pings'], 'ping')} in "
                f"{counted(one['files'], 'file')}; left out: {left_out}; lost to retention in Kafka: {one['lost']:,}"
            )
        if check:
            typer.echo("\n".join(damaged) or "every file is what was written")
    if damaged:
        raise typer.Exit(1)


def _open(archive: str) -> Catalog:
    """Opens an archive; that there is none is an error of bad usage."""
    from stream.adapters.archived.catalog import open_archive

    try:
        return open_archive(archive)
    except (FileNotFoundError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint="--archive") from error


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


def _describe(one: Manifest) -> dict[str, Any]:
    return {
        "partition": one.partition,
        "next_offset": one.next_offset,
        "landed_ms": one.landed_ms,
        "pings": sum(file.rows for file in one.files),
        "files": len(one.files),
        "left_out": {reason: rows for reason, rows in one.counts.items() if reason != "pings"},
        "lost": one.lost,
    }


def _list_damaged(catalog: Catalog) -> list[str]:
    from stream.adapters.archived.catalog import files_of
    from stream.adapters.archived.manifest import digest_of

    damaged = []
    for file in files_of(catalog.manifests()):
        try:
            if digest_of(catalog.storage.read(file.name)) != file.digest:
                damaged.append(f"{file.name} is damaged: its hash is another")
        except FileNotFoundError:
            damaged.append(f"{file.name} is missing")
    return damaged
