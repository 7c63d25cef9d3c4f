"""`pathcast beside atlas`: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream.adapters.live.option import MapOption
from stream.config.options import option
from stream.config.security import PLAIN_REDIS, RedisSecurity
from stream.config.settings import Settings
from stream.config.times import DAY_S, seconds
from stream.members.command import ServiceOptions
from stream.members.running import Service

HalfLife = Annotated[
    str,
    typer.Option(
        "--half-life",
        metavar="TIME",
        help="in days with pings, after which a day counts half; after five half-lives, not at all",
    ),
]
MinEntities = Annotated[
    int,
    typer.Option(
        "--min-entities", min=1, max=16, help="that must pass a map cell, and go along a way, for it to be shown"
    ),
]
PassagesPerCell = Annotated[
    int,
    typer.Option(
        "--passages-per-cell", min=1, help="at most, of a map cell and direction, chosen by chance; some 115 bytes each"
    ),
]
Weights = Annotated[
    str,
    option(
        "--weights",
        "WEIGHTS",
        "of the workers: a bundled name or a directory. Beside their forecasts it is found out how far passages are"
        " believed",
    ),
]
Without = Annotated[
    list[str] | None,
    typer.Option("--without", metavar="ENTITY", help="of which nothing is to be known; may be repeated"),
]


def offer(
    common: ServiceOptions,
    atlases: Annotated[
        Path, option("--atlases", "ATLASES", "the directory of the versions, one file each", file_okay=False)
    ],
    redis: Annotated[str, option("--redis", "REDIS", "Redis or Valkey, where days are kept")] = Settings.redis_url,
    atlas_group: Annotated[
        str | None, option("--atlas-group", "ATLAS_GROUP", "Kafka consumer group; default: PREFIX-atlas")
    ] = None,
    atlas_every: Annotated[
        str,
        typer.Option(
            "--atlas-every",
            metavar="TIME",
            help="a version at each full hour, 10 minutes, ...; and, unless this is above a day, 2, 5, 15 and 30"
            " minutes after the first pings",
        ),
    ] = "1h",
    atlas_history: Annotated[
        str | None,
        typer.Option(
            "--atlas-history",
            metavar="[FORMAT:]PATH|topic",
            help="what the fleet drove before, of which a version is made at once: a recording as feed takes it, or"
            " topic, what the pings topic has",
        ),
    ] = None,
    atlas_columns: Annotated[
        str | None, typer.Option("--atlas-columns", metavar="OURS=YOURS,...", help="of its CSV or Parquet")
    ] = None,
    atlas_timezone: Annotated[
        str | None, typer.Option("--atlas-timezone", metavar="ZONE", help="of its times that have none")
    ] = None,
    atlas_retention: Annotated[
        str,
        typer.Option("--atlas-retention", metavar="DAYS", help="days with pings that Redis keeps, of each partition"),
    ] = "70d",
    half_life: HalfLife = "14d",
    min_entities: MinEntities = 3,
    passages_per_cell: PassagesPerCell = 128,
    weights: Weights = Settings.weights,
    without: Without = None,
    map_: MapOption = None,
    anew: Annotated[
        bool,
        typer.Option(
            "--anew", help="forget what Redis has, and count from the log's first record: with one member only"
        ),
    ] = False,
    redis_security: RedisSecurity = PLAIN_REDIS,
) -> Service:
    """Follows a topic's pings, and brings versions of the atlas into service: some early, and one every hour."""
    every_s, days = seconds(atlas_every, "--atlas-every"), seconds(atlas_retention, "--atlas-retention") // DAY_S
    half_life_days = seconds(half_life, "--half-life") / DAY_S
    if not days:
        raise typer.BadParameter(f"{atlas_retention!r} is less than a day", param_hint="--atlas-retention")
    from model.api import check_weights

    check_weights(weights)  # first: a version that needs them is made an hour later
    try:
        atlases.mkdir(exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{atlases} cannot be made: {error}", param_hint="--atlases") from error
    from stream.atlas.building import Rules
    from stream.atlas.counting.history import History
    from stream.atlas.counting.member import service
    from stream.atlas.counting.settings import RunSettings

    history = None
    if atlas_history is not None:
        try:
            history = History.of(atlas_history, atlas_columns, atlas_timezone)
        except (ValueError, OSError) as error:
            raise typer.BadParameter(str(error), param_hint="--atlas-history") from error
    elif atlas_columns is not None or atlas_timezone is not None:
        raise typer.BadParameter("are for --atlas-history", param_hint="--atlas-columns, --atlas-timezone")
    settings = RunSettings(
        atlases,
        **common._asdict(),
        redis_url=redis,
        group=atlas_group or f"{common.prefix}-atlas",
        every_s=every_s,
        retention_days=days,
        rules=Rules(half_life_days, min_entities, passages_per_cell),
        weights=weights,
        without=frozenset(without or ()),
        map=map_,
        history=history,
        anew=anew,
        redis=redis_security,
    )
    return service(settings)
