"""`pathcast bench latency`: its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.bench.console import on_servers, whole_numbers
from stream.bench.options import (
    AtlasPassages,
    Bootstrap,
    Data,
    Entities,
    Partitions,
    Record,
    RedisUrl,
    Runs,
    Timeout,
    Weights,
)
from stream.config.options import Json
from stream.config.settings import Settings

if TYPE_CHECKING:
    from stream.bench.console import Show
    from stream.bench.harness.report import Report
    from stream.bench.harness.servers import Servers


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
