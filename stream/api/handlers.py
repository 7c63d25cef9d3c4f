"""Answers each operation of the API. What it asks is in `asking` and `live`; nothing here waits for anything else."""

from __future__ import annotations

import re
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Final

import msgspec
import numpy as np
from aiohttp import hdrs, web

from stream.api import events
from stream.api import messages as m
from stream.api.asking.asker import Answer, Asker, Question
from stream.api.asking.tracks import Tracks
from stream.api.http.application import TICKET, Gate, Handler, Pages
from stream.api.http.asked import box, entity, query
from stream.api.http.problems import Refusal
from stream.api.http.reading import body, decoded
from stream.api.http.server import Server
from stream.api.http.tickets import VALID_S
from stream.api.live import sending
from stream.api.live.newest import Newest
from stream.api.live.topics import now_ms
from stream.api.live.watching import Watch
from stream.api.openapi import as_json
from stream.api.operations import GEO_JSON, JSON, OPERATIONS
from stream.config.settings import DEFAULT_HORIZONS_S
from stream.services.arrivals.estimate import estimate
from stream.wire import AtlasRef, ModelRef
from stream.wire.arrivals import Circle
from stream.wire.ids import forecast_id
from stream.wire.scoring import distance_m

STREAMS: Final = {"streamEvents": "events", "openSocket": "socket"}  # operations, and their kind in the metrics
_CURSOR: Final = re.compile(r"[0-9a-f]{1,8}")
_ENCODER: Final = msgspec.json.Encoder()


class Handlers:
    """The operations, each a method. They belong to one event loop."""

    def __init__(self, asker: Asker, tracks: Tracks, newest: Newest, server: Server, gate: Gate) -> None:
        """Takes a gate that takes tickets."""
        self._asker = asker
        self._tracks = tracks
        self._newest = newest
        self._server = server
        self._gate = gate
        self._document = as_json()

    @property
    def pages(self) -> Pages:
        return Pages(OPERATIONS, self._by_operation, self._gate, STREAMS, "/openapi.json has what there is")

    @property
    def _by_operation(self) -> Mapping[str, Handler]:
        return {
            **self._server.own,
            "forecastEntity": self.forecast,
            "getEntity": self.entity,
            "listEntities": self.entities,
            "fillGaps": self.fill,
            "estimateArrival": self.arrival,
            "streamEvents": self.stream,
            "openSocket": self.socket,
            "giveTicket": self.ticket,
            "describe": self.describe,
        }

    # -- one entity --------------------------------------------------------------------------------------------------

    async def forecast(self, request: web.Request) -> web.Response:
        entity_id = entity(request)
        asked = query(request, m.ForecastQuery)
        question = Question(entity_id, asked.horizon_s, since_now=asked.since == "now")
        answer = await self._asker.ask(question)
        said, network = answer.said, answer.network
        version, atlas = None, None
        if answer.atlas is not None:
            version = None if answer.atlas.atlas is None else answer.atlas.version
            atlas = AtlasRef(version, said.atlas_pings, version != answer.atlas.version)
        return _json(
            m.EntityForecast(
                forecast_id=forecast_id(entity_id, said.forecast.anchor.ts, network.version, version),
                entity_id=entity_id,
                anchor=said.forecast.anchor,
                next=said.forecast.next,
                horizons=said.forecast.horizons,
                branches=said.forecast.branches,
                model=ModelRef(network.name, network.version),
                atlas=atlas,
                status=said.forecast.status,
                window=said.window,
                cache=said.cache,
                state=self._state(entity_id, answer),
            )
        )

    def _state(self, entity_id: str, answer: Answer) -> m.StoredState:
        anchor_ms, heard = answer.said.window.to_ts, self._newest.forecast(entity_id)
        return m.StoredState(
            partition=answer.partition,
            next_offset=answer.stored.track.next_offset,
            age_s=(answer.now_ms - anchor_ms) / 1000,
            behind_s=None if heard is None else max(0, heard[1] - anchor_ms) / 1000,
        )

    async def entity(self, request: web.Request) -> web.Response:
        entity_id = entity(request)
        query(request, _Nothing)
        found = self._newest.forecast(entity_id)
        if found is None:
            raise Refusal("unknown_entity", "no forecast of this entity was heard of lately", came=entity_id)
        raw, ts_ms = found
        age_s = msgspec.json.encode((now_ms() - ts_ms) / 1000)
        return web.Response(body=b'{"forecast":%s,"age_s":%s}' % (raw, age_s), content_type=JSON)

    async def entities(self, request: web.Request) -> web.Response:
        asked = query(request, m.ListQuery)
        if asked.cursor is not None and _CURSOR.fullmatch(asked.cursor) is None:
            raise Refusal("bad_parameter", "the cursor is none of ours", came=asked.cursor, expected="`next` of a page")
        first = int(asked.cursor or "0", 16)
        rows = np.flatnonzero(self._newest.inside(box(asked.bbox))[first:]) + first
        page = rows[: asked.limit].tolist()
        said = [
            m.Position(entity_id=i, ts=ts, lat=lat, lon=lon) for i, ts, lat, lon in map(self._newest.position, page)
        ]
        more = len(rows) > len(page)
        return _json(m.Entities(entities=said, next=f"{page[-1] + 1:x}" if more else None))

    # -- tracks ------------------------------------------------------------------------------------------------------

    async def fill(self, request: web.Request) -> web.Response:
        if _content_type(request, JSON, GEO_JSON) == JSON:
            track = await body(request, m.Track)
            return _json(await self._tracks.filled(track.points))
        feature = await body(request, m.TrackFeature)
        return _json(_as_feature(await self._tracks.filled(_points(feature))), GEO_JSON)

    async def arrival(self, request: web.Request) -> web.Response:
        _content_type(request, JSON)
        asked = await body(request, m.EtaQuestion)
        if (asked.entity_id is None) == (asked.points is None):
            came = "neither" if asked.entity_id is None else "both"
            raise Refusal("bad_body", "whose arrival?", came=came, expected="either entity_id or points")
        place = asked.destination
        if asked.points is not None:
            answer = await self._asker.ask_of_track(asked.points, DEFAULT_HORIZONS_S)
        else:
            assert asked.entity_id is not None, "one of them is given"
            answer = await self._asker.ask(Question(asked.entity_id, DEFAULT_HORIZONS_S))
        estimated = estimate(answer.said.forecast, Circle(place.lat, place.lon, asked.radius_m))
        median_s, low_s, high_s = (
            round(seconds, 3) for seconds in (estimated.in_s, *estimated.interval_s(m.ETA_SHARE))
        )
        anchor = answer.said.forecast.anchor
        return _json(
            m.Eta(
                anchor=anchor,
                destination=place,
                distance_m=round(distance_m(anchor.lat, anchor.lon, place.lat, place.lon), 2),
                travel_s=median_s,
                travel_low_s=low_s,
                travel_high_s=high_s,
                arrives_ts=anchor.ts + round(1000 * median_s),
                arrives_low_ts=anchor.ts + round(1000 * low_s),
                arrives_high_ts=anchor.ts + round(1000 * high_s),
                entity_id=asked.entity_id,
                model=ModelRef(answer.network.name, answer.network.version),
                state=None if asked.entity_id is None else self._state(asked.entity_id, answer),
            )
        )

    # -- streams -----------------------------------------------------------------------------------------------------

    async def stream(self, request: web.Request) -> web.StreamResponse:
        asked = query(request, m.StreamQuery, besides=(TICKET,))
        last_id = request.headers.get("Last-Event-ID") or asked.last_event_id
        watch = Watch(self._newest, self._server.id, box(asked.bbox), asked.entity, last_id)
        response = web.StreamResponse()
        await self._streaming(request, sending.events(request, self._newest, watch, response, self._gate.metrics.sent))
        return response

    async def socket(self, request: web.Request) -> web.StreamResponse:
        asked = query(request, m.StreamQuery, besides=(TICKET,))
        response = web.WebSocketResponse(
            heartbeat=sending.HEARTBEAT_S, max_msg_size=sending.MAX_SAID_BYTES, compress=False
        )
        if not response.can_prepare(request).ok:
            raise Refusal(
                "no_websocket",
                "this page speaks WebSocket",
                came=request.headers.get(hdrs.UPGRADE),
                expected="Upgrade: websocket",
                headers={hdrs.UPGRADE: "websocket"},
            )
        last_id = request.headers.get("Last-Event-ID") or asked.last_event_id
        watch = Watch(self._newest, self._server.id, box(asked.bbox), asked.entity, last_id)

        def rewatch(said: str) -> Watch:
            wanted = decoded(said, events.WatchMessage)
            return Watch(self._newest, self._server.id, box(wanted.bbox), wanted.entity)

        await self._streaming(
            request, sending.socket(request, self._newest, watch, response, rewatch, self._gate.metrics.sent)
        )
        return response

    async def ticket(self, request: web.Request) -> web.Response:
        query(request, _Nothing)
        assert self._gate.tickets is not None, "the gate takes them"
        return _json(m.Ticket(ticket=self._gate.tickets.give(time.monotonic()), valid_s=VALID_S))

    async def _streaming(self, request: web.Request, stream: Coroutine[Any, Any, None]) -> None:
        await self._server.streams.run(request, self._gate, STREAMS[request.match_info.route.name or ""], stream)

    async def describe(self, request: web.Request) -> web.Response:
        return web.Response(body=self._document, content_type=JSON)


class _Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of an operation that has none."""


def _content_type(request: web.Request, *known: str) -> str:
    if request.content_type not in known:
        came = request.headers.get(hdrs.CONTENT_TYPE, "no Content-Type")
        raise Refusal("wrong_type", "a body of this type is not read here", came=came, expected=" or ".join(known))
    return request.content_type


def _points(feature: m.TrackFeature) -> list[m.Point]:
    """Returns the points of a GeoJSON track. Raises Refusal."""
    places, times = feature.geometry.coordinates, feature.properties.times
    if len(places) != len(times):
        came, expected = f"{len(times)} times", f"{len(places)}, one for each position"
        raise Refusal("bad_body", "properties.times and the positions differ", came=came, expected=expected)
    return [m.Point(ts=ts, lat=place[1], lon=place[0]) for ts, place in zip(times, places, strict=True)]


def _as_feature(track: m.FilledTrack) -> m.FilledFeature:
    return m.FilledFeature(
        geometry=m.FilledLineString(coordinates=[(point.lon, point.lat) for point in track.points]),
        properties=m.FilledProperties(
            times=[point.ts for point in track.points],
            filled=[point.filled for point in track.points],
            gaps=track.gaps,
            left_out=track.left_out,
            model=track.model,
        ),
    )


def _json(said: msgspec.Struct, content_type: str = JSON) -> web.Response:
    return web.Response(body=_ENCODER.encode(said), content_type=content_type)
