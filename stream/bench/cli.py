"""`pathcast dev bench`: defines the options of each benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.bench.console import on_servers, whole_numbers
from stream.config.options import Json
from stream.config.settings import Settings

if TYPE_CHECKING:
    from stream.bench.console import Show
    from stream.bench.harness.report import Report
    from stream.bench.harness.servers import Servers

Bootstrap = Annotated[
    str | None, typer.Option("--bootstrap", help="a running Kafka, host:port; default: an Apache Kafka of our own")
]
RedisUrl = Annotated[str | None, typer.Option("--redis", help="a running Redis; default: one of our own")]
Weights = Annotated[str, typer.Option("--weights", help="a bundled name or a directory")]
Record = Annotated[bool, typer.Option("--record", help="put the results into reports/bench.md, here")]
Data = Annotated[
    Path | None, typer.Option("--data", exists=True, dir_okay=False, help="tracks to use; default: the bundled buses")
]
Entities = Annotated[int, typer.Option("--entities", min=1, max=1_000_000)]
Rounds = Annotated[int, typer.Option("--rounds", min=2, max=100_000, help="pings per entity")]
Partitions = Annotated[int, typer.Option("--partitions", min=1, max=256)]
Runs = Annotated[int, typer.Option("--runs", min=1, max=100, help="each number is the median of so many")]
Timeout = Annotated[float, typer.Option("--timeout-s", min=1, max=7_200, help="the longest that one phase may take")]
AtlasPassages = Annotated[int, typer.Option("--atlas-passages", min=1, help="the least in the atlas")]

app = typer.Typer(
    help="Measure what this machine takes: a worker as fast as it goes, latencies, and a steady rate for long.\n\n"
    "Starts an Apache Kafka (Java and Maven are needed) and a redis-server of its own on loopback, unless --bootstrap "
    "and --redis name running ones, and leaves nothing behind. Nothing is recorded without --record. "
    "Benchmarks for developers are in tests/bench of the repository.",
    no_args_is_help=True,
)


@app.command()
def worker(
    entities: Entities = 2_000,
    rounds: Rounds = 100,
    partitions: Partitions = 8,
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, max=65_536)] = Settings.max_batch,
    runs: Runs = 5,
    profile: Annotated[bool, typer.Option("--profile/--no-profile", help="where the CPU goes, by py-spy")] = True,
    atlas: Annotated[bool, typer.Option("--atlas", help="with an atlas and without, in turn")] = False,
    atlas_passages: AtlasPassages = 1_000_000,
    weights: Weights = Settings.weights,
    data: Data = None,
    timeout_s: Timeout = 600.0,
    bootstrap: Bootstrap = None,
    redis: RedisUrl = None,
    json: Json = False,
    record: Record = False,
) -> None:
    """A filled topic through one worker as fast as it goes."""

    def work(servers: Servers, show: Show) -> Report:
        from stream.bench.atlas import guided
        from stream.bench.workers.worker import Options, run

        how = {"partitions": partitions, "max_batch": max_batch, "runs": runs, "timeout_s": timeout_s}
        more: dict[str, Any] = {**how, "profile": profile, "data": data}
        options = Options(weights=weights, entities=entities, rounds=rounds, **more)
        return guided.run(options, atlas_passages, servers, show) if atlas else run(options, servers, show)

    on_servers(work, bootstrap, redis, json=json, record=record)


@app.command()
def latency(
    rates: Annotated[str, typer.Option("--rates", help="pings/s, separated by commas")] = "100,1000,5000",
    of_max: Annotated[
        float,
        typer.Option("--of-max", min=0, max=5, help="and this part of the most that it keeps up with; 0: not that"),
    ] = 0.8,
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=3_600, help="per rate and run")] = 20.0,
    runs: Runs = 5,
    entities: Entities = 1_000,
    warm_rounds: Annotated[int, typer.Option("--warm-rounds", min=2, help="pings per entity before")] = 64,
    partitions: Partitions = 8,
    atlas: Annotated[
        bool, typer.Option("--atlas", help="with an atlas and without, in turn, at --rates alone")
    ] = False,
    atlas_passages: AtlasPassages = 1_000_000,
    weights: Weights = Settings.weights,
    data: Data = None,
    timeout_s: Timeout = 600.0,
    bootstrap: Bootstrap = None,
    redis: RedisUrl = None,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="on the demo's embedded broker and store, which this starts")
    ] = False,
    json: Json = False,
    record: Record = False,
) -> None:
    """From when a ping is due to its forecast in a subscriber: p50, p99, p99.9, by an open-loop feeder; and the CPU of
    worker and broker, also without pings."""
    if embedded and (bootstrap or redis):
        raise typer.BadParameter("starts its own servers: not with --bootstrap or --redis", param_hint="--embedded")
    asked = tuple(whole_numbers(rates, "--rates"))

    def work(servers: Servers, show: Show) -> Report:
        from stream.bench.atlas import latency as guided
        from stream.bench.workers.latency import Options, run

        how = {"rates": asked, "of_max": of_max or None, "seconds": seconds, "runs": runs, "warm_rounds": warm_rounds}
        more: dict[str, Any] = {**how, "partitions": partitions, "timeout_s": timeout_s, "data": data}
        options = Options(weights=weights, entities=entities, **more)
        return guided.run(options, atlas_passages, servers, show) if atlas else run(options, servers, show)

    on_servers(work, bootstrap, redis, embedded=embedded, json=json, record=record)


@app.command()
def soak(
    seconds: Annotated[float, typer.Option("--seconds", min=60, max=86_400)] = 1_800.0,
    of_max: Annotated[
        float, typer.Option("--of-max", min=0.01, max=2, help="part of the most that it keeps up with")
    ] = 0.8,
    rate: Annotated[float | None, typer.Option("--rate", min=1, help="pings/s, instead of --of-max")] = None,
    entities: Entities = 1_000,
    warm_rounds: Annotated[int, typer.Option("--warm-rounds", min=2, help="pings per entity before")] = 64,
    partitions: Partitions = 8,
    weights: Weights = Settings.weights,
    data: Data = None,
    timeout_s: Timeout = 600.0,
    bootstrap: Bootstrap = None,
    redis: RedisUrl = None,
    json: Json = False,
    record: Record = False,
) -> None:
    """A steady rate for a long time: the worker's memory, Redis's, and the lag."""

    def work(servers: Servers, show: Show) -> Report:
        from stream.bench.workers.soak import Options, run

        how = {"seconds": seconds, "of_max": of_max, "rate": rate, "warm_rounds": warm_rounds}
        more: dict[str, Any] = {**how, "partitions": partitions, "timeout_s": timeout_s, "data": data}
        return run(Options(weights=weights, entities=entities, **more), servers, show)

    on_servers(work, bootstrap, redis, json=json, record=record)
