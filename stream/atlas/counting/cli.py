"""`pathcast atlas run`: its options."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from stream.adapters.live.option import MapOption
from stream.config import failpoints
from stream.config.options import DEFAULT_BOOTSTRAP, DEFAULT_PREFIX, Bootstrap, Prefix, log_to_stderr, option, secured
from stream.config.security import PLAIN_KAFKA, PLAIN_REDIS, KafkaSecurity, RedisSecurity
from stream.config.settings import Settings
from stream.config.times import DAY_S, seconds
from stream.members.options import Metrics

HELP = """Follow a topic's pings, and bring a version of the atlas into service every hour.

Start one, or several that share the partitions: whoever has partition 0 makes the versions. What is known of days lies
in Redis, so that a kill -9 loses nothing, and counts nothing twice. The same pings give the same version as `atlas
build`. Workers that are given the same directory answer with it (`pathcast worker --atlases DIR`).

[bold]Examples[/]

  pathcast atlas run --atlases /srv/atlases
  pathcast atlas run --atlases ./atlases --every 10m --bootstrap kafka:9092 --redis redis://redis:6379/0
  pathcast atlas run --atlases ./atlases --once
  pathcast atlas run --atlases ./atlases --anew --without bus-7
"""


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


@secured
def run(
    atlases: Annotated[
        Path, option("--atlases", "ATLASES", "the directory of the versions, one file each", file_okay=False)
    ],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    redis: Annotated[str, option("--redis", "REDIS", "Redis or Valkey, where days are kept")] = Settings.redis_url,
    prefix: Prefix = DEFAULT_PREFIX,
    group: Annotated[
        str | None, option("--group", "ATLAS_GROUP", "Kafka consumer group of those that count; default: PREFIX-atlas")
    ] = None,
    every: Annotated[
        str, typer.Option("--every", metavar="TIME", help="a version at each full hour, 10 minutes, ...")
    ] = ("1h"),
    once: Annotated[bool, typer.Option("--once", help="up to the present end, then one version, then exit")] = False,
    retention: Annotated[
        str, typer.Option("--retention", metavar="DAYS", help="days with pings that Redis keeps, of each partition")
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
    metrics: Metrics = "",
    security: KafkaSecurity = PLAIN_KAFKA,
    redis_security: RedisSecurity = PLAIN_REDIS,
) -> None:
    every_s, days = seconds(every, "--every"), seconds(retention, "--retention") // DAY_S
    half_life_days = seconds(half_life, "--half-life") / DAY_S
    if not days:
        raise typer.BadParameter(f"{retention!r} is less than a day", param_hint="--retention")
    from model.api import check_weights

    check_weights(weights)  # first: a version that needs them is made an hour later
    try:
        atlases.mkdir(exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{atlases} cannot be made: {error}", param_hint="--atlases") from error
    log_to_stderr()
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    from stream.atlas.building import Rules
    from stream.atlas.counting.member import serve
    from stream.atlas.counting.settings import RunSettings
    from stream.members.running import SIGNALS, door_of

    settings = RunSettings(
        atlases=atlases,
        bootstrap=bootstrap,
        redis_url=redis,
        prefix=prefix,
        group=group or f"{prefix}-atlas",
        every_s=every_s,
        once=once,
        retention_days=days,
        rules=Rules(half_life_days, min_entities, passages_per_cell),
        weights=weights,
        without=frozenset(without or ()),
        map=map_,
        anew=anew,
        kafka=security,
        redis=redis_security,
    )
    asyncio.run(serve(settings, SIGNALS, door_of(metrics)))


run.__doc__ = HELP
