"""What there is to ask, and the parameters."""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import msgspec

from stream.api.messages import Asked, BBox, EntityId
from stream.map.metrics import STREAM

MOST_FLOWS: Final = 20_000
SOME_FLOWS: Final = 4_000
MAX_QUERY_CHARS: Final = 128


class MapRoute(NamedTuple):
    name: str
    path: str
    is_open: bool = False  # anybody may ask: it says nothing of the fleet
    method: str = "GET"
    takes_ticket: bool = False  # the page has a cookie instead


ROUTES: Final = (
    MapRoute("page", "/", is_open=True),
    MapRoute("static", "/static/{digest}/{path:.+}", is_open=True),
    MapRoute("config", "/v1/config"),
    MapRoute("stream", "/v1/stream"),
    MapRoute("entity", "/v1/entities/{id}"),
    MapRoute("passages", "/v1/entities/{id}/passages"),
    MapRoute("search", "/v1/search"),
    MapRoute("history", "/v1/history"),
    MapRoute("atlas", "/v1/atlas"),
    MapRoute("learning", "/v1/learning"),
    MapRoute("basemap", "/basemap.pmtiles"),
    MapRoute("health", "/healthz", is_open=True),
    MapRoute("ready", "/readyz", is_open=True),
    MapRoute("metrics", "/metrics"),
)
STREAMS: Final = {"stream": STREAM}  # routes, and their kind in the metrics


class StreamQuery(Asked, frozen=True, kw_only=True):
    bbox: BBox | None = None
    entity: EntityId | None = None


class SearchQuery(Asked, frozen=True, kw_only=True):
    q: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_QUERY_CHARS)]


class HistoryQuery(Asked, frozen=True, kw_only=True):
    at: int
    bbox: BBox | None = None


class AtlasQuery(Asked, frozen=True, kw_only=True):
    bbox: BBox | None = None
    cells: Annotated[int, msgspec.Meta(ge=1, le=MOST_FLOWS)] = SOME_FLOWS


class Nothing(Asked, frozen=True, kw_only=True):
    """The parameters of a route that has none."""
