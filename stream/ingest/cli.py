"""`pathcast ingest`: one command for each way in."""

from __future__ import annotations

import typer

from stream.ingest.commands.feeds import adsb, ais, gpsd, gtfs_rt, nmea
from stream.ingest.commands.files import files
from stream.ingest.commands.http import http
from stream.ingest.commands.mqtt import mqtt
from stream.ingest.commands.traccar import traccar
from stream.ingest.commands.trying import presets, sample

app = typer.Typer(
    help="Vehicles of other systems into the pings topic: their formats, units and habits.\n\n"
    "A source is told that its message was taken once Kafka has it. A message without a ping becomes a dead letter.",
    no_args_is_help=True,
)
for command in (adsb, ais, files, gpsd, gtfs_rt, http, mqtt, nmea, presets, sample, traccar):
    app.command()(command)
