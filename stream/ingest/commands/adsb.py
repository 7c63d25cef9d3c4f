"""`pathcast ingest adsb`: polls aircraft.json of readsb or dump1090-fa."""

from __future__ import annotations

from functools import partial

from stream.config.options import with_common
from stream.ingest.feeds.options import Every, Header, Url, polled
from stream.ingest.running import DEFAULTS, IngestOptions, run


@with_common
def adsb(
    url: Url,
    every: Every = "1s",
    header: Header = None,
    options: IngestOptions = DEFAULTS,
) -> None:
    """Poll aircraft.json of readsb or dump1090-fa.

    An aircraft is sent when its position was received anew. While Kafka is away nothing is polled.

    [bold]Examples[/]

      pathcast ingest adsb --url http://localhost/tar1090/data/aircraft.json
      pathcast ingest adsb --url http://piaware.local/skyaware/data/aircraft.json --every 2s
    """
    from stream.adapters.live.formats import adsb as reader
    from stream.ingest.feeds.polling import poll

    feed = polled(url, every, header, reader.sightings, tolerance_ms=reader.TOLERANCE_MS)
    run(reader.SOURCE, options, partial(poll, feed))
