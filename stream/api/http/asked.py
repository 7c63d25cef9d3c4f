"""The parameters of a request, as types: of its path, of its query, and the box that they name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from aiohttp import web

from stream.api.http.problems import Refusal
from stream.api.http.reading import parameters
from stream.api.live.newest import Box
from stream.api.messages import OfEntity

T = TypeVar("T", bound=msgspec.Struct)


def entity(request: web.Request) -> str:
    """Returns the id of an entity that a path names. Raises Refusal."""
    return parameters({"id": [request.match_info["id"]]}, OfEntity, where="path").id


def query(request: web.Request, kind: type[T]) -> T:
    """Returns the parameters of a query. Raises Refusal."""
    given: dict[str, list[str]] = {}
    for name, value in request.query.items():
        given.setdefault(name, []).append(value)
    return parameters(given, kind, where="query")


def box(bbox: Sequence[float] | None) -> Box | None:
    """Returns the box of a request. Raises Refusal."""
    if bbox is None:
        return None
    found = Box(*bbox)
    if not (-180 <= found.west <= 180 and -180 <= found.east <= 180 and -90 <= found.south <= found.north <= 90):
        expected = "west,south,east,north with -180..180, -90..90 and south <= north"
        raise Refusal("bad_parameter", "the bbox is not on the globe", came=",".join(map(str, bbox)), expected=expected)
    return found
