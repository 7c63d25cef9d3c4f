"""Checks tokens and origins, and sets the headers of every answer."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping, MutableMapping
from typing import Final

from aiohttp import hdrs, web

# aiohttp would name itself and Python, with their versions, in Server. Nothing here is a page, so nothing may be loaded
# or framed; and where vehicles are is not for caches.
HEADERS: Final = {
    "Server": "pathcast",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID",
    "Access-Control-Max-Age": "600",
}
ANY_ORIGIN: Final = "*"


class Access:
    """The token, if one is needed, and the origins whose pages may read the answers."""

    def __init__(self, token: str | None, origins: Collection[str] = (), headers: Mapping[str, str] = HEADERS) -> None:
        self._token = None if token is None else token.encode()
        self._origins = frozenset(origins)
        self._headers = headers

    def knows(self, request: web.BaseRequest) -> bool:
        """Returns whether the request has the token."""
        return self.knows_bearer(request.headers)

    def knows_bearer(self, headers: Mapping[str, str]) -> bool:
        """Returns whether these headers have the token, as `Authorization: Bearer TOKEN`."""
        scheme, _, token = headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        return self.is_token(token.strip()) and (self._token is None or scheme.lower() == "bearer")

    def is_token(self, token: str) -> bool:
        """Returns whether this is the token, or none is needed. The comparison takes constant time."""
        return self._token is None or hmac.compare_digest(token.encode(errors="surrogateescape"), self._token)

    def is_preflight(self, request: web.BaseRequest) -> bool:
        """Returns whether a browser asks if a page of an allowed origin may make a request."""
        return (
            request.method == hdrs.METH_OPTIONS
            and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
            and self._allows(request) is not None
        )

    def sign(self, request: web.BaseRequest, headers: MutableMapping[str, str]) -> None:
        """Adds the headers that every answer has."""
        headers.update(self._headers)
        if not self._origins:
            return
        if (origin := self._allows(request)) is not None:
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        headers[hdrs.VARY] = "Origin"

    def _allows(self, request: web.BaseRequest) -> str | None:
        if ANY_ORIGIN in self._origins:
            return ANY_ORIGIN
        origin = request.headers.get(hdrs.ORIGIN)
        return origin if origin in self._origins else None
