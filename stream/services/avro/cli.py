"""`pathcast beside avro`: forecasts and gap fills as Avro, with a schema registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.config.options import option
from stream.config.security import secret
from stream.members.command import ServiceOptions
from stream.members.running import Service

if TYPE_CHECKING:
    from stream.services.avro.registry import SchemaRegistry
    from stream.services.avro.unit import Encoding

EVERY_S = 0.1  # between two transactions: a subscriber that waits less reads the JSON


def offer(
    common: ServiceOptions,
    schema_registry: Annotated[str, option("--schema-registry", "SCHEMA_REGISTRY", "URL of the registry of schemas")],
    registry_user: Annotated[
        str | None,
        typer.Option(
            "--schema-registry-user",
            envvar="PATHCAST_SCHEMA_REGISTRY_USER",
            help="password: PATHCAST_SCHEMA_REGISTRY_PASSWORD or ..._FILE",
        ),
    ] = None,
    registry_ca: Annotated[
        Path | None, option("--schema-registry-ca", "SCHEMA_REGISTRY_CA", "CA for https://, PEM")
    ] = None,
    register: Annotated[
        bool, typer.Option("--register/--no-register", help="register schemas that the registry does not have")
    ] = True,
    gapfills: Annotated[bool, typer.Option("--gapfills/--no-gapfills", help="gap fills, too")] = True,
    avro_group: Annotated[
        str | None, typer.Option("--avro-group", help="Kafka consumer group; default: PREFIX-avro")
    ] = None,
) -> Service:
    """Turns forecasts and gap fills into Avro, each exactly once."""
    from stream.services.avro.registry import SchemaRegistry
    from stream.services.avro.unit import AvroUnit
    from stream.services.member import creating, service
    from stream.services.plan import Plan, Taken
    from stream.wire import Topics

    topics = Topics.of(common.prefix)
    registry = SchemaRegistry(schema_registry, registry_user, secret("SCHEMA_REGISTRY_PASSWORD"), registry_ca)
    records = {topics.forecasts: "forecast", **({topics.gapfills: "gapfill"} if gapfills else {})}
    plan = Plan(
        "avro",
        tuple(records),
        avro_group or f"{common.prefix}-avro",
        bootstrap=common.bootstrap,
        every_s=EVERY_S,
        once=common.once,
        kafka=common.kafka,
    )
    encodings = {topic: _encoding(registry, topic, name, register=register) for topic, name in records.items()}

    async def begin(taken: Taken) -> AvroUnit:
        return AvroUnit(taken.number, encodings)

    return service(plan, begin, creating(plan, topics, *(one.topic for one in encodings.values())))


def _encoding(registry: SchemaRegistry, topic: str, name: str, *, register: bool) -> Encoding:
    from stream.contracts.avro_schema import avro_schema
    from stream.contracts.catalog import contract
    from stream.services.avro.unit import Encoding

    schema, there = avro_schema(contract(name)), avro_topic(topic)
    ask = registry.register if register else registry.look_up
    return Encoding.of(there, ask(f"{there}-value", schema), schema)


def avro_topic(topic: str) -> str:
    """Returns the topic of the Avro records of a topic: pathcast.forecasts.avro.v1 of pathcast.forecasts.v1."""
    return topic.removesuffix(".v1") + ".avro.v1"
