"""`pathcast ingest gtfs-rt`: polls a GTFS-Realtime feed of vehicle positions."""

from __future__ import annotations

from functools import partial

from stream.config.options import DEFAULT_BOOTSTRAP, DEFAULT_PREFIX, Bootstrap, Prefix, secured
from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.config.traces import NO_TRACES, Traces
from stream.ingest.feeds.options import Every, Header, Url, polled
from stream.ingest.running import Common, Metrics, run


@secured
def gtfs_rt(
    url: Url,
    every: Every = "15s",
    header: Header = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    prefix: Prefix = DEFAULT_PREFIX,
    metrics: Metrics = "",
    security: KafkaSecurity = PLAIN_KAFKA,
    traces: Traces = NO_TRACES,
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
    run(Common(gtfs_realtime.SOURCE, bootstrap, prefix, metrics, security, traces), partial(poll, feed))
