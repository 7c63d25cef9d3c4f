"""`pathcast ingest gtfs-rt`: polls a GTFS-Realtime feed of vehicle positions."""

from __future__ import annotations

from functools import partial

from stream.config.options import with_common
from stream.ingest.feeds.options import Every, Header, Url, polled
from stream.ingest.running import DEFAULTS, IngestOptions, run


@with_common
def gtfs_rt(
    url: Url,
    every: Every = "15s",
    header: Header = None,
    options: IngestOptions = DEFAULTS,
) -> None:
    """Poll a GTFS-Realtime feed of vehicle positions.

    A vehicle is sent when its time in the feed has changed. Route and trip are kept. While Kafka is away nothing is
    polled.

    [bold]Examples[/]

      pathcast ingest gtfs-rt --url https://example.org/vehicle-positions.pb
      PATHCAST_FEED_HEADERS='X-Api-Key: ...' pathcast ingest gtfs-rt --url https://example.org/vehicles --every 30s
    """
    from stream.adapters.live.formats import gtfs_realtime
    from stream.ingest.feeds.polling import poll

    feed = polled(url, every, header, gtfs_realtime.sightings)
    run(gtfs_realtime.SOURCE, options, partial(poll, feed))
