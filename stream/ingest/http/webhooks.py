"""Chooses the paths of the server, and what reads the messages of each.

`/webhook/NAME` for each preset or map. A format that needs more of a request than its body, that answers in another
form, or whose senders take a wrong way that can be named, has an entry in CODED.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from stream.adapters.live import presets
from stream.adapters.live.formats import owntracks, pathcast, traccar
from stream.adapters.live.mapping import Signed
from stream.adapters.live.parsed import Parsed
from stream.wire import Ping, Reject

REASONS: Final = 5  # that an answer lists
# Traccar's type of forwarding that it has by default, `url`, sends GET; OsmAnd's protocol, which trackers and apps
# speak, has the position in the query, and an empty body if it is sent by POST.
TRACCAR_WANTS: Final = (
    "here a Traccar server posts positions as JSON: set forward.type to json in its traccar.xml (its default, url, "
    "sends GET), and forward.url to this address. A tracker or an app that speaks OsmAnd's protocol, such as Traccar "
    "Client, reports to a Traccar server, which forwards here"
)


class Request(Protocol):
    """Has what a reader may ask of a request (aiohttp's has more). Names of headers are found in any case."""

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def query(self) -> Mapping[str, str]: ...


Read = Callable[[bytes, int, Request], list[Parsed]]  # the body, when it came in ms since 1970 UTC, and the request
Answer = Callable[[Sequence[Parsed]], bytes]  # the JSON of the answer to a message that was taken


def count_outcomes(parsed: Sequence[Parsed]) -> bytes:
    """Returns what became of a message, as JSON: the counts, and the first reasons."""
    rejects = [one for one in parsed if isinstance(one, Reject)]
    skips = Counter(one.why for one in parsed if not isinstance(one, Ping | Reject))
    said = {"pings": sum(isinstance(one, Ping) for one in parsed), "rejects": len(rejects), "skips": skips}
    reasons = [{"code": one.code, "message": one.message} for one in rejects[:REASONS]]
    return msgspec.json.encode({**said, "reasons": reasons}) + b"\n"


class Webhook(NamedTuple):
    """One path, without who may send there."""

    name: str  # of the adapter, too
    read: Read
    answer: Answer = count_outcomes
    signed: Signed | None = None
    lines: Sequence[str] = ()  # content types of lines of JSON, if it takes those
    wants: str = ""  # what senders are to set that send positions by GET or in the query

    @property
    def path(self) -> str:
        return f"/webhook/{self.name}"


def _owntracks() -> Webhook:
    """Returns the webhook of OwnTracks' HTTP mode. The apps expect an array of commands, and read an error as "try
    again"."""

    def read(raw: bytes, came_ms: int, request: Request) -> list[Parsed]:
        return owntracks.read(raw, came_ms, owntracks.device_of_request(request.headers, request.query))

    return Webhook(owntracks.NAME, read, lambda _: b"[]")


def _pathcast() -> Webhook:
    return Webhook(pathcast.NAME, lambda raw, came_ms, _: pathcast.read(raw, came_ms), lines=pathcast.LINES)


def _traccar() -> Webhook:
    return Webhook(traccar.NAME, lambda raw, came_ms, _: traccar.read(raw, came_ms), wants=TRACCAR_WANTS)


# By the name of a preset: a function that makes its webhook.
CODED: Final[dict[str, Callable[[], Webhook]]] = {"owntracks": _owntracks, "pathcast": _pathcast, "traccar": _traccar}


def webhook_of(given: str) -> Webhook:
    """Returns the webhook of a preset's name, or of a file with a map. Raises ValueError, OSError."""
    if given in CODED:
        return CODED[given]()
    found = presets.find_preset(given)
    return Webhook(found.name, lambda raw, came_ms, _: found.read(raw, came_ms), count_outcomes, found.signed)


def webhooks_of(given: Iterable[str]) -> dict[str, Webhook]:
    """Returns the webhooks, by path. Raises ValueError if two have one path, OSError."""
    made: dict[str, Webhook] = {}
    for one in given:
        webhook = webhook_of(one)
        if webhook.path in made:
            raise ValueError(f"two maps have the name {webhook.name!r}: give one of them another name")
        made[webhook.path] = webhook
    return made
