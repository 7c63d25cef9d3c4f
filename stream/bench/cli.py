"""`pathcast bench`: defines the options of each benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.bench.console import on_servers, shares, showing, tell, whole_numbers
from stream.bench.options import (
    AtlasPassages,
    Bootstrap,
    Data,
    Entities,
    Partitions,
    Record,
    RedisUrl,
    Rounds,
    Runs,
    Timeout,
    Weights,
)
from stream.bench.serving.cli import serve
from stream.bench.swap.cli import swap
from stream.bench.workers.latency_cli import latency
from stream.config.options import Json
from stream.config.settings import Settings

if TYPE_CHECKING:
    from stream.bench.console import Show
    from stream.bench.harness.report import Report
    from stream.bench.harness.servers import Servers

app = typer.Typer(
    help="Measure: the bare model step, a worker, latency, scale, takeover, a change of weights, a soak, atlases, and "
    "others' ways.\n\n"
    "Starts an Apache Kafka (Java and Maven are needed) and a redis-server of its own on loopback, unless --bootstrap "
    "and --redis name running ones, and leaves nothing behind. Nothing is recorded without --record.",
    no_args_is_help=True,
)


@app.command()
def step(
    sizes: Annotated[str, typer.Option("--sizes", help="entities per batch, separated by commas")] = "1,32,256,1024",
    steps: Annotated[int, typer.Option("--steps", min=1, help="per run")] = 100,
    runs: Runs = 5,
    weights: Weights = Settings.weights,
    data: Data = None,
    json: Json = False,
    record: Record = False,
) -> None:
    """The bare model step: advance and forecast, no broker and no store."""
    with showing() as show:
        from stream.bench.workers.step import measured

        report = measured(weights, whole_numbers(sizes, "--sizes"), steps=steps, runs=runs, data=data, show=show)
    tell(report, json=json, record=record)


@app.command()
def scores(
    entities: Entities = 500,
    rounds: Rounds = 100,
    runs: Runs = 3,
    data: Data = None,
    json: Json = False,
    record: Record = False,
) -> None:
    """Scoring one partition's forecasts (pathcast scores run), no broker and no store."""
    with showing() as show:
        from stream.bench.scores import measured

        report = measured(entities, rounds, runs=runs, data=data, show=show)
    tell(report, json=json, record=record)


@app.command()
def worker(
    entities: Entities = 2_000,
    rounds: Rounds = 100,
    partitions: Partitions = 8,
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, max=65_536)] = Settings.max_batch,
    runs: Runs = 5,
    profile: Annotated[bool, typer.Option("--profile/--no-profile", help="where the CPU goes, by py-spy")] = True,
    flame: Annotated[Path | None, typer.Option("--flame", dir_okay=False, help="write a flame graph (SVG)")] = None,
    atlas: Annotated[
        bool, typer.Option("--atlas", help="with an atlas and without, in turn, and no bare step")
    ] = False,
    atlas_passages: AtlasPassages = 1_000_000,
    trace_share: Annotated[
        str | None,
        typer.Option("--trace-share", help="with traces of these shares (0.01,1) and without, in turn"),
    ] = None,
    weights: Weights = Settings.weights,
    data: Data = None,
    timeout_s: Timeout = 600.0,
    bootstrap: Bootstrap = None,
    redis: RedisUrl = None,
    json: Json = False,
    record: Record = False,
) -> None:
    """A filled topic through one worker as fast as it goes, beside the bare step on the same batches."""
    if flame is not None and not flame.absolute().parent.is_dir():
        raise typer.BadParameter(f"no such directory: {flame.parent}", param_hint="--flame")
    if trace_share is not None and (atlas or flame is not None):
        raise typer.BadParameter("not with --atlas or --flame", param_hint="--trace-share")
    traced_shares = None if trace_share is None else shares(trace_share, "--trace-share")

    def work(servers: Servers, show: Show) -> Report:
        from stream.bench.atlas import guided
        from stream.bench.workers.worker import Options, run

        how = {"partitions": partitions, "max_batch": max_batch, "runs": runs, "timeout_s": timeout_s}
        more: dict[str, Any] = {**how, "profile": profile, "flame": flame, "data": data}
        options = Options(weights=weights, entities=entities, rounds=rounds, **more)
        if traced_shares is not None:
            from stream.bench import traced  # needs the extra otel

            return traced.run(options, traced_shares, servers, show)
        return guided.run(options, atlas_passages, servers, show) if atlas else run(options, servers, show)

    on_servers(work, bootstrap, redis, json=json, record=record)


@app.command()
def atlas(
    vehicles: Annotated[
        int, typer.Option("--vehicles", min=1, max=1_000_000, help="simulated, on shared streets")
    ] = 500,
    days: Annotated[float, typer.Option("--days", min=0.01, max=366)] = 7.0,
    every_s: Annotated[float, typer.Option("--every-s", min=1, max=600, help="between two pings of one")] = 60.0,
    at_once: Annotated[int, typer.Option("--at-once", min=1, help="pings that are counted together")] = 65_536,
    weights: Weights = Settings.weights,
    json: Json = False,
    record: Record = False,
) -> None:
    """What a version of the atlas costs to make: size, time and memory, without broker and store."""
    with showing() as show:
        from stream.bench.atlas.versions import Options, run

        report = run(Options(vehicles, days, every_s, at_once, weights), show)
    tell(report, json=json, record=record)


app.command()(latency)


@app.command()
def scale(
    entities: Annotated[str, typer.Option("--entities", help="how many, separated by commas")] = "1000,10000,100000",
    workers: Annotated[str, typer.Option("--workers", help="how many, separated by commas")] = "1,2,4",
    pings: Annotated[int, typer.Option("--pings", min=100, help="per drain at least")] = 200_000,
    workers_entities: Annotated[int, typer.Option("--workers-entities", min=1, max=1_000_000)] = 4_000,
    partitions: Partitions = 8,
    runs: Runs = 5,
    weights: Weights = Settings.weights,
    data: Data = None,
    timeout_s: Timeout = 900.0,
    bootstrap: Bootstrap = None,
    redis: RedisUrl = None,
    json: Json = False,
    record: Record = False,
) -> None:
    """What more entities cost one worker, and what more workers bring."""
    counts, shared = whole_numbers(entities, "--entities"), whole_numbers(workers, "--workers")
    if max(shared) > partitions:
        raise typer.BadParameter(f"{max(shared)} workers cannot share {partitions} partitions", param_hint="--workers")

    def work(servers: Servers, show: Show) -> Report:
        from stream.bench.workers.scale import Options, run

        how = {"workers": shared, "pings": pings, "workers_entities": workers_entities, "runs": runs}
        more: dict[str, Any] = {**how, "partitions": partitions, "timeout_s": timeout_s, "data": data}
        return run(Options(weights=weights, entities=counts, **more), servers, show)

    on_servers(work, bootstrap, redis, json=json, record=record)


@app.command()
def takeover(
    entities: Annotated[str, typer.Option("--entities", help="how many, separated by commas")] = "10000,100000",
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=10_000, help="pings per entity before the death")] = 16,
    partitions: Partitions = 8,
    runs: Runs = 5,
    weights: Weights = Settings.weights,
    other_weights: Annotated[
        str, typer.Option("--other-weights", help="whose worker cannot use the caches: it rebuilds them from windows")
    ] = "small-research",
    data: Data = None,
    timeout_s: Timeout = 1_200.0,
    bootstrap: Bootstrap = None,
    redis: RedisUrl = None,
    json: Json = False,
    record: Record = False,
) -> None:
    """A worker is killed -9: from its successor's assignment to the first forecast of every entity."""
    counts = whole_numbers(entities, "--entities")
    if weights == other_weights:
        raise typer.BadParameter("must differ from --weights", param_hint="--other-weights")

    def work(servers: Servers, show: Show) -> Report:
        from stream.bench.workers.takeover import Options, run

        how = {"entities": counts, "rounds": rounds, "partitions": partitions, "timeout_s": timeout_s, "data": data}
        more: dict[str, Any] = {**how, "runs": runs, "other_weights": other_weights}
        return run(Options(weights=weights, **more), servers, show)

    on_servers(work, bootstrap, redis, json=json, record=record)


app.command()(serve)
app.command()(swap)


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


@app.command()
def start(
    entities: Annotated[
        int | None,
        typer.Option("--entities", min=1, max=1_000_000, help="also measure the memory of a worker with so many"),
    ] = None,
    partitions: Partitions = 8,
    runs: Runs = 3,
    weights: Weights = Settings.weights,
    data: Data = None,
    timeout_s: Timeout = 600.0,
    bootstrap: Bootstrap = None,
    redis: RedisUrl = None,
    json: Json = False,
    record: Record = False,
) -> None:
    """Measure installation and start: sizes, imports, starts without and with kept kernels, memory."""
    from stream.bench.start.run import WORKERS, Options, run

    if partitions < WORKERS:
        raise typer.BadParameter(f"{WORKERS} workers cannot share {partitions}", param_hint="--partitions")

    def work(servers: Servers, show: Show) -> Report:
        how: dict[str, Any] = {"partitions": partitions, "runs": runs, "timeout_s": timeout_s, "data": data}
        return run(Options(weights=weights, entities=entities, **how), servers, show)

    on_servers(work, bootstrap, redis, json=json, record=record)


@app.command()
def peers(
    only: Annotated[str | None, typer.Option("--only", help="of pathcast,floor,faust,faust-take,quix,flink")] = None,
    entities: Entities = 2_000,
    drain: Annotated[bool, typer.Option("--drain/--no-drain", help="a filled topic, as fast as each goes")] = True,
    rounds: Rounds = 100,
    rates: Annotated[
        str, typer.Option("--rates", help='and steady pings/s, separated by commas; "": only the drain')
    ] = "100,1000",
    warm_rounds: Annotated[int, typer.Option("--warm-rounds", min=1, help="pings per entity before")] = 64,
    partitions: Partitions = 8,
    seconds: Annotated[
        float, typer.Option("--seconds", min=1, max=3_600, help="per rate, and per drain at most")
    ] = 30.0,
    take: Annotated[int, typer.Option("--take", min=2, max=65_536, help="pings in one take() of Faust")] = 256,
    runs: Runs = 5,
    weights: Weights = Settings.weights,
    data: Data = None,
    bootstrap: Bootstrap = None,
    redis: RedisUrl = None,
    json: Json = False,
    record: Record = False,
) -> None:
    """The same forecasts by a plain Faust agent, Quix Streams, PyFlink, and constant velocity in our own worker."""
    from stream.bench.peers.compare import run
    from stream.bench.peers.kinds import PEERS, Options

    chosen = tuple(only.split(",")) if only else ()
    if unknown := set(chosen) - set(PEERS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}; there are {', '.join(PEERS)}", param_hint="--only")
    asked = tuple(whole_numbers(rates, "--rates")) if rates.strip() else ()
    if not drain and not asked:
        raise typer.BadParameter("leaves nothing to measure without --rates", param_hint="--no-drain")

    def work(servers: Servers, show: Show) -> Report:
        how = {"rounds": rounds, "warm_rounds": warm_rounds, "seconds": seconds, "take": take, "runs": runs}
        more: dict[str, Any] = {
            **how,
            "drain": drain,
            "rates": asked,
            "partitions": partitions,
            "only": chosen,
            "data": data,
        }
        return run(Options(weights=weights, entities=entities, **more), servers, show)

    on_servers(work, bootstrap, redis, json=json, record=record)
