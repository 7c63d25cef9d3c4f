"""`pathcast up`: the command that runs a whole fleet's pathcast on one machine."""

from __future__ import annotations

import asyncio
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from stream.config.options import DEFAULT_PREFIX, Prefix, quiet, secured
from stream.config.security import PLAIN_KAFKA, PLAIN_REDIS, KafkaSecurity, RedisSecurity
from stream.up.home import Home, locked
from stream.up.parts import KINDS, choose, history_of, joined, table
from stream.wire import Topics

HISTORY = "PATHCAST_HISTORY"  # of `pathcast beside arrivals`; what is set there stays

HELP = """Run everything on this machine: workers, atlas, archive, scores, arrivals, HTTP API, ingest, refresh and map.

Without --bootstrap and --redis it starts its own broker and store, for trying out; their data stays in --dir. A part
that dies is started again. Ctrl-C or SIGTERM stops all parts in order, and leaves no process behind; the same command
then goes on where it stopped. The log of each part is in DIR/logs; its warnings are shown here, too.

Parts are worker (a process per core but one; one with the embedded broker), atlas, archive, scores, guard, latest,
serve, arrivals, ingest, refresh and map. Six of them share one process, `beside`: atlas, archive, scores, guard, latest
and arrivals. Settings of parts come from their environment variables, such as PATHCAST_WEIGHTS.

[bold]Examples[/]

  pathcast up
  pathcast up --bootstrap localhost:9092 --redis redis://localhost:6379/0 --dir /srv/pathcast
  pathcast up --workers 4 --without archive,refresh
  pathcast up --serve 0.0.0.0:9480 --ingest 8081 --ingest-map samsara
"""


@secured
def up(
    directory: Annotated[
        Path, typer.Option("--dir", envvar="PATHCAST_DIR", file_okay=False, help="where everything is kept")
    ] = Path("pathcast-data"),
    bootstrap: Annotated[
        str | None,
        typer.Option("--bootstrap", envvar="PATHCAST_BOOTSTRAP", help="Kafka, host:port[,...]; default: embedded"),
    ] = None,
    redis: Annotated[
        str | None, typer.Option("--redis", envvar="PATHCAST_REDIS", help="Redis or Valkey; default: embedded")
    ] = None,
    prefix: Prefix = DEFAULT_PREFIX,
    workers: Annotated[
        int | None,
        typer.Option("--workers", envvar="PATHCAST_WORKERS", min=1, max=256, help="default: the cores but one"),
    ] = None,
    without: Annotated[str, typer.Option("--without", metavar="PART,...", help="parts that are not to run")] = "",
    partitions: Annotated[
        int | None,
        typer.Option("--partitions", envvar="PATHCAST_PARTITIONS", min=1, max=10_000, help="partitions of new topics"),
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
        str,
        typer.Option(
            "--ingest", envvar="PATHCAST_INGEST_LISTEN", help="where pings are taken by HTTP, in the same form"
        ),
    ] = "8080",
    live_map: Annotated[
        str, typer.Option("--map", envvar="PATHCAST_MAP_LISTEN", help="where the live map is shown, in the same form")
    ] = "8765",
    ingest_map: Annotated[
        list[str] | None,
        typer.Option(
            "--ingest-map",
            metavar="NAME|FILE",
            help="what is taken there, as `pathcast ingest http --map` has it; may be repeated; default: all presets",
        ),
    ] = None,
    security: KafkaSecurity = PLAIN_KAFKA,
    redis_security: RedisSecurity = PLAIN_REDIS,
) -> None:
    if bootstrap is None and security != PLAIN_KAFKA:
        raise typer.BadParameter("--kafka-... are for a Kafka of your own: give --bootstrap")
    if redis is None and redis_security != PLAIN_REDIS:
        raise typer.BadParameter("a password or --redis-ca are for a Redis of your own: give --redis")
    left_out = _kinds(without)
    home, count = Home(directory.absolute()), workers or _default_workers(bootstrap)
    pings = Topics.of(prefix).pings
    from rich.console import Console

    from stream.up import doors
    from stream.up.run import Options, run
    from stream.up.screen import Screen

    at = doors.asked(metrics, serve, ingest, live_map, count)
    maps = doors.maps_of(ingest_map)
    if "ingest" not in left_out:
        doors.check_senders(at.ingest, maps.values())
    history = os.environ.get(HISTORY) or history_of(home, pings, reads_archive=_installed("pyarrow"))
    every = table(home, count, at, maps=maps, history=history, finds_drift=_installed("river"))
    chosen, lines = choose(every, left_out, _installed)
    chosen = joined(chosen, at.metrics, count)
    if not chosen:
        raise typer.BadParameter("nothing is left to run", param_hint="--without")
    home.make(pings)
    with locked(home) as lock, quiet(), Screen(Console(stderr=True)) as screen:
        doors.check(chosen)
        for line in lines:
            screen.say("", line)
        asyncio.run(
            run(Options(home, chosen, prefix, bootstrap, redis, partitions, security, redis_security), screen, lock)
        )
        screen.say("", "stopped; nothing is left running")


up.__doc__ = HELP


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
