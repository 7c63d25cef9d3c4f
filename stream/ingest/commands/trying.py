"""`pathcast ingest presets` and `pathcast ingest sample`: what others of these commands are tried with."""

from __future__ import annotations

import asyncio
import signal
from enum import StrEnum
from typing import Annotated, Any

import typer

from stream.config.http_access import Address, address_of


class Kind(StrEnum):
    """Names the recordings that can be replayed."""

    GTFS_RT = "gtfs-rt"
    AIS = "ais"


DEFAULTS = {Kind.GTFS_RT: "127.0.0.1:8099", Kind.AIS: "127.0.0.1:10110"}


def sample(
    kind: Annotated[Kind, typer.Argument(help="buses over HTTP, or ships over TCP")],
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="default: 8099 for gtfs-rt, 10110 for ais, on loopback")
    ] = "",
    speedup: Annotated[
        float, typer.Option(min=1.0, max=100000, help="1 is real time, 60 is a minute per second")
    ] = 60.0,
) -> None:
    """Replay recorded vehicles as a live source, to try the other commands without a feed or a receiver.

    The recordings have a few hours each, and are replayed as if they ended now: buses of Austin as a GTFS-Realtime feed
    over HTTP, and ships of US harbours as an AIS receiver over TCP. It runs until Ctrl-C.

    [bold]Examples[/]

      pathcast ingest sample gtfs-rt
      pathcast ingest gtfs-rt --url http://127.0.0.1:8099/vehicle-positions.pb --every 1s

      pathcast ingest sample ais
      pathcast ingest ais --tcp 127.0.0.1:10110
    """
    asyncio.run(_serve(kind, address_of(listen or DEFAULTS[kind], "--listen"), speedup))


async def _serve(kind: Kind, at: Address, speedup: float) -> None:
    from stream.ingest.samples import buses, ships

    server: Any = await (buses.serve if kind == Kind.GTFS_RT else ships.serve)(at, speedup)
    where = f"http://{at}{buses.PATH}" if kind == Kind.GTFS_RT else f"tcp {at}"
    typer.echo(f"replaying at {where}, {speedup:g} times as fast as it was recorded; Ctrl-C ends it")
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    if kind == Kind.GTFS_RT:
        await server.cleanup()
    else:
        server.close()


def presets(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="print the map of this preset, to begin an own one with")
    ] = None,
) -> None:
    """List the formats that --map knows by name, or print the map of one.

    [bold]Examples[/]

      pathcast ingest presets
      pathcast ingest presets samsara > mine.toml
    """
    from stream.adapters.live import presets as known

    if name is None:
        for one in known.names():
            typer.echo(f"{one:<12}{known.find_preset(one).about}")
        return
    try:
        typer.echo(known.text_of(name), nl=False)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from None
