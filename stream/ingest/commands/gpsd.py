"""`pathcast ingest gpsd`: the GPS receiver of a gpsd."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from stream.config.http_access import Address
from stream.config.options import with_common
from stream.ingest.feeds.options import DEFAULT_HOLD, Entity, Hold, entity_id
from stream.ingest.running import DEFAULTS, IngestOptions, run


@with_common
def gpsd(
    entity: Entity,
    host: Annotated[str, typer.Option("--host", help="where gpsd runs")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="of gpsd")] = 2947,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="PATH", help="one receiver of several; default: all are the entity"),
    ] = None,
    hold: Hold = DEFAULT_HOLD,
    options: IngestOptions = DEFAULTS,
) -> None:
    """Take the positions of the GPS receiver of a gpsd.

    gpsd lets go of a client that does not read: while Kafka is away up to --hold reports wait, and what is lost beyond
    them is counted and logged.

    [bold]Examples[/]

      pathcast ingest gpsd --entity van-7
      pathcast ingest gpsd --host boat.local --device /dev/ttyACM0 --entity boat
    """
    from stream.adapters.live.formats.gpsd import SOURCE, Receiver
    from stream.ingest.feeds.lines import by_line
    from stream.ingest.feeds.receivers import watch_gpsd

    watched = partial(watch_gpsd, Address(host, port), device, by_line(Receiver(entity_id(entity)).read), most=hold)
    run(SOURCE, options, watched)
