"""`pathcast avro`: forecasts and gap fills as Avro, with a schema registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.config.options import DEFAULT_BOOTSTRAP, DEFAULT_PREFIX, Bootstrap, Prefix, secured
from stream.config.security import PLAIN_KAFKA, KafkaSecurity, secret
from stream.members.options import Metrics, Once

if TYPE_CHECKING:
    from stream.services.avro.registry import SchemaRegistry
    from stream.services.avro.unit import Encoding

app = typer.Typer(help="Forecasts and gap fills as Avro.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Forecasts and gap fills as Avro."""


@app.command()
@secured
def run(
    schema_registry: Annotated[
        str,
        typer.Option("--schema-registry", envvar="PATHCAST_SCHEMA_REGISTRY", help="URL of the registry of schemas"),
    ],
    registry_user: Annotated[
        str | None,
        typer.Option(
            "--schema-registry-user",
            envvar="PATHCAST_SCHEMA_REGISTRY_USER",
            help="password: PATHCAST_SCHEMA_REGISTRY_PASSWORD or ..._FILE",
        ),
    ] = None,
    registry_ca: Annotated[
        Path | None,
        typer.Option("--schema-registry-ca", envvar="PATHCAST_SCHEMA_REGISTRY_CA", help="CA for https://, PEM"),
    ] = None,
    register: Annotated[
        bool, typer.Option("--register/--no-register", help="register schemas that the registry does not have")
    ] = True,
    gapfills: Annotated[bool, typer.Option("--gapfills/--no-gapfills", help="gap fills, too")] = True,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    prefix: Prefix = DEFAULT_PREFIX,
    group: Annotated[
        str | None, typer.Option("--group", help="Kafka consumer group; default: the prefix and -avro")
    ] = None,
    once: Once = False,
    metrics: Metrics = "",
    security: KafkaSecurity = PLAIN_KAFKA,
) -> None:
    """Turn forecasts and gap fills into Avro, each exactly once.

    Writes PREFIX.forecasts.avro.v1 and PREFIX.gapfills.avro.v1, in the framing of Confluent's serializers, and
    registers the schemas under TOPIC-value. Key, headers and fields are those of the JSON. Start one, or several that
    share the partitions.

    [bold]Examples[/]

      pathcast avro run --schema-registry http://registry:8081
      pathcast avro run --schema-registry http://apicurio:8080/apis/ccompat/v7 --no-gapfills
    """
    from stream.kafka import admin
    from stream.services.avro.registry import SchemaRegistry
    from stream.services.avro.unit import AvroUnit
    from stream.services.plan import Plan, Taken
    from stream.services.running import run as run_member
    from stream.wire import Topics

    topics = Topics.of(prefix)
    registry = SchemaRegistry(schema_registry, registry_user, secret("SCHEMA_REGISTRY_PASSWORD"), registry_ca)
    records = {topics.forecasts: "forecast", **({topics.gapfills: "gapfill"} if gapfills else {})}
    plan = Plan(
        "avro",
        tuple(records),
        group or f"{prefix}-avro",
        bootstrap=bootstrap,
        every_s=EVERY_S,
        once=once,
        kafka=security,
    )
    encodings = {topic: _encoding(registry, topic, name, register=register) for topic, name in records.items()}

    def provide(partitions: int) -> None:
        with admin.connected(bootstrap, security) as client:
            for one in encodings.values():
                admin.create_other(client, topics, one.topic, partitions=partitions)
                admin.check_partitions(client, one.topic, partitions)

    async def begin(taken: Taken) -> AvroUnit:
        return AvroUnit(taken.number, encodings)

    run_member(plan, begin, metrics, provide)


EVERY_S = 0.1  # between two transactions: a subscriber that waits less reads the JSON


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
