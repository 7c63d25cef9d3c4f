"""Defines the command-line options that several feeds share. It imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from stream.config.security import secret
from stream.config.times import seconds

if TYPE_CHECKING:
    from stream.ingest.feeds.polling import Feed

HEADERS: Final = "FEED_HEADERS"  # a secret: PATHCAST_FEED_HEADERS, or ..._FILE

Url = Annotated[str, typer.Option("--url", envvar="PATHCAST_FEED_URL", help="what to poll, http or https")]
Every = Annotated[str, typer.Option("--every", metavar="TIME", help="between two polls: 15s, 1m")]
Header = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="'NAME: VALUE'",
        help="of each request; may be repeated. A secret one: PATHCAST_FEED_HEADERS or ..._FILE, a line each",
    ),
]
Entity = Annotated[str, typer.Option("--entity", help="the name of what moves: the entity id of its pings")]
Hold = Annotated[
    int, typer.Option("--hold", min=1, help="lines or datagrams that wait in memory while Kafka is away, at most")
]
DEFAULT_HOLD: Final = 100_000  # a GPS receiver's sentences of hours, an AIS receiver's of minutes; some 20 MB


def polled(
    url: str, every: str, header: list[str] | None, read: Callable[[bytes, int], Any], tolerance_ms: int = 0
) -> Feed:
    """Returns the feed that the options name. Raises BadParameter."""
    from stream.ingest.feeds.polling import Feed, parse_headers

    every_s = seconds(every, "--every")
    try:
        headers = parse_headers([*(header or ()), *(secret(HEADERS) or "").splitlines()])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--header") from None
    try:
        return Feed(url, every_s, read, headers, tolerance_ms)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from None


def entity_id(given: str) -> str:
    """Returns the name of an entity. Raises BadParameter if no ping may have it."""
    from stream.wire import MIN_TS_MS, NO_TIME_MS, Ping, Reject, ping_rules

    found = ping_rules.checked(Ping(entity_id=given, ts=MIN_TS_MS, lat=1.0, lon=1.0), NO_TIME_MS)
    if isinstance(found, Reject):
        raise typer.BadParameter(found.message, param_hint="--entity")
    return given
