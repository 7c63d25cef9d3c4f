"""Routes of the map and their parameters.

    GET /, /static/DIGEST/...        the page and its files, which browsers keep for good: the digest is of all of them
    GET /map/config                  title, source, times, whether there are a base map and an atlas, the address of
                                     its `tiles`, `server_id` (another one after a restart)
    GET /map/stream?bbox=&entity=    server-sent events: `snapshot`, then `delta` up to five times a second, and `fleet`
                                     once a second. The entity is included wherever it is. A snapshot has tracks
                                     ([ts, lat, lon]); a delta `updates`, `fills` (a later one of a `gap_id` replaces
                                     the former, one without points retracts it) and `gone`; `more` are those beyond
                                     5,000
    GET /map/entities/ID             one entity with its whole track, former forecasts, errors, gap fills and
                                     arrivals, and the trip that it is on, with its stops ahead, or null
    GET /map/entities/ID/passages    the passages that its newest forecast was compared with, found anew for the track
                                     that the map keeps: [weight, [[seconds, lat, lon], ...]], the nearest first, and
                                     the `version` of the atlas that they are of (null: the forecast rests on none)
    GET /map/search?q=               up to 20 ids that contain the text, those first that begin with it
    GET /map/history?bbox=&at=MS     the fleet at that time: each `track` up to then, and in `ahead` the first 24 places
                                     after it, along which the page glides
    GET /map/atlas?bbox=&cells=N     the most travelled ways: [lat, lon, to_lat, to_lon, count]
    GET /map/arrivals                when entities are expected at their destinations: of up to 500 entities, those
                                     with the soonest arrival first, and how many `more` there are
    GET /map/stops/ID                which trips under way reach a stop of the schedule, the soonest first
    GET /map/learning                mean errors by minute and horizon, and of how many cases they are
    GET /basemap.pmtiles             parts of the base map, by `Range`
    GET /healthz, /readyz, /metrics  for those who watch it

Programs ask `pathcast serve` instead: nothing here is promised.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import msgspec

from stream.api.messages import BBox, EntityId, RequestPart

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
    MapRoute("config", "/map/config"),
    MapRoute("stream", "/map/stream"),
    MapRoute("entity", "/map/entities/{id}"),
    MapRoute("passages", "/map/entities/{id}/passages"),
    MapRoute("search", "/map/search"),
    MapRoute("history", "/map/history"),
    MapRoute("atlas", "/map/atlas"),
    MapRoute("learning", "/map/learning"),
    MapRoute("arrivals", "/map/arrivals"),
    MapRoute("stop", "/map/stops/{id}"),
    MapRoute("basemap", "/basemap.pmtiles"),
    MapRoute("health", "/healthz", is_open=True),
    MapRoute("ready", "/readyz", is_open=True),
    MapRoute("metrics", "/metrics"),
)


class StreamQuery(RequestPart, frozen=True, kw_only=True):
    bbox: BBox | None = None
    entity: EntityId | None = None


class SearchQuery(RequestPart, frozen=True, kw_only=True):
    q: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_QUERY_CHARS)]


class HistoryQuery(RequestPart, frozen=True, kw_only=True):
    at: int
    bbox: BBox | None = None


class AtlasQuery(RequestPart, frozen=True, kw_only=True):
    bbox: BBox | None = None
    cells: Annotated[int, msgspec.Meta(ge=1, le=MOST_FLOWS)] = SOME_FLOWS
