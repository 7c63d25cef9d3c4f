"""`pathcast latest`: keeps the newest forecast of each entity in a compacted topic."""

from __future__ import annotations

from typing import Annotated

import typer

from stream.config.options import DEFAULT_BOOTSTRAP, DEFAULT_PREFIX, Bootstrap, Prefix, secured
from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.config.times import seconds
from stream.members.options import Metrics, Once

app = typer.Typer(help="The newest forecast of each entity, in a compacted topic.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The newest forecast of each entity, in a compacted topic."""


@app.command()
@secured
def run(
    expire: Annotated[
        str, typer.Option("--expire", metavar="TIME", help="an entity that is silent for so long gets a tombstone")
    ] = "1h",
    max_rate: Annotated[
        float, typer.Option("--max-rate", min=0.01, max=20, help="updates of one entity in a second, at most")
    ] = 1.0,
    max_entities: Annotated[
        int, typer.Option("--max-entities", min=1, help="of one partition; of more, those silent longest are ended")
    ] = 100_000,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    prefix: Prefix = DEFAULT_PREFIX,
    group: Annotated[
        str | None, typer.Option("--group", help="Kafka consumer group; default: the prefix and -latest")
    ] = None,
    once: Once = False,
    metrics: Metrics = "",
    security: KafkaSecurity = PLAIN_KAFKA,
) -> None:
    """Keep the newest forecast of each entity, with its last gap fill and what else a map draws.

    Reads forecasts and gap fills, and writes PREFIX.latest.v1, which is compacted and keyed by entity. Start one, or
    several that share the partitions; updates and offsets go in one transaction, so whatever dies, the topic's newest
    values are right. Silence is told by the pings' own times.

    [bold]Examples[/]

      pathcast latest run
      pathcast latest run --expire 15m --max-rate 0.2 --bootstrap kafka:9092
    """
    from functools import partial

    from stream.kafka import admin
    from stream.services.latest.taking_over import taken_over
    from stream.services.latest.unit import Rules
    from stream.services.plan import Plan
    from stream.services.running import run as run_member
    from stream.wire import Topics

    expire_s = seconds(expire, "--expire")
    topics = Topics.of(prefix)
    plan = Plan(
        "latest",
        (topics.forecasts, topics.gapfills),
        group or f"{prefix}-latest",
        bootstrap=bootstrap,
        every_s=1 / max_rate,
        once=once,
        kafka=security,
    )

    def provide(partitions: int) -> None:
        with admin.connected(bootstrap, security) as client:
            admin.create_other(client, topics, topics.latest, partitions=partitions)
            admin.check_partitions(client, topics.latest, partitions)

    rules = Rules(expire_ms=int(expire_s * 1000), max_entities=max_entities)
    run_member(plan, partial(taken_over, plan, topics, rules), metrics, provide)
