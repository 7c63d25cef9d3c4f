"""`pathcast map`: the options."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Final

import typer

from stream.api.map.sources.basemap import Basemap, parse_basemap
from stream.api.options import KINDS, MapOptions, ServeOptions, ServerOptions
from stream.config.http_access import MAP_TOKEN, address_of, check_free, token
from stream.config.options import COMMON, BasemapText, Common, log_to_stderr, option, with_common
from stream.config.priority import yield_cores
from stream.config.settings import Settings
from stream.config.times import seconds


@dataclass(frozen=True)
class MapSettings:
    """Declares the options of what is shown."""

    source: Annotated[
        str | None,
        option("--source", "MAP_SOURCE", "latest or forecasts: which topic is followed; default: latest, if it exists"),
    ] = None
    basemap: BasemapText = None
    title: Annotated[str, option("--title", "MAP_TITLE", "of the page")] = "pathcast"
    keep: Annotated[
        str, option("--keep", "MAP_KEEP", "how far back tracks and former forecasts go", metavar="TIME")
    ] = "10m"
    stale_after: Annotated[
        str, option("--stale-after", "MAP_STALE_AFTER", "after such a silence, an entity is grey", metavar="TIME")
    ] = "5m"
    expire: Annotated[
        str,
        option("--expire", "MAP_EXPIRE", "after such a silence, it is gone (of the forecasts topic)", metavar="TIME"),
    ] = "1h"
    max_entities: Annotated[
        int, option("--max-entities", "MAP_MAX_ENTITIES", "in memory, at most some 45 KB each", min=1)
    ] = 20_000

    @classmethod
    def of_environment(cls) -> MapSettings:
        """Returns what the variables of `pathcast map` say, for another command that shows the map, too. Raises
        BadParameter."""
        app = typer.Typer()
        app.command()(show_map)
        given = typer.main.get_command(app).make_context("map", []).params
        return cls(**{one.name: given[one.name] for one in fields(cls)})

    def parse(self, secret: str | None = None) -> MapOptions:
        """Returns what is shown, to those who have the token of the map, or else `secret`. Raises BadParameter,
        ValueError, OSError."""
        kind = next((one for one in KINDS if one == self.source), None)
        if self.source is not None and kind is None:
            raise typer.BadParameter(f"{self.source!r} is not {' or '.join(KINDS)}", param_hint="--source")
        return MapOptions(
            token=token(os.environ, MAP_TOKEN) or secret,
            source=kind,
            basemap=check_basemap(self.basemap),
            title=self.title,
            most_entities=self.max_entities,
            keep_s=float(seconds(self.keep, "--keep")),
            stale_s=float(seconds(self.stale_after, "--stale-after")),
            expire_s=float(seconds(self.expire, "--expire")),
        )


def check_basemap(text: str | None) -> Basemap | None:
    """Returns what `--basemap` says, None if it says nothing. Raises BadParameter."""
    try:
        return parse_basemap(text) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--basemap") from None


SETTINGS: Final = MapSettings()


@with_common
def show_map(
    common: Common = COMMON,
    listen: Annotated[
        str, option("--listen", "MAP_LISTEN", "HOST:PORT, or a loopback PORT; 0 is a free one")
    ] = "127.0.0.1:8765",
    shown: MapSettings = SETTINGS,
    atlases: Annotated[
        Path | None,
        option(
            "--atlases", "ATLASES", "of the workers: its newest atlas is drawn as streets", exists=True, file_okay=False
        ),
    ] = None,
    rate: Annotated[float, option("--rate", "MAP_RATE", "requests per second of one client", min=0.01)] = 50.0,
    burst: Annotated[float, option("--burst", "MAP_BURST", "requests of one client at once", min=1)] = 100.0,
    behind_proxy: Annotated[
        bool,
        option("--behind-proxy", "MAP_BEHIND_PROXY", "a proxy names the client as the last one in X-Forwarded-For"),
    ] = False,
    max_connections: Annotated[int, option("--max-connections", "MAP_MAX_CONNECTIONS", "open at once", min=1)] = 1_024,
    max_streams: Annotated[
        int, option("--max-streams", "MAP_MAX_STREAMS", "open pages that get updates, at once", min=0)
    ] = 200,
    nice: Annotated[
        int, option("--nice", "MAP_NICE", "how much it yields to other processes, as nice does", min=0, max=19)
    ] = 10,
) -> None:
    """Show a live map of the fleet in a browser: where entities are, and where they will be.

    This is `pathcast serve --map` without the API. It runs beside the workers, and reads what they publish: the newest
    forecasts (`pathcast beside latest`; where that does not run, the forecasts of the last hour), gap fills, scores,
    and the newest atlas. It writes nothing and takes no partitions. No map of streets is needed: the fleet's own atlas
    is drawn as one.

    If PATHCAST_MAP_TOKEN has a token, or the file that PATHCAST_MAP_TOKEN_FILE names, open the address once with
    `?token=TOKEN` added. It is plain HTTP: put a proxy with TLS before a port that others reach.

    [bold]Examples[/]

      pathcast map
      pathcast map --bootstrap kafka:9092 --listen 0.0.0.0:8765 --atlases /srv/pathcast/atlases
      pathcast map --source forecasts --basemap austin.pmtiles
      pathcast map --basemap 'https://tile.openstreetmap.org/{z}/{x}/{y}.png'
    """
    address = address_of(listen, "--listen")
    log_to_stderr()
    from stream.api import process

    how = shown.parse()
    check_free(address, "show the map")
    yield_cores(nice)
    settings = Settings(bootstrap=common.bootstrap, prefix=common.prefix, atlases=atlases, kafka=common.security)
    server = ServerOptions(address, rate, burst, behind_proxy, max_connections, max_streams)
    asyncio.run(process.serve(ServeOptions(settings, server, map=how), (signal.SIGTERM, signal.SIGINT)))
