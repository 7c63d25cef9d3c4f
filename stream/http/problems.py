"""Errors as application/problem+json (RFC 9457): what came, what was expected, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec
from aiohttp import web

from stream.wire.escape import shown

CONTENT_TYPE: Final = "application/problem+json"
PREFIX: Final = "urn:pathcast:problem:"  # of `type`: a name, and no address that anybody could look up
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error (RFC 9457). `came` is what was sent, `expected` what should have been."""

    type: str
    title: str
    status: int
    detail: str
    came: str | None = None
    expected: str | None = None


class Kind(NamedTuple):
    status: int
    title: str


# By the last part of `type`. Stable: clients switch on them.
KINDS: Final[dict[str, Kind]] = {
    "bad_parameter": Kind(400, "A parameter cannot be used"),
    "bad_body": Kind(400, "The body cannot be used"),
    "no_token": Kind(401, "A token is needed"),
    "not_found": Kind(404, "There is no such page"),
    "unknown_entity": Kind(404, "The entity is not known"),
    "wrong_method": Kind(405, "The page does not have this method"),
    "slow_request": Kind(408, "The request did not arrive in time"),
    "unusable_state": Kind(409, "The entity has no state to forecast from"),
    "stale_entity": Kind(410, "The entity was not heard of for long"),
    "too_large": Kind(413, "The body is too large"),
    "wrong_type": Kind(415, "The body is of another type"),
    "unusable_track": Kind(422, "The track has nothing to compute with"),
    "no_websocket": Kind(426, "A WebSocket is needed"),
    "too_many_requests": Kind(429, "Too many requests"),
    "broken": Kind(500, "This is a bug of pathcast"),
    "busy": Kind(503, "Too much is asked at once"),
    "store_away": Kind(503, "The states cannot be read"),
    "not_ready": Kind(503, "The answer is not ready yet"),
}
# Of `ingest http` alone, which is not in the API's document.
KINDS_OF_INGEST: Final[dict[str, Kind]] = {"kafka_away": Kind(503, "Kafka takes no records now")}


class Refusal(Exception):
    """Ends a request with a problem."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        came: object = None,
        expected: str | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        super().__init__(detail)
        status, title = (KINDS | KINDS_OF_INGEST)[kind]
        shown_came = None if came is None else shown(came)
        self.problem = Problem(
            type=PREFIX + kind, title=title, status=status, detail=detail, came=shown_came, expected=expected
        )
        self.headers = headers

    def response(self) -> web.Response:
        return web.Response(
            status=self.problem.status,
            body=msgspec.json.encode(self.problem),
            content_type=CONTENT_TYPE,
            headers=self.headers,
        )
