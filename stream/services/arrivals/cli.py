"""`pathcast arrivals`: destinations in, arrivals out."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from stream.adapters.live.option import MapOption
from stream.adapters.options import Columns
from stream.config.options import (
    COMMON,
    Common,
    Json,
    quiet,
    with_common,
)
from stream.config.times import seconds
from stream.members.command import ServiceOptions
from stream.members.running import Service
from stream.wire import Topics
from stream.wire.arrivals import (
    DEFAULT_ID,
    MAX_RADIUS_M,
    MIN_RADIUS_M,
    Destination,
    DestinationRecord,
    destination_key,
    destination_of,
    dumps_arrivals,
    geofence_key,
    reached_key,
)

app = typer.Typer(
    help="When entities arrive at their destinations, and how likely they are in areas.", no_args_is_help=True
)

Entity = Annotated[str, typer.Argument(metavar="ENTITY", help="whose destination it is")]
Id = Annotated[str, typer.Option("--id", help="of the destination, for an entity with several")]


def offer(
    common: ServiceOptions,
    history: Annotated[
        str | None,
        typer.Option(
            "--history",
            envvar="PATHCAST_HISTORY",
            metavar="[FORMAT:]PATH|DIR|topic",
            help="the fleet's earlier tracks: a recording as `train --data` takes it, an archive's directory (both: "
            "extra readers), or `topic`, what the pings topic still has",
        ),
    ] = None,
    columns: Columns = None,
    history_pings: Annotated[
        int,
        typer.Option("--history-pings", min=1, help="of these tracks, the newest that are kept, 100 to 250 bytes each"),
    ] = 1_000_000,
    history_every: Annotated[
        str,
        typer.Option("--history-every", metavar="TIME", help="how often an archive or a topic is read again for them"),
    ] = "24h",
    map_: MapOption = None,
    geofences: Annotated[
        Path | None,
        typer.Option(
            "--geofences", exists=True, dir_okay=False, help="GeoJSON, beside those of the destinations topic"
        ),
    ] = None,
    arrivals_every: Annotated[
        float,
        typer.Option(
            "--arrivals-every", min=0.0, help="seconds between two estimates of an entity, by its pings' times"
        ),
    ] = 15.0,
    max_asked: Annotated[
        int, typer.Option("--max-asked", min=1, help="destinations and geofences at once; more are refused")
    ] = 100_000,
    arrivals_group: Annotated[
        str | None, typer.Option("--arrivals-group", help="Kafka consumer group; default: PREFIX-arrivals")
    ] = None,
) -> Service:
    """Says when entities arrive at their destinations, and how likely they are in geofences."""
    from stream.services.arrivals.history import history_of
    from stream.services.arrivals.history.topic import Live
    from stream.services.arrivals.running import ArrivalSettings, service

    earlier = None
    if history is not None:
        try:
            live = Live(common.bootstrap, Topics.of(common.prefix).pings, common.kafka, map_)
            earlier = history_of(history, live, columns, history_pings)
        except (ValueError, FileNotFoundError) as error:
            raise typer.BadParameter(str(error), param_hint="--history") from error
    settings = ArrivalSettings(
        **common._asdict(),
        group=arrivals_group or f"{common.prefix}-arrivals",
        history=earlier,
        history_every_s=seconds(history_every, "--history-every"),
        geofences=geofences,
        every_s=arrivals_every,
        most=max_asked,
    )
    return service(settings)


@app.command("set")
@with_common
def set_(
    entity: Entity,
    lat: Annotated[float, typer.Option("--lat", min=-90, max=90, help="degrees")],
    lon: Annotated[float, typer.Option("--lon", min=-180, max=180, help="degrees")],
    radius: Annotated[
        float, typer.Option("--radius", min=MIN_RADIUS_M, max=MAX_RADIUS_M, help="metres; a ping inside is an arrival")
    ] = 100.0,
    by: Annotated[
        str | None, typer.Option("--by", metavar="TIME", help="deadline: 2026-11-30T14:05, in UTC without a zone")
    ] = None,
    id_: Id = DEFAULT_ID,
    common: Common = COMMON,
    json: Json = False,
) -> None:
    """Set where an entity is to go. It replaces the destination of the same --id.

    [bold]Examples[/]

      pathcast arrivals set 12 --lat 30.2672 --lon -97.7431 --radius 150
      pathcast arrivals set 12 --lat 30.2672 --lon -97.7431 --id depot-3 --by 2026-11-30T14:05
    """
    from stream.services.arrivals.setting import put

    value = {"entity_id": entity, "destination_id": id_, "lat": lat, "lon": lon, "radius_m": radius}
    value |= {"kind": "destination", "set_ts": time.time_ns() // 1_000_000}
    record = _check(value if by is None else {**value, "deadline_ts": _milliseconds(by)})
    with quiet():
        put(common.bootstrap, common.topics, common.security, {destination_key(entity, id_): dumps_arrivals(record)})
    if json:
        typer.echo(dumps_arrivals(record))
    else:
        assert isinstance(record, Destination)  # as its kind says
        typer.echo(f"{entity} is to go to {id_}, {radius:g} m around {lat:.5f},{lon:.5f}")


@app.command()
@with_common
def clear(
    entity: Entity,
    id_: Id = DEFAULT_ID,
    geofence: Annotated[
        bool, typer.Option("--geofence", help="ENTITY is a geofence's id, and that is taken back")
    ] = False,
    common: Common = COMMON,
) -> None:
    """Take a destination or a geofence back.

    [bold]Examples[/]

      pathcast arrivals clear 12
      pathcast arrivals clear 12 --id depot-3
      pathcast arrivals clear depot-3 --geofence
    """
    from stream.services.arrivals.setting import put

    keys = [geofence_key(entity)] if geofence else [destination_key(entity, id_), reached_key(entity, id_)]
    with quiet():
        put(common.bootstrap, common.topics, common.security, dict.fromkeys(keys))
    typer.echo(f"{keys[0]} is taken back")


@app.command()
@with_common
def fence(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="GeoJSON: polygons, points with radius_m")],
    common: Common = COMMON,
) -> None:
    """Set the geofences of a GeoJSON file. Each replaces the one of the same id.

    The id is the property geofence_id, id or name of a feature; the property entity_id makes it that entity's alone.

    [bold]Example[/]

      pathcast arrivals fence depots.geojson
    """
    from stream.services.arrivals.geojson import geofences_of
    from stream.services.arrivals.setting import put

    try:
        fences = geofences_of(file)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with quiet():
        records = {geofence_key(one.geofence_id, one.entity_id): dumps_arrivals(one) for one in fences}
        put(common.bootstrap, common.topics, common.security, records)
    typer.echo(f"{len(fences)} geofences: {', '.join(one.geofence_id for one in fences[:10])}")


def _check(value: dict[str, object]) -> DestinationRecord:
    try:
        return destination_of(value)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(str(error)) from error


def _milliseconds(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time like 2026-11-30T14:05", param_hint="--by") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
