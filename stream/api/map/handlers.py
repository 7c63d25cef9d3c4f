"""Answers each request of the map's page."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import hdrs, web

from stream.api.http.application import Gate, Handler, Pages
from stream.api.http.requests import read_box, read_entity, read_query
from stream.api.http.server import JSON, Server, event_stream, json_response
from stream.api.live.topics import now_ms
from stream.api.map.access import MapAccess
from stream.api.map.files import INDEX, Files
from stream.api.map.fleet.entity import Entity
from stream.api.map.fleet.errors import rows
from stream.api.map.fleet.fleet import Fleet
from stream.api.map.fleet.rendering import entity_json
from stream.api.map.routes import ROUTES, AtlasQuery, HistoryQuery, SearchQuery, StreamQuery
from stream.api.map.sources.basemap import Basemap
from stream.api.map.sources.streets import Streets
from stream.api.map.streaming import sending
from stream.api.map.streaming.view import MOST, View
from stream.api.messages import Nothing
from stream.api.trips.view import stop_view, trip_view
from stream.http.encodings import takes_gzip
from stream.http.problems import Refusal

STREAM: Final = "events"  # the kind of the stream in the metrics
STREAMS: Final = {"stream": STREAM}  # by its route
HINT: Final = "/ is the page; stream/api/map/routes.py has what else there is"
REGIONS: Final = (0.5, 0.9)
FORMERS: Final = 30  # that are told of an entity
EXPECTED: Final = 500  # entities that are told of with their arrivals; nobody reads more of them
FOR_GOOD: Final = "private, max-age=31536000, immutable"  # a year: the most that browsers understand
IF_UNCHANGED: Final = "private, no-cache"  # a browser may keep it, and asks each time
FIGURES_S: Final = 0.5  # for which the fleet's figures count: all pages get the same
_ENCODER: Final = msgspec.json.Encoder()


@dataclass(frozen=True)
class PageSettings:
    """The settings that the page gets at its start, and the folder of its files."""

    title: str
    source: str
    keep_s: float
    stale_s: float
    folder: Path  # of the page
    basemap: Basemap | None = None


class Handlers:
    """The answers. They belong to one event loop."""

    def __init__(
        self,
        shown: PageSettings,
        fleet: Fleet,
        streets: Streets,
        server: Server,
        gate: Gate,
        access: MapAccess,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._shown = shown
        self._fleet = fleet
        self._streets = streets
        self._server = server
        self._gate = gate
        self._access = access
        self._clock_ms = clock_ms
        self._files = Files(shown.folder)
        self._figures: tuple[float, bytes] = (-FIGURES_S, b"")

    @property
    def pages(self) -> Pages:
        return Pages(ROUTES, self._by_route, self._gate, STREAMS, HINT)

    @property
    def _by_route(self) -> Mapping[str, Handler]:
        return {
            **self._server.own,
            "page": self.page,
            "static": self.static,
            "config": self.config,
            "stream": self.stream,
            "entity": self.entity,
            "passages": self.passages,
            "search": self.search,
            "history": self.history,
            "atlas": self.atlas,
            "learning": self.learning,
            "arrivals": self.arrivals,
            "stop": self.stop,
            "basemap": self.basemap,
        }

    # -- files -------------------------------------------------------------------------------------------------------

    async def page(self, request: web.Request) -> web.StreamResponse:
        token = request.query.get("token")
        if token is None:
            return self._file(request, INDEX)
        self._gate.count(request)  # a guess
        if not self._access.is_token(token):
            raise Refusal("no_token", "the token is not ours", expected="/?token=TOKEN")
        response = web.Response(status=303, headers={hdrs.LOCATION: "./"})
        self._access.remember(response, token)
        return response

    async def static(self, request: web.Request) -> web.StreamResponse:
        digest, path = request.match_info["digest"], request.match_info["path"]
        if digest != self._files.digest:
            raise Refusal("not_found", "the page's files are others now: load it again", came=digest)
        response = self._file(request, path)
        response.headers[hdrs.CACHE_CONTROL] = FOR_GOOD
        return response

    def _file(self, request: web.Request, name: str) -> web.Response:
        file = self._files.get(name)
        if file is None:
            raise Refusal("not_found", "the page has no such file", came=name)
        is_gzipped = takes_gzip(request)
        tag = f"{file.tag}-gzip" if is_gzipped else file.tag
        if any(one.value in (tag, "*") for one in request.if_none_match or ()):
            response = web.Response(status=304)
        else:
            body = file.gzipped if is_gzipped else file.body
            response = web.Response(body=body, content_type=file.content_type, charset="utf-8")
            if is_gzipped:
                response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        response.headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        response.etag = tag
        return response

    async def basemap(self, request: web.Request) -> web.StreamResponse:
        if self._shown.basemap is None or self._shown.basemap.file is None:
            raise Refusal("not_found", "there is no base map here: start pathcast map with --basemap FILE")
        response = web.FileResponse(self._shown.basemap.file)
        response.content_type = "application/octet-stream"
        response.headers[hdrs.CACHE_CONTROL] = IF_UNCHANGED
        return response

    # -- the fleet ---------------------------------------------------------------------------------------------------

    async def config(self, request: web.Request) -> web.Response:
        read_query(request, Nothing)
        shown, base = self._shown, self._shown.basemap
        tiles = {"url": base.address, "host": base.host, "credit": base.credit} if base and base.address else None
        return json_response(
            {
                "title": shown.title,
                "source": shown.source,
                "scrub_s": shown.keep_s,
                "stale_s": shown.stale_s,
                "max_updates_per_s": sending.UPDATES_PER_S,
                "basemap": base is not None and base.file is not None,
                "tiles": tiles,
                "atlas": self._streets.is_there,
                "regions": REGIONS,
                "server_id": self._server.id,
            }
        )

    async def stream(self, request: web.Request) -> web.StreamResponse:
        query = read_query(request, StreamQuery)
        view = View(self._fleet, read_box(query.bbox), query.entity)
        response = event_stream()
        await self._server.streams.run(request, self._gate, STREAM, self._send(request, response, view))
        return response

    async def _send(self, request: web.Request, response: web.StreamResponse, view: View) -> None:
        await response.prepare(request)
        page = sending.Page(response, lambda count: self._gate.metrics.count_sent(STREAM, count))
        await sending.events(view, page, self._now_ms, self._summary_json)

    def _summary_json(self) -> bytes:
        then_s, summary = self._figures
        if time.monotonic() - then_s >= FIGURES_S:
            summary = _ENCODER.encode(self._fleet.summary(self._clock_ms()) | {"streets": self._streets.version})
            self._figures = time.monotonic(), summary
        return summary

    async def entity(self, request: web.Request) -> web.Response:
        read_query(request, Nothing)
        entity_id, entity = self._find_entity(request)
        fills = b",".join(self._fleet.fills.of(entity_id, self._now_ms()))
        about = self._about(entity_id, entity)
        whole = entity_json(entity_id, entity.moment, stale=self._is_stale(entity), track=entity.track())
        return web.Response(body=b'{"entity":%s,"fills":[%s],%s' % (whole, fills, about[1:]), content_type=JSON)

    def _find_entity(self, request: web.Request) -> tuple[str, Entity]:
        entity_id = read_entity(request)
        entity = self._fleet.get(entity_id)
        if entity is None:
            raise Refusal("unknown_entity", "no forecast of this entity was heard of lately", came=entity_id)
        return entity_id, entity

    async def passages(self, request: web.Request) -> web.Response:
        read_query(request, Nothing)
        _, entity = self._find_entity(request)
        moment = entity.moment
        if moment.atlas is None or not moment.passages:
            return json_response({"version": None, "passages": []})
        return json_response(await self._streets.compare(moment.atlas, entity.track()))

    def _is_stale(self, entity: Entity) -> bool:
        return self._fleet.is_stale(entity.moment.ts, self._now_ms())

    def _about(self, entity_id: str, entity: Entity) -> bytes:
        compared = entity.comparisons()
        former = [
            {name: getattr(one, name) for name in FORMER} for one in sorted(compared, key=lambda one: one.at)[-FORMERS:]
        ]
        errors = rows(one.outcome for one in compared)
        arrivals = self._fleet.arrivals.of(entity_id, entity.moment.ts)
        trip = self._fleet.trips.of(entity_id)
        shown = None if trip is None else trip_view(trip)
        return _ENCODER.encode({"former": former, "errors": errors, "arrivals": arrivals, "trip": shown})

    async def search(self, request: web.Request) -> web.Response:
        return json_response({"ids": self._fleet.search(read_query(request, SearchQuery).q)})

    async def history(self, request: web.Request) -> web.Response:
        query = read_query(request, HistoryQuery)
        first = self._now_ms() - int(self._shown.keep_s * 1000)
        if query.at < first:
            expected = f"a time from {first} on"
            raise Refusal("bad_parameter", "nothing is kept of that time", came=query.at, expected=expected)
        entities = self._fleet.then(read_box(query.bbox), query.at, MOST)
        body = b'{"now_ms":%d,"entities":[%s]}' % (query.at, b",".join(entities))
        return web.Response(body=body, content_type=JSON)

    async def atlas(self, request: web.Request) -> web.Response:
        query = read_query(request, AtlasQuery)
        return json_response(self._streets.flows(read_box(query.bbox), query.cells))

    async def learning(self, request: web.Request) -> web.Response:
        read_query(request, Nothing)
        kept = self._fleet.scores if len(self._fleet.scores) else self._fleet.errors
        return json_response({"points": kept.points()})

    async def arrivals(self, request: web.Request) -> web.Response:
        read_query(request, Nothing)
        return json_response(self._fleet.expect(self._now_ms(), EXPECTED))

    async def stop(self, request: web.Request) -> web.Response:
        read_query(request, Nothing)
        return json_response(stop_view(self._fleet.trips, read_entity(request)))

    def _now_ms(self) -> int:
        return self._fleet.now_ms(self._clock_ms())


FORMER: Final = ("at", "h_s", "lat", "lon", "cov_m2", "true_ts", "true_lat", "true_lon", "error_m", "damped_m")
