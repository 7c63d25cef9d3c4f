"""`pathcast export redis` and `postgis`: carry forecasts into other stores, for ever."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from stream.config import failpoints
from stream.config.options import COMMON, Common, log_to_stderr, option, with_common
from stream.config.security import PLAIN_REDIS, RedisSecurity
from stream.config.settings import Settings
from stream.config.times import seconds

if TYPE_CHECKING:
    from stream.client.sinks.running import Store

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


@with_common
def redis(
    redis: Annotated[
        str, option("--redis", "REDIS", "redis://user@host:port/db, or rediss:// for TLS")
    ] = Settings().redis_url,
    key: Annotated[str, typer.Option("--key", help="what the names of all keys begin with")] = "pathcast:geo",
    expire: Expire = "1h",
    since: From = "earliest",
    common: Common = COMMON,
    group: Group = None,
    once: Once = False,
    redis_security: RedisSecurity = PLAIN_REDIS,
) -> None:
    """Keep Redis GEO sets of where every entity is, and where it will be at its next ping and at each horizon.

    Each forecast is written at least once, and a copy does no harm. Several that write there share the partitions.

    [bold]Examples[/]

      pathcast export redis --redis redis://localhost:6379/1
      redis-cli -n 1 GEOSEARCH pathcast:geo:300s FROMLONLAT -97.74 30.28 BYRADIUS 2 km
    """
    from stream.client.sinks.redis_geo import RedisGeo

    store = RedisGeo(redis, redis_security, key=key, expire_s=seconds(expire, "--expire"))
    _run(store, "redis", common, group, since, once)


@with_common
def postgis(
    postgres: Annotated[
        str, option("--postgres", "POSTGRES", "postgresql://user@host:port/database; password: PGPASSWORD")
    ],
    schema: Annotated[str, typer.Option("--schema", help="of the tables; created, if it is missing")] = "public",
    since: From = "earliest",
    common: Common = COMMON,
    group: Group = None,
    once: Once = False,
) -> None:
    """Write every forecast into tables of PostgreSQL with PostGIS, each one once, until it is stopped.

    Several that write there share the partitions.

    [bold]Examples[/]

      pathcast export postgis --postgres postgresql://pathcast@localhost/fleet
      psql fleet -c "SELECT entity_id, ST_AsText(position) FROM positions_newest WHERE h_s = 300"
    """
    from stream.client.sinks.postgis import PostGis

    _run(PostGis(postgres, schema=schema), "postgis", common, group, since, once)


def _run(store: Store, name: str, common: Common, group: str | None, since: str, once: bool) -> None:
    import time

    from stream.client.connecting import TopicAddress
    from stream.client.filter import Since
    from stream.client.sinks.running import Sink

    try:
        begin = Since.of(None if since == "now" else since, time.time_ns() // 1_000_000)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    log_to_stderr()
    where = TopicAddress(common.bootstrap, common.topics.forecasts, group or f"{common.prefix}-{name}", common.security)

    async def serve() -> None:
        sink = Sink(where, store, begin, once=once)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, sink.stop)
        await sink.run()

    asyncio.run(serve())
