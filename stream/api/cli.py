"""`pathcast serve`: the options."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from stream.api.options import ApiOptions, ServeOptions, ServerOptions
from stream.config.http_access import SERVE_TOKEN, address_of, check_free, token
from stream.config.options import (
    SERVERS,
    BasemapText,
    RegistryCache,
    RegistryUrl,
    Servers,
    log_to_stderr,
    option,
    with_common,
)
from stream.config.priority import yield_cores
from stream.config.settings import NO_TRACES, Settings, Traces
from stream.config.times import seconds


@with_common
def serve(
    servers: Servers = SERVERS,
    weights: Annotated[
        str, option("--weights", "WEIGHTS", "of the workers: a bundled name or a directory")
    ] = Settings.weights,
    registry: RegistryUrl | None = None,
    cache: RegistryCache = None,
    atlases: Annotated[
        Path | None, option("--atlases", "ATLASES", "of the workers, if they ask atlases", exists=True, file_okay=False)
    ] = None,
    listen: Annotated[
        str, option("--listen", "SERVE_LISTEN", "HOST:PORT, or a loopback PORT; 0 is a free one")
    ] = "9480",
    rate: Annotated[float, option("--rate", "SERVE_RATE", "requests per second of one client", min=0.01)] = 50.0,
    burst: Annotated[float, option("--burst", "SERVE_BURST", "requests of one client at once", min=1)] = 100.0,
    behind_proxy: Annotated[
        bool,
        option("--behind-proxy", "SERVE_BEHIND_PROXY", "a proxy names the client as the last one in X-Forwarded-For"),
    ] = False,
    cors_origin: Annotated[
        list[str] | None,
        option("--cors-origin", "SERVE_CORS_ORIGIN", "whose pages may read answers, as https://example.org; or *"),
    ] = None,
    max_connections: Annotated[
        int, option("--max-connections", "SERVE_MAX_CONNECTIONS", "open at once", min=1)
    ] = 1_024,
    max_streams: Annotated[int, option("--max-streams", "SERVE_MAX_STREAMS", "open at once", min=0)] = 200,
    max_entities: Annotated[
        int,
        option("--max-listed-entities", "SERVE_MAX_LISTED_ENTITIES", "with forecasts in memory, 1.3 KB each", min=1),
    ] = 100_000,
    keep: Annotated[
        str, option("--keep", "SERVE_KEEP", "for how long after its last forecast an entity is listed", metavar="TIME")
    ] = "1h",
    stale_after: Annotated[
        str, option("--stale-after", "SERVE_STALE_AFTER", "after a ping this old, nothing is forecast", metavar="TIME")
    ] = "1h",
    nice: Annotated[
        int, option("--nice", "SERVE_NICE", "how much it yields to other processes, as nice does", min=0, max=19)
    ] = 10,
    with_map: Annotated[
        bool,
        typer.Option("--map", help="serve the live map, too, at /; other settings: pathcast map's PATHCAST_MAP_..."),
    ] = False,
    basemap: BasemapText = None,
    openapi: Annotated[bool, typer.Option("--openapi", help="print the OpenAPI document, and stop")] = False,
    traces: Traces = NO_TRACES,
) -> None:
    """Answer questions over HTTP: where an entity will be, when it arrives, what a track did in its gaps, who is
    where; and send what happens as server-sent events or through a WebSocket.

    Runs beside the workers, and reads the states that they store in Redis and the forecasts that they publish. It
    writes nothing and takes no partitions. Its process yields to others of the machine (--nice). With --map it also
    shows the fleet in a browser, as `pathcast map` does, at the same address; without a token of its own the map takes
    this one.

    Clients send the token of PATHCAST_SERVE_TOKEN, or of the file that PATHCAST_SERVE_TOKEN_FILE names, as
    `Authorization: Bearer TOKEN`. It is plain HTTP: put a proxy with TLS before a port that others reach.

    [bold]Examples[/]

      pathcast serve
      pathcast serve --bootstrap kafka:9092 --redis redis://redis:6379/0 --listen 0.0.0.0:9480
      pathcast serve --map
      pathcast serve --registry /srv/pathcast/registry --atlases /srv/pathcast/atlases
      pathcast serve --openapi > openapi.json
    """
    if openapi:
        from stream.api.openapi import as_json

        sys.stdout.buffer.write(as_json() + b"\n")
        return
    settings = servers.settings(weights=weights, atlases=atlases, registry=registry)
    address = address_of(listen, "--listen")
    keep_s, stale_s = seconds(keep, "--keep"), seconds(stale_after, "--stale-after")
    log_to_stderr()
    from stream.api import process
    from stream.api.map.cli import MapSettings

    secret = token(os.environ, SERVE_TOKEN)
    if basemap and not with_map and basemap != os.environ.get("PATHCAST_MAP_BASEMAP"):
        raise typer.BadParameter("it is for the map: give --map, too", param_hint="--basemap")
    shown = replace(MapSettings.of_environment(), basemap=basemap).parse(secret) if with_map else None
    check_free(address, "serve the API")
    api = ApiOptions(
        token=secret,
        origins=tuple(cors_origin or ()),
        most_entities=max_entities,
        keep_s=float(keep_s),
        stale_s=float(stale_s),
        registry_cache=cache,
        traces=traces,
    )
    server = ServerOptions(address, rate, burst, behind_proxy, max_connections, max_streams)
    how = ServeOptions(settings, server, api, shown)
    yield_cores(nice)
    asyncio.run(process.serve(how, (signal.SIGTERM, signal.SIGINT)))
