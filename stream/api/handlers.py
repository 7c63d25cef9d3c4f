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
from stream.api.answers.questions import Answer, Question, Questions
from stream.api.answers.tracks import Tracks
from stream.api.http.application import TICKET, Gate, Handler, Pages
from stream.api.http.requests import decode, read_body, read_box, read_entity, read_query
from stream.api.http.server import JSON, Server, event_stream, json_response
from stream.api.http.tickets import VALID_S
from stream.api.live import sending
from stream.api.live.newest import Newest
from stream.api.live.topics import now_ms
from stream.api.live.watching import Watch
from stream.api.openapi import as_json
from stream.api.operations import GEO_JSON, OPERATIONS
from stream.api.trips.pages import Feeds
from stream.config.settings import DEFAULT_HORIZONS_S
from stream.http.problems import Refusal
from stream.services.arrivals.estimate import estimate
from stream.wire import AtlasRef, ModelRef
from stream.wire.arrivals import Circle
from stream.wire.ids import forecast_id
from stream.wire.scoring import distance_m

STREAMS: Final = {"streamEvents": "events", "openSocket": "socket"}  # operations, and their kind in the metrics
_CURSOR: Final = re.compile(r"[0-9a-f]{1,8}")


class Handlers:
    """The operations, each a method. They belong to one event loop."""

    def __init__(
        self, asker: Questions, tracks: Tracks, newest: Newest, server: Server, gate: Gate, feeds: Feeds
    ) -> None:
        """Takes a gate that takes tickets."""
        self._questions = asker
        self._tracks = tracks
        self._newest = newest
        self._server = server
        self._gate = gate
        self._feeds = feeds
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
            "getTripUpdates": self.feed,
            "getTripUpdatesAsJson": self.feed,
            "getVehiclePositions": self.feed,
            "getVehiclePositionsAsJson": self.feed,
            "describe": self.describe,
        }

    # -- one entity --------------------------------------------------------------------------------------------------

    async def forecast(self, request: web.Request) -> web.Response:
        entity_id = read_entity(request)
        query = read_query(request, m.ForecastQuery)
        question = Question(entity_id, query.horizon_s, since_now=query.since == "now")
        answer = await self._questions.ask(question)
        state_forecast, network = answer.state_forecast, answer.network
        version, atlas = None, None
        if answer.atlas is not None:
            version = None if answer.atlas.atlas is None else answer.atlas.version
            atlas = AtlasRef(version, state_forecast.atlas_pings, version != answer.atlas.version)
        return json_response(
            m.EntityForecast(
                forecast_id=forecast_id(entity_id, state_forecast.forecast.anchor.ts, network.version, version),
                entity_id=entity_id,
                anchor=state_forecast.forecast.anchor,
                next=state_forecast.forecast.next,
                horizons=state_forecast.forecast.horizons,
                branches=state_forecast.forecast.branches,
                model=ModelRef(network.name, network.version),
                atlas=atlas,
                status=state_forecast.forecast.status,
                window=state_forecast.window,
                cache=state_forecast.cache,
                state=self._state(entity_id, answer),
            )
        )

    def _state(self, entity_id: str, answer: Answer) -> m.StoredState:
        anchor_ms, heard = answer.state_forecast.window.to_ts, self._newest.forecast(entity_id)
        return m.StoredState(
            partition=answer.partition,
            next_offset=answer.stored.track.next_offset,
            age_s=(answer.now_ms - anchor_ms) / 1000,
            behind_s=None if heard is None else max(0, heard[1] - anchor_ms) / 1000,
        )

    async def entity(self, request: web.Request) -> web.Response:
        entity_id = read_entity(request)
        read_query(request, m.Nothing)
        newest = self._newest.forecast(entity_id)
        if newest is None:
            raise Refusal("unknown_entity", "no forecast of this entity was heard of lately", came=entity_id)
        raw, ts_ms = newest
        age_s = msgspec.json.encode((now_ms() - ts_ms) / 1000)
        return web.Response(body=b'{"forecast":%s,"age_s":%s}' % (raw, age_s), content_type=JSON)

    async def entities(self, request: web.Request) -> web.Response:
        query = read_query(request, m.ListQuery)
        if query.cursor is not None and _CURSOR.fullmatch(query.cursor) is None:
            raise Refusal("bad_parameter", "the cursor is none of ours", came=query.cursor, expected="`next` of a page")
        first = int(query.cursor or "0", 16)
        rows = np.flatnonzero(self._newest.inside(read_box(query.bbox))[first:]) + first
        page = rows[: query.limit].tolist()
        positions = [
            m.Position(entity_id=i, ts=ts, lat=lat, lon=lon) for i, ts, lat, lon in map(self._newest.position, page)
        ]
        more = len(rows) > len(page)
        return json_response(m.Entities(entities=positions, next=f"{page[-1] + 1:x}" if more else None))

    # -- tracks ------------------------------------------------------------------------------------------------------

    async def fill(self, request: web.Request) -> web.Response:
        if _content_type(request, JSON, GEO_JSON) == JSON:
            track = await read_body(request, m.Track)
            return json_response(await self._tracks.fill(track.points))
        feature = await read_body(request, m.TrackFeature)
        return json_response(_as_feature(await self._tracks.fill(_points(feature))), GEO_JSON)

    async def arrival(self, request: web.Request) -> web.Response:
        _content_type(request, JSON)
        question = await read_body(request, m.EtaQuestion)
        if (question.entity_id is None) == (question.points is None):
            came = "neither" if question.entity_id is None else "both"
            raise Refusal("bad_body", "whose arrival?", came=came, expected="either entity_id or points")
        place = question.destination
        if question.points is not None:
            answer = await self._questions.ask_of_track(question.points, DEFAULT_HORIZONS_S)
        else:
            assert question.entity_id is not None, "one of them is given"
            answer = await self._questions.ask(Question(question.entity_id, DEFAULT_HORIZONS_S))
        estimation = estimate(answer.state_forecast.forecast, Circle(place.lat, place.lon, question.radius_m))
        median_s, low_s, high_s = (
            round(seconds, 3) for seconds in (estimation.in_s, *estimation.interval_s(m.ETA_SHARE))
        )
        anchor = answer.state_forecast.forecast.anchor
        return json_response(
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
                entity_id=question.entity_id,
                model=ModelRef(answer.network.name, answer.network.version),
                state=None if question.entity_id is None else self._state(question.entity_id, answer),
            )
        )

    # -- streams -----------------------------------------------------------------------------------------------------

    async def stream(self, request: web.Request) -> web.StreamResponse:
        query = read_query(request, m.StreamQuery, besides=(TICKET,))
        last_id = request.headers.get("Last-Event-ID") or query.last_event_id
        watch = Watch(self._newest, self._server.id, read_box(query.bbox), query.entity, last_id)
        response = event_stream()
        await self._streaming(
            request, sending.events(request, self._newest, watch, response, self._gate.metrics.count_sent)
        )
        return response

    async def socket(self, request: web.Request) -> web.StreamResponse:
        query = read_query(request, m.StreamQuery, besides=(TICKET,))
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
        last_id = request.headers.get("Last-Event-ID") or query.last_event_id
        watch = Watch(self._newest, self._server.id, read_box(query.bbox), query.entity, last_id)

        def rewatch(text: str) -> Watch:
            wanted = decode(text, events.WatchMessage)
            return Watch(self._newest, self._server.id, read_box(wanted.bbox), wanted.entity)

        await self._streaming(
            request, sending.socket(request, self._newest, watch, response, rewatch, self._gate.metrics.count_sent)
        )
        return response

    async def ticket(self, request: web.Request) -> web.Response:
        read_query(request, m.Nothing)
        assert self._gate.tickets is not None, "the gate takes them"
        return json_response(m.Ticket(ticket=self._gate.tickets.give(time.monotonic()), valid_s=VALID_S))

    async def _streaming(self, request: web.Request, stream: Coroutine[Any, Any, None]) -> None:
        await self._server.streams.run(request, self._gate, STREAMS[request.match_info.route.name or ""], stream)

    async def feed(self, request: web.Request) -> web.Response:
        read_query(request, m.Nothing)
        return await self._feeds.answer(request)

    async def describe(self, request: web.Request) -> web.Response:
        return web.Response(body=self._document, content_type=JSON)


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
