"""`pathcast beside transit`: keeps a record of each trip under way, with the times at its stops ahead."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream.adapters.live.option import MapOption
from stream.config.times import seconds
from stream.members.command import ServiceOptions
from stream.members.running import Service

LEAST_SINCE_S = 900  # a trip whose vehicle was silent for ten minutes is over, and one that was not must be found


def offer(
    common: ServiceOptions,
    gtfs: Annotated[
        Path,
        typer.Option(
            "--gtfs",
            metavar="ZIP",
            envvar="PATHCAST_GTFS",
            help="the schedule: a GTFS feed; a new one in its place is taken for the trips that begin then",
        ),
    ],
    transit_every: Annotated[
        str, typer.Option("--transit-every", metavar="TIME", help="a trip is predicted again at least so often")
    ] = "30s",
    transit_state: Annotated[
        str | None,
        typer.Option(
            "--transit-state",
            metavar="DIR|URL",
            envvar="PATHCAST_TRANSIT_STATE",
            help="where what was learnt is kept, for all members; without it, a start begins with the schedule",
        ),
    ] = None,
    transit_since: Annotated[
        str,
        typer.Option("--transit-since", metavar="TIME", help="pings of so long before the topic's end are read first"),
    ] = "2h",
    transit_look: Annotated[
        str, typer.Option("--transit-look", metavar="TIME", help="how often it looks for a new zip")
    ] = "1m",
    transit_assign: Annotated[
        bool,
        typer.Option(
            "--transit-assign/--no-transit-assign",
            help="find the trips of vehicles that name none; a millisecond a ping",
        ),
    ] = True,
    map_: MapOption = None,
    transit_group: Annotated[
        str | None, typer.Option("--transit-group", help="Kafka consumer group; default: PREFIX-transit")
    ] = None,
) -> Service:
    """Says of each vehicle on a trip of the schedule when it reaches its stops."""
    since_s = seconds(transit_since, "--transit-since")
    if since_s < LEAST_SINCE_S:
        raise typer.BadParameter(
            f"{transit_since} is less than 15m: trips under way would not be found", param_hint="--transit-since"
        )
    if not gtfs.is_file():
        raise typer.BadParameter(f"{gtfs}: no such file", param_hint="--gtfs")
    from stream.services.transit.running import TransitSettings, service

    return service(
        TransitSettings(
            **common._asdict(),
            group=transit_group or f"{common.prefix}-transit",
            gtfs=gtfs,
            every_s=seconds(transit_every, "--transit-every"),
            since_s=since_s,
            state=transit_state,
            look_s=seconds(transit_look, "--transit-look"),
            map=map_,
            assigns=transit_assign,
        )
    )
