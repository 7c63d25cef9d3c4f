"""Decides who may see the map, and what its page may load.

`EventSource` cannot send a token in a header. So a page that is opened with `?token=` gets the token as a cookie that
scripts cannot read, and is sent to its address without the token, which is then in no history and no log.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Final

from aiohttp import hdrs, web

from stream.http.access import HEADERS, Access

COOKIE: Final = "pathcast_map"
CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        "connect-src 'self'{tiles}",
        "worker-src 'self' blob:",
        "img-src 'self' blob: data:",
        "style-src 'self' 'unsafe-inline'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


class MapAccess(Access):
    """The token, in the header or as a cookie."""

    def __init__(self, token: str | None, tiles: str = "") -> None:
        """Takes the origin of the tiles that the page may ask another host for, if it may."""
        policy = CONTENT_SECURITY_POLICY.format(tiles=f" {tiles}" if tiles else "")
        super().__init__(token, headers={**HEADERS, "Content-Security-Policy": policy})

    def knows(self, request: web.BaseRequest) -> bool:
        return super().knows(request) or self.is_token(request.cookies.get(COOKIE, ""))

    def sign(self, request: web.BaseRequest, headers: MutableMapping[str, str]) -> None:
        kept = headers.get(hdrs.CACHE_CONTROL)  # of files: how long a browser may keep them
        super().sign(request, headers)
        if kept is not None:
            headers[hdrs.CACHE_CONTROL] = kept

    @staticmethod
    def remember(response: web.Response, token: str) -> None:
        """Sets the cookie. It is no session: it lasts as long as the browser, and goes nowhere else."""
        response.set_cookie(COOKIE, token, httponly=True, samesite="Lax", path="/")
