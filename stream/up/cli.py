"""`pathcast up`: the command that runs a whole fleet's pathcast on one machine."""

from __future__ import annotations

import asyncio
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from stream.adapters.options import Columns, Timezone
from stream.api.map.cli import check_basemap
from stream.config.home import USUAL, VARIABLE, Home, lock_home
from stream.config.options import COMMON, BasemapText, Prefix, option, quiet, with_common
from stream.config.security import PLAIN_KAFKA, PLAIN_REDIS, KafkaSecurity, RedisSecurity
from stream.up.parts import KINDS, atlas_options, choose, history_of, join_services, table
from stream.wire import Topics

BASEMAP = "PATHCAST_MAP_BASEMAP"
HISTORY = "PATHCAST_HISTORY"  # of `pathcast beside arrivals`; what is set there stays


@with_common
def up(
    directory: Annotated[
        Path, typer.Option("--dir", envvar=VARIABLE, file_okay=False, help="where everything is kept")
    ] = USUAL,
    bootstrap: Annotated[
        str | None, option("--bootstrap", "BOOTSTRAP", "Kafka, host:port[,...]; default: embedded")
    ] = None,
    redis: Annotated[str | None, option("--redis", "REDIS", "Redis or Valkey; default: embedded")] = None,
    prefix: Prefix = COMMON.prefix,
    workers: Annotated[int | None, option("--workers", "WORKERS", "default: the cores but one", min=1, max=256)] = None,
    history: Annotated[
        str | None,
        typer.Option(
            "--history",
            metavar="[FORMAT:]PATH|archive|topic",
            help="what the fleet drove before, of which the first atlas is made at once: a recording as feed takes it,"
            " archive (that of --dir), or topic (what the pings topic has)",
        ),
    ] = None,
    columns: Columns = None,
    timezone: Timezone = None,
    gtfs: Annotated[
        Path | None,
        typer.Option(
            "--gtfs",
            metavar="ZIP",
            envvar="PATHCAST_GTFS",
            exists=True,
            dir_okay=False,
            help="the fleet's schedule, a GTFS feed: says when vehicles reach their stops (transit)",
        ),
    ] = None,
    without: Annotated[str, typer.Option("--without", metavar="PART,...", help="parts that are not to run")] = "",
    partitions: Annotated[
        int | None, option("--partitions", "PARTITIONS", "partitions of new topics", min=1, max=10000)
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics",
            envvar="PATHCAST_METRICS",
            help="where the first worker serves its pages, HOST:PORT or a loopback PORT; the other workers and the "
            "services beside them use the ports that follow; nothing is served if it is empty",
        ),
    ] = "9464",
    serve: Annotated[
        str | None,
        typer.Option(
            "--serve",
            envvar="PATHCAST_SERVE_LISTEN",
            help="where the HTTP API answers, HOST:PORT or a loopback PORT, 0 for a free one; default: 9480, or the "
            "port after those of --metrics if they reach that far",
        ),
    ] = None,
    ingest: Annotated[
        str, option("--ingest", "INGEST_LISTEN", "where pings are taken by HTTP, in the same form")
    ] = "8080",
    live_map: Annotated[
        str | None,
        typer.Option(
            "--map",
            envvar="PATHCAST_MAP_LISTEN",
            help="where the live map is shown, in the same form, by a process of its own; default: by that of the HTTP "
            "API, at its address",
        ),
    ] = None,
    ingest_map: Annotated[
        list[str] | None,
        typer.Option(
            "--ingest-map",
            metavar="NAME|FILE",
            help="what is taken there, as `pathcast ingest http --map` has it; may be repeated; default: all presets",
        ),
    ] = None,
    basemap: BasemapText = None,
    security: KafkaSecurity = PLAIN_KAFKA,
    redis_security: RedisSecurity = PLAIN_REDIS,
) -> None:
    """Run everything on this machine: workers, atlas, archive, scores, arrivals, HTTP API, map, ingest and refresh.

    Without --bootstrap and --redis it starts its own broker and store, for trying out; their data stays in --dir. A
    part that dies is started again. Ctrl-C or SIGTERM stops all parts in order, and leaves no process behind; the same
    command then goes on where it stopped. The log of each part is in DIR/logs; its warnings are shown here, too.

    Parts are worker (a process per core but one; one with the embedded broker), atlas, archive, scores, guard, latest,
    serve, arrivals, transit (with --gtfs), ingest, refresh and map. One process, `beside`, runs seven of them: atlas,
    archive, scores, guard, latest, arrivals and transit; serve shows the map. Their settings come from environment
    variables, such as PATHCAST_WEIGHTS.

    With --history the first forecasts use what the fleet drove before, and not only what it drives from now on. It
    stays in the atlas until it has faded, also when up starts again without the option.

    [bold]Examples[/]

      pathcast up
      pathcast up --history last-month.csv --timezone Europe/London
      pathcast up --bootstrap localhost:9092 --redis redis://localhost:6379/0 --dir /srv/pathcast
      pathcast up --gtfs feed.zip
      pathcast up --workers 4 --without archive,refresh
      pathcast up --serve 0.0.0.0:9480 --ingest 8081 --ingest-map samsara
    """
    if bootstrap is None and security != PLAIN_KAFKA:
        raise typer.BadParameter("--kafka-... are for a Kafka of your own: give --bootstrap")
    if redis is None and redis_security != PLAIN_REDIS:
        raise typer.BadParameter("a password or --redis-ca are for a Redis of your own: give --redis")
    if check_basemap(basemap) is not None:
        os.environ[BASEMAP] = str(basemap)  # for serve and map; as an option, `ps` would show its key to everybody
    left_out = _kinds(without)
    home, count = Home(directory.absolute()), workers or _default_workers(bootstrap)
    pings = Topics.of(prefix).pings
    from rich.console import Console

    from stream.up import ports
    from stream.up.run import UpOptions, run
    from stream.up.screen import Screen

    at = ports.requested_addresses(metrics, serve, ingest, live_map, count, without=left_out)
    maps = ports.find_maps(ingest_map)
    if "ingest" not in left_out:
        ports.check_senders(at.ingest, maps.values())
    earlier = os.environ.get(HISTORY) or history_of(home, pings, reads_archive=_installed("pyarrow"))
    try:
        of_atlas = atlas_options(history, columns, timezone, home, pings)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--history") from error
    if of_atlas and "atlas" in left_out:
        raise typer.BadParameter("--history is for the atlas, which --without leaves out")
    schedule = None if gtfs is None else gtfs.absolute()
    every = table(
        home, count, at, maps=maps, history=earlier, finds_drift=_installed("river"), of_atlas=of_atlas, gtfs=schedule
    )
    chosen, lines = choose(every, left_out, _installed)
    chosen = join_services(chosen, at.metrics, count)
    if not chosen:
        raise typer.BadParameter("nothing is left to run", param_hint="--without")
    home.make(pings)
    with lock_home(home) as lock, quiet(), Screen(Console(stderr=True)) as screen:
        ports.check(chosen)
        if history is not None and not of_atlas:
            lines.append(f"without --history {history}: nothing has landed in {home.archive_of(pings)} yet")
        for line in lines:
            screen.say("", line)
        asyncio.run(
            run(UpOptions(home, chosen, prefix, bootstrap, redis, partitions, security, redis_security), screen, lock)
        )
        screen.say("", "stopped; nothing is left running")


def _kinds(text: str) -> frozenset[str]:
    kinds = frozenset(word.strip() for word in text.split(",") if word.strip())
    if unknown := sorted(kinds - set(KINDS)):
        raise typer.BadParameter(f"no such part: {unknown[0]} (there are {', '.join(KINDS)})", param_hint="--without")
    return kinds


def _default_workers(bootstrap: str | None) -> int:
    if bootstrap is None:
        return 1  # the embedded broker is for one (stream.up.embedded)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def _installed(module: str) -> bool:
    return find_spec(module) is not None
