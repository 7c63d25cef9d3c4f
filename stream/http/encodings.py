"""Tells in which encodings a client takes an answer."""

from __future__ import annotations

from aiohttp import hdrs, web


def takes_gzip(request: web.BaseRequest) -> bool:
    """Returns whether the request's Accept-Encoding takes gzip (RFC 9110, 12.5.3)."""
    weights = {}
    for part in ",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ())).lower().split(","):
        coding, _, weight = part.partition(";")
        weights[coding.strip()] = weight.strip().removeprefix("q=")
    chosen = weights.get("gzip", weights.get("*"))
    return chosen is not None and (chosen == "" or chosen.strip("0.") != "")
