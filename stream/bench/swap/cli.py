"""`pathcast bench swap`: its options."""

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


def swap(
    entities: Entities = 10_000,
    rate: Annotated[float, typer.Option("--rate", min=1, help="pings/s")] = 2_000.0,
    ramp: Annotated[float, typer.Option("--ramp", min=0, help="seconds until all entities follow")] = 60.0,
    lead_s: Annotated[float, typer.Option("--lead-s", min=1, help="from the announcement to its first ping")] = 15.0,
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=3_600, help="before, and after")] = 20.0,
    runs: Runs = 3,
    warm_rounds: Annotated[int, typer.Option("--warm-rounds", min=2, help="pings per entity before")] = 180,
    partitions: Partitions = 8,
    weights: Weights = Settings.weights,
    other_weights: Annotated[str, typer.Option("--other-weights", help="to change to, and back")] = "small-research",
    data: Data = None,
    timeout_s: Timeout = 1_200.0,
    bootstrap: Bootstrap = None,
    redis: RedisUrl = None,
    json: Json = False,
    record: Record = False,
) -> None:
    """A worker changes its weights under a steady load: latency before, while entities are rebuilt, and after."""
    if weights == other_weights:
        raise typer.BadParameter("must differ from --weights", param_hint="--other-weights")

    def work(servers: Servers, show: Show) -> Report:
        from stream.bench.swap.run import Options, run

        how = {"rate": rate, "ramp_s": ramp, "lead_s": lead_s, "seconds": seconds, "warm_rounds": warm_rounds}
        more: dict[str, Any] = {**how, "runs": runs, "partitions": partitions, "timeout_s": timeout_s, "data": data}
        options = Options(weights=weights, other_weights=other_weights, entities=entities, **more)
        return run(options, servers, show)

    on_servers(work, bootstrap, redis, json=json, record=record)
