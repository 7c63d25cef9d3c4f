"""`pathcast beside`: the services that run beside the workers, any of them in one process."""

from __future__ import annotations

from typing import Final

from stream.atlas.counting import cli as atlas
from stream.commands.models import guarding as guard
from stream.members.command import Offer, build_command
from stream.services.archive import cli as archive
from stream.services.arrivals import cli as arrivals
from stream.services.avro import cli as avro
from stream.services.latest import cli as latest
from stream.services.scores import cli as scores
from stream.services.transit import cli as transit

OFFERS: Final[dict[str, Offer]] = {
    "archive": archive.offer,
    "scores": scores.offer,
    "latest": latest.offer,
    "arrivals": arrivals.offer,
    "transit": transit.offer,
    "avro": avro.offer,
    "guard": guard.offer,
    "atlas": atlas.offer,
}
beside = build_command(OFFERS)
beside.__doc__ = """Run services beside the workers, one or several in one process, until it is stopped.

[bold]Services[/]

  archive   lands a topic's pings as Parquet files by day
  scores    compares forecasts with what then happened, at each horizon
  latest    keeps each entity's newest forecast in a compacted topic
  arrivals  says when entities arrive, and how likely they are in areas
  transit   says when vehicles on a schedule (GTFS) reach their stops
  avro      turns forecasts and gap fills into Avro
  guard     rolls back weights that scores show to be worse
  atlas     brings a version of the atlas into service every hour

Start one process, or several that share the partitions. A kill -9 loses nothing: each service stores or publishes what
it makes together with where it goes on. Only scores may be published twice, with the same id and the same bytes. One
service that fails ends the process with its error, after the others have written what they have.

[bold]Examples[/]

  pathcast beside scores,latest,arrivals --history last-week.parquet --metrics 9474
  pathcast beside archive --archive s3://bucket/pings --archive-retention 90d
  pathcast beside atlas --atlases ./atlases --atlas-every 10m --redis redis://redis:6379/0
  pathcast beside scores,guard --registry /srv/pathcast --guard-every 1m
  pathcast beside transit --gtfs feed.zip --transit-state ./transit
  pathcast beside avro --schema-registry http://registry:8081
  pathcast beside scores --once && pathcast models scores
"""
