"""`pathcast ingest ais`: ships of an AIS receiver, over TCP or UDP."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from stream.config.http_access import address_of
from stream.config.options import with_common
from stream.ingest.feeds.options import DEFAULT_HOLD, Hold
from stream.ingest.running import DEFAULTS, IngestOptions, run


@with_common
def ais(
    tcp: Annotated[str, typer.Option("--tcp", metavar="HOST:PORT", help="connect there")] = "",
    listen_tcp: Annotated[
        str, typer.Option("--listen-tcp", metavar="HOST:PORT", help="let receivers connect here; PORT is on loopback")
    ] = "",
    listen_udp: Annotated[
        str, typer.Option("--listen-udp", metavar="HOST:PORT", help="take datagrams here; PORT is on loopback")
    ] = "",
    hold: Hold = DEFAULT_HOLD,
    options: IngestOptions = DEFAULTS,
) -> None:
    """Take ships from AIS receivers: NMEA sentences, over TCP or UDP.

    While Kafka is away TCP is not read. UDP cannot be held back: up to --hold datagrams wait, and what is lost beyond
    them is counted and logged.

    [bold]Examples[/]

      pathcast ingest ais --tcp receiver.local:10110
      pathcast ingest ais --listen-udp 0.0.0.0:10110
      pathcast ingest ais --listen-tcp 10110 --metrics 9480
    """
    from stream.adapters.live.formats.ais import SOURCE, Receiver
    from stream.adapters.live.parsed import Piece
    from stream.ingest.feeds import sockets
    from stream.ingest.feeds.lines import Came

    given = {"--tcp": tcp, "--listen-tcp": listen_tcp, "--listen-udp": listen_udp}
    chosen = [(option, text) for option, text in given.items() if text]
    if len(chosen) != 1:
        raise typer.BadParameter(f"expected one of {', '.join(given)}, got {len(chosen)}")
    option, text = chosen[0]
    at = address_of(text, option)
    receiver = Receiver()

    def read(came: Came) -> list[Piece]:
        return [receiver.hear(came.raw, came.ms, came.via)]

    transports = {
        "--tcp": partial(sockets.tcp_client, at, read),
        "--listen-tcp": partial(sockets.tcp_server, at, read),
        "--listen-udp": partial(sockets.udp, at, read, most=hold),
    }
    run(SOURCE, options, transports[option])
