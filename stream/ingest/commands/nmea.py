"""`pathcast ingest nmea`: one GPS receiver at a serial port."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from stream.config.options import with_common
from stream.ingest.feeds.options import DEFAULT_HOLD, Entity, Hold, entity_id
from stream.ingest.running import DEFAULTS, IngestOptions, run


@with_common
def nmea(
    serial: Annotated[str, typer.Option("--serial", metavar="PATH", help="the port, such as /dev/ttyUSB0")],
    entity: Entity,
    baud: Annotated[int, typer.Option("--baud", min=300, help="bits a second")] = 9600,
    hold: Hold = DEFAULT_HOLD,
    options: IngestOptions = DEFAULTS,
) -> None:
    """Take the positions of one GPS receiver at a serial port: NMEA 0183.

    A receiver cannot be held back: while Kafka is away up to --hold sentences wait, and what is lost beyond them is
    counted and logged. A port that is unplugged is opened again when it is back.

    [bold]Examples[/]

      pathcast ingest nmea --serial /dev/ttyUSB0 --entity van-7
      pathcast ingest nmea --serial /dev/ttyACM0 --baud 115200 --entity van-7
    """
    from stream.adapters.live.formats.nmea import SOURCE, Receiver
    from stream.ingest.feeds.lines import by_line
    from stream.ingest.feeds.receivers import read_serial_port

    read = by_line(Receiver(entity_id(entity)).read)
    run(SOURCE, options, partial(read_serial_port, serial, baud, read, most=hold))
