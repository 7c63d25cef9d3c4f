"""`pathcast bench serve`: its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.bench.console import on_servers
from stream.bench.options import Bootstrap, Data, Entities, Partitions, Record, RedisUrl, Runs, Timeout, Weights
from stream.config.options import Json
from stream.config.settings import Settings

if TYPE_CHECKING:
    from stream.bench.console import Show
    from stream.bench.harness.report import Report
    from stream.bench.harness.servers import Servers


def serve(
    rate: Annotated[float, typer.Option("--rate", min=1, help="pings/s")] = 1_000.0,
    requests: Annotated[float, typer.Option("--requests", min=1, help="per second, of `pathcast serve`")] = 500.0,
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=3_600, help="per measurement")] = 20.0,
    entities: Entities = 1_000,
    warm_rounds: Annotated[int, typer.Option("--warm-rounds", min=2, help="pings per entity before")] = 64,
    partitions: Partitions = 8,
    runs: Runs = 5,
    weights: Weights = Settings.weights,
    data: Data = None,
    timeout_s: Timeout = 600.0,
    bootstrap: Bootstrap = None,
    redis: RedisUrl = None,
    json: Json = False,
    record: Record = False,
) -> None:
    """A worker's latency alone, beside a `pathcast serve` that nobody asks, and beside one that is asked."""

    def work(servers: Servers, show: Show) -> Report:
        from stream.bench.serving.run import Options, run

        how = {"rate": rate, "requests": requests, "seconds": seconds, "warm_rounds": warm_rounds, "runs": runs}
        more: dict[str, Any] = {**how, "partitions": partitions, "timeout_s": timeout_s, "data": data}
        return run(Options(weights=weights, entities=entities, **more), servers, show)

    on_servers(work, bootstrap, redis, json=json, record=record)
