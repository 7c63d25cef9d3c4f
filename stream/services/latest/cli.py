"""`pathcast beside latest`: keeps the newest forecast of each entity in a compacted topic."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from stream.config.times import seconds
from stream.members.command import ServiceOptions
from stream.members.running import Service


def offer(
    common: ServiceOptions,
    expire: Annotated[
        str, typer.Option("--expire", metavar="TIME", help="an entity that is silent for so long gets a tombstone")
    ] = "1h",
    max_rate: Annotated[
        float, typer.Option("--max-rate", min=0.01, max=20, help="updates of one entity in a second, at most")
    ] = 1.0,
    latest_max_entities: Annotated[
        int,
        typer.Option("--latest-max-entities", min=1, help="of one partition; of more, those silent longest are ended"),
    ] = 100_000,
    latest_group: Annotated[
        str | None, typer.Option("--latest-group", help="Kafka consumer group; default: PREFIX-latest")
    ] = None,
) -> Service:
    """Keeps the newest forecast of each entity, with its last gap fill and what else a map draws."""
    from stream.services.latest.taking_over import take_over
    from stream.services.latest.unit import LatestRules
    from stream.services.member import creating, service
    from stream.services.plan import Plan
    from stream.wire import Topics

    expire_s = seconds(expire, "--expire")
    topics = Topics.of(common.prefix)
    plan = Plan(
        "latest",
        (topics.forecasts, topics.gapfills),
        latest_group or f"{common.prefix}-latest",
        bootstrap=common.bootstrap,
        every_s=1 / max_rate,
        once=common.once,
        kafka=common.kafka,
    )

    rules = LatestRules(expire_ms=int(expire_s * 1000), max_entities=latest_max_entities)
    return service(plan, partial(take_over, plan, topics, rules), creating(plan, topics, topics.latest))
