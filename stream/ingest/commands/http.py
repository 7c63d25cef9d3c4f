"""`pathcast ingest http`: messages that others send by HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stream.config.http_access import address_of
from stream.config.options import with_common
from stream.ingest.running import DEFAULTS, IngestOptions, run

if TYPE_CHECKING:
    from stream.ingest.publishing.sink import Sink
    from stream.ingest.source import Source


@with_common
def http(
    maps: Annotated[
        list[str],
        typer.Option(
            "--map",
            metavar="NAME|FILE",
            help="a preset's name (`pathcast ingest presets`), or a file with a map; may be given several times",
        ),
    ],
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="where messages come in; PORT alone is on loopback")
    ] = "8080",
    anybody: Annotated[
        bool,
        typer.Option(
            "--anybody", help="take messages from whoever reaches the address, without a token or a signature"
        ),
    ] = False,
    max_body: Annotated[
        int, typer.Option("--max-body", min=1024, max=16777216, help="bytes of one message")
    ] = 1_048_576,
    max_connections: Annotated[int, typer.Option("--max-connections", min=1, max=10_000, help="at once")] = 256,
    max_rate: Annotated[float, typer.Option("--max-rate", min=1, help="messages a second")] = 1_000.0,
    options: IngestOptions = DEFAULTS,
) -> None:
    """Take messages that others send by HTTP: POST /webhook/NAME for each --map.

    200 is answered once Kafka has all of a message, 503 while Kafka takes none: then the sender must send it again.
    What is no ping becomes a dead letter, and is answered 200, too, with the reasons.

    Who may send: PATHCAST_INGEST_TOKEN (a token of `Authorization: Bearer`, or the password of Basic), and for senders
    that sign PATHCAST_INGEST_HMAC_NAME; or files that the same names with _FILE name. There is no TLS: put what you
    have for that in front.

    [bold]Examples[/]

      pathcast ingest http --map flespi --listen 127.0.0.1:8080
      PATHCAST_INGEST_HMAC_MOTIVE_FILE=motive.secret pathcast ingest http --map motive --listen 0.0.0.0:8080
      pathcast ingest http --map samsara --map ./mine.toml --bootstrap kafka:9092 --metrics 9484
    """
    from stream.ingest.http import Limits, serve, webhooks_of
    from stream.ingest.http.guards import check_closed, guards_of

    address = address_of(listen, "--listen")
    try:
        webhooks = webhooks_of(maps)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--map") from None
    guards = guards_of(webhooks)
    if not anybody:
        try:
            check_closed(guards, address)
        except ValueError as error:
            raise typer.BadParameter(f"{error}, or give --anybody", param_hint="--listen") from None
    limits = Limits(max_body, max_connections, max_rate)

    async def transport(sink: Sink, _: Source) -> None:
        await serve(address, webhooks, guards, limits, sink)

    run("http", options, transport)
