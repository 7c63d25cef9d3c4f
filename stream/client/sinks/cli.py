"""`pathcast sink`: carries forecasts into Redis or PostGIS, for ever."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from stream.config import failpoints
from stream.config.options import DEFAULT_BOOTSTRAP, DEFAULT_PREFIX, Bootstrap, Prefix, log_to_stderr, secured
from stream.config.security import PLAIN_KAFKA, PLAIN_REDIS, KafkaSecurity, RedisSecurity
from stream.config.settings import Settings
from stream.config.times import seconds

if TYPE_CHECKING:
    from stream.client.sinks.running import Store

app = typer.Typer(
    help="Forecasts into other stores: where everything is and will be, as others already ask for it.\n\n"
    "Each forecast is written at least once, and a copy does no harm. Several of one kind share the partitions.",
    no_args_is_help=True,
)

Group = Annotated[
    str | None, typer.Option("--group", help="Kafka consumer group of those that write there; default: PREFIX-NAME")
]
From = Annotated[
    str,
    typer.Option("--since", metavar="TIME", help="where a new group begins: earliest, now, 10m, or an RFC 3339 time"),
]
Once = Annotated[bool, typer.Option("--once", help="up to the present end, then exit")]
Expire = Annotated[
    str, typer.Option("--expire", metavar="TIME", help="an entity without a forecast for so long is removed")
]


@app.command()
@secured
def redis(
    redis: Annotated[
        str, typer.Option("--redis", envvar="PATHCAST_REDIS", help="redis://user@host:port/db, or rediss:// for TLS")
    ] = Settings().redis_url,
    key: Annotated[str, typer.Option("--key", help="what the names of all keys begin with")] = "pathcast:geo",
    expire: Expire = "1h",
    since: From = "earliest",
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    prefix: Prefix = DEFAULT_PREFIX,
    group: Group = None,
    once: Once = False,
    security: KafkaSecurity = PLAIN_KAFKA,
    redis_security: RedisSecurity = PLAIN_REDIS,
) -> None:
    """Keep Redis GEO sets of where every entity is, and where it will be at its next ping and at each horizon.

    [bold]Examples[/]

      pathcast sink redis --redis redis://localhost:6379/1
      redis-cli -n 1 GEOSEARCH pathcast:geo:300s FROMLONLAT -97.74 30.28 BYRADIUS 2 km
    """
    from stream.client.sinks.redis_geo import RedisGeo

    store = RedisGeo(redis, redis_security, key=key, expire_s=seconds(expire, "--expire"))
    _run(store, "redis", bootstrap, prefix, group, since, once, security)


@app.command()
@secured
def postgis(
    postgres: Annotated[
        str,
        typer.Option(
            "--postgres", envvar="PATHCAST_POSTGRES", help="postgresql://user@host:port/database; password: PGPASSWORD"
        ),
    ],
    schema: Annotated[str, typer.Option("--schema", help="of the tables; created, if it is missing")] = "public",
    since: From = "earliest",
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    prefix: Prefix = DEFAULT_PREFIX,
    group: Group = None,
    once: Once = False,
    security: KafkaSecurity = PLAIN_KAFKA,
) -> None:
    """Write every forecast into tables of PostgreSQL with PostGIS, each one once.

    [bold]Examples[/]

      pathcast sink postgis --postgres postgresql://pathcast@localhost/fleet
      psql fleet -c "SELECT entity_id, ST_AsText(position) FROM positions_newest WHERE h_s = 300"
    """
    from stream.client.sinks.postgis import PostGis

    _run(PostGis(postgres, schema=schema), "postgis", bootstrap, prefix, group, since, once, security)


def _run(
    store: Store,
    name: str,
    bootstrap: str,
    prefix: str,
    group: str | None,
    since: str,
    once: bool,
    security: KafkaSecurity,
) -> None:
    import time

    from stream.client.connecting import Where
    from stream.client.filter import Since
    from stream.client.sinks.running import Sink
    from stream.wire import Topics

    try:
        begin = Since.of(None if since == "now" else since, time.time_ns() // 1_000_000)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    log_to_stderr()
    where = Where(bootstrap, Topics.of(prefix).forecasts, group or f"{prefix}-{name}", security)

    async def serve() -> None:
        sink = Sink(where, store, begin, once=once)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, sink.stop)
        await sink.run()

    asyncio.run(serve())
