"""Offers the archive to `pathcast beside`: it lands pings as Parquet files by day."""

from __future__ import annotations

from typing import Annotated

import typer

from stream.adapters.live.option import MapOption
from stream.config.options import option
from stream.config.times import DAY_S, seconds
from stream.members.command import ServiceOptions
from stream.members.running import Service
from stream.services.archive.showing import ArchiveUrl

FOREVER = "forever"


def offer(
    common: ServiceOptions,
    archive: ArchiveUrl,
    archive_group: Annotated[
        str | None, option("--archive-group", "ARCHIVE_GROUP", "Kafka consumer group; default: PREFIX-archive")
    ] = None,
    archive_every: Annotated[str, typer.Option("--archive-every", metavar="TIME", help="between two landings")] = "10m",
    rows: Annotated[
        int, typer.Option("--rows", min=1000, max=2000000, help="pings in memory, of 200 bytes; with more, they land")
    ] = 500_000,
    archive_retention: Annotated[
        str, typer.Option("--archive-retention", metavar="TIME|forever", help="days that are older are deleted")
    ] = "400d",
    late: Annotated[
        str,
        typer.Option(
            "--late",
            metavar="TIME|forever",
            help="how much older than its record a ping may be: more, where recorded pings are fed again",
        ),
    ] = "7d",
    map_: MapOption = None,
) -> Service:
    """Lands a topic's pings as Parquet files by day."""
    from stream.services.archive.member import service
    from stream.services.archive.settings import ArchiveRules, ArchiveSettings

    retention_s, late_s = _span(archive_retention, "--archive-retention"), _span(late, "--late")
    if retention_s is not None and retention_s < DAY_S:
        raise typer.BadParameter(f"{archive_retention!r} is less than a day", param_hint="--archive-retention")
    settings = ArchiveSettings(
        archive,
        **common._asdict(),
        group=archive_group or f"{common.prefix}-archive",
        every_s=seconds(archive_every, "--archive-every"),
        rows=rows,
        rules=ArchiveRules(
            late_ms=None if late_s is None else late_s * 1000,
            retention_days=None if retention_s is None else retention_s // DAY_S,
            map=map_,
        ),
    )
    return service(settings)


def _span(text: str, option: str) -> int | None:
    return None if text.strip() == FOREVER else seconds(text, option)
