"""The server of one process: what the API and the map share, whichever of them it serves."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from stream.api.events import Health
from stream.api.http.application import Gate, Handler, Pages, application
from stream.api.live.open_streams import OpenStreams
from stream.api.options import ServerOptions
from stream.config.http_access import Address
from stream.http.limits import Buckets, Connections
from stream.http.server import HttpServer

JSON: Final = "application/json"
_ENCODER: Final = msgspec.json.Encoder()
Reasons = Callable[[], Awaitable[Sequence[str]]]


class Server:
    """Serves the parts that are added to it, and says whether the process lives and is ready. It belongs to one event
    loop."""

    def __init__(self, how: ServerOptions) -> None:
        self._address = how.address
        self.id = secrets.token_hex(4)  # another one after a restart
        self.connections = Connections(how.most_connections)
        self.streams = OpenStreams(how.most_streams)
        self.registry = CollectorRegistry()  # of the metrics
        ProcessCollector(registry=self.registry)
        self._ready = Gauge("pathcast_ready", "1: it does its work now, as /readyz says.", registry=self.registry)
        # Makes a gate out of `access`, `metrics`, and what only some have.
        self.gate = partial(
            Gate,
            buckets=Buckets(how.rate_per_s, how.burst),
            behind_proxy=how.behind_proxy,
            connections=self.connections,
        )
        self._parts: list[Pages] = []
        self._reasons: list[Reasons] = []
        self._listening: HttpServer | None = None

    @property
    def own(self) -> Mapping[str, Handler]:
        """The handlers of the pages that every process has, by the names of their routes."""
        return {"health": self.health, "ready": self.ready, "metrics": self.metrics}

    @property
    def open_connections(self) -> int:
        return 0 if self._listening is None else self._listening.connections

    def add(self, pages: Pages, reasons: Reasons) -> None:
        """Serves these pages, too. `reasons` returns why they cannot be answered now."""
        self._parts.append(pages)
        self._reasons.append(reasons)

    async def start(self) -> Address:
        """Listens, and returns the address with its real port. Raises OSError."""
        self._listening = HttpServer(application(self._parts), self.connections)
        return await self._listening.start(self._address)

    async def stop(self) -> None:
        """Ends all streams, and closes the address."""
        await self.streams.close()
        if self._listening is not None:
            await self._listening.stop()

    async def health(self, request: web.Request) -> web.Response:
        return _health([])

    async def ready(self, request: web.Request) -> web.Response:
        return _health(await self.reasons())

    async def metrics(self, request: web.Request) -> web.Response:
        self._ready.set(not await self.reasons())
        return web.Response(body=generate_latest(self.registry), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_PLAIN_0_0_4})

    async def reasons(self) -> list[str]:
        """Returns why it cannot answer now: for anybody, so it names no address and no entity."""
        return [one for reasons in self._reasons for one in await reasons()]


def _health(reasons: list[str]) -> web.Response:
    response = json_response(Health(ok=not reasons, reasons=reasons))
    response.set_status(503 if reasons else 200)
    return response


def json_response(answer: Any, content_type: str = JSON) -> web.Response:
    return web.Response(body=_ENCODER.encode(answer), content_type=content_type)


def event_stream() -> web.StreamResponse:
    """Returns a response for server-sent events, which has not begun."""
    response = web.StreamResponse()
    response.content_type = "text/event-stream"
    response.charset = "utf-8"
    response.headers["X-Accel-Buffering"] = "no"  # of proxies that would hold events back
    return response
