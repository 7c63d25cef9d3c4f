"""The routes of what is served, and what every request passes through: connection, limits, token, time, errors."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from aiohttp import hdrs, web

from stream.api.http.requests import MAX_BODY_BYTES
from stream.api.http.tickets import Tickets
from stream.api.metrics import Metrics
from stream.http.access import PREFLIGHT, Access
from stream.http.limits import Buckets, Connections
from stream.http.problems import Refusal
from stream.tracing import TRACEPARENT

if TYPE_CHECKING:  # who does not trace does not import it
    from stream.tracing.requests import RequestTracer

log = logging.getLogger(__name__)

ANSWER_S: Final = 15.0  # the longest that an answer may take which is no stream
TICKET: Final = "ticket"  # the parameter that may stand for the token
UNTRACED: Final = ("health", "ready", "metrics")  # operations that programs ask all the time
UNKNOWN: Final = "unknown"  # the operation of a request for a page that there is not

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Route(Protocol):
    """Describes what a server needs to know of an operation (`stream.api.operations`)."""

    @property
    def name(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def is_open(self) -> bool: ...  # clients without the token may ask it
    @property
    def takes_ticket(self) -> bool: ...  # in the token's place


@dataclass(frozen=True)
class Gate:
    """Decides who may ask, and how much."""

    access: Access
    buckets: Buckets
    behind_proxy: bool  # the last address in X-Forwarded-For is the client's
    connections: Connections
    metrics: Metrics
    tickets: Tickets | None = None  # that are given for a token (`POST /v1/tickets`)
    tracer: RequestTracer | None = None  # None: nothing is traced

    def client(self, request: web.BaseRequest) -> str:
        """Returns by what a client's requests are counted."""
        if self.behind_proxy and (addresses := request.headers.getall("X-Forwarded-For", [])):
            return addresses[-1].rpartition(",")[2].strip()[:64]
        return request.remote or ""

    def count(self, request: web.BaseRequest) -> None:
        """Counts a request of its client. Raises Refusal if these are too many."""
        wait_s = self.buckets.take(self.client(request), time.monotonic())
        if wait_s > 0:
            headers = {"Retry-After": str(math.ceil(wait_s))}
            raise Refusal("too_many_requests", f"the next one is answered in {wait_s:.2f} s", headers=headers)

    def check(self, request: web.BaseRequest, *, takes_ticket: bool = False) -> None:
        """Raises Refusal unless the request may be answered. Guesses of the token count as requests."""
        self.count(request)
        if self.access.knows(request):
            return
        if self.tickets is not None and takes_ticket and (ticket := request.query.get(TICKET)) is not None:
            if self.tickets.take(ticket, time.monotonic()):
                return
            raise Refusal(
                "no_token",
                "the ticket was used, is too old, or was given by another process",
                expected="a new one of POST /v1/tickets",
                headers={hdrs.WWW_AUTHENTICATE: "Bearer"},
            )
        came = request.headers.get(hdrs.AUTHORIZATION)
        raise Refusal(
            "no_token",
            "there is no token" if came is None else "the token is not ours",
            expected="Authorization: Bearer TOKEN",
            headers={hdrs.WWW_AUTHENTICATE: "Bearer"},
        )


class Pages(NamedTuple):
    """Has the routes of one part of what is served, such as the API, and who answers them."""

    routes: Sequence[Route]
    handlers: Mapping[str, Handler]  # by the name of the route
    gate: Gate
    streams: Mapping[str, str]  # the routes that never end, and their kind in the metrics
    hint: str  # says where it is written which pages there are


def application(parts: Sequence[Pages]) -> web.Application:
    """Returns the application of these parts. If two have a route of the same name, such as that of the metrics, the
    first one's is served; the first one also answers requests for pages that there are not."""
    by_name = {one.name: (pages, one) for pages in reversed(parts) for one in pages.routes}

    def find(request: web.Request) -> tuple[Pages, Route | None]:
        return by_name.get(request.match_info.route.name or "", (parts[0], None))

    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        find(request)[0].gate.access.sign(request, response.headers)

    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_guard(find)])
    for pages, one in by_name.values():
        path = one.path.replace("{id}", "{id:[^/]+}")  # aiohttp's own pattern leaves out braces, which ids may have
        app.router.add_route(one.method, path, pages.handlers[one.name], name=one.name)
    app.on_response_prepare.append(sign)
    return app


def _guard(find: Callable[[web.Request], tuple[Pages, Route | None]]) -> Any:  # aiohttp does not export the type
    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        pages, operation = find(request)
        gate = pages.gate
        began_s = time.perf_counter()
        traced = None
        if gate.tracer is not None and (operation is None or operation.name not in UNTRACED):
            traced = gate.tracer.begin(request.headers.get(TRACEPARENT))
        gate.connections.begin(request)
        status = 0
        try:
            response = await _answer(pages, operation, request, handler)
            status = response.status
        finally:
            gate.connections.end(request)
            name = UNKNOWN if operation is None else operation.name
            seconds = None if name in pages.streams else time.perf_counter() - began_s
            gate.metrics.count_answer(name, status, seconds)  # status 0: the client has gone
            if gate.tracer is not None and traced is not None:
                path = None if operation is None else operation.path
                gate.tracer.end(traced, request.method, path, status, request.match_info.get("id", ""))
        return response

    return guarded


async def _answer(pages: Pages, operation: Route | None, request: web.Request, handler: Handler) -> web.StreamResponse:
    gate = pages.gate
    if gate.access.is_preflight(request):
        return web.Response(status=204, headers=PREFLIGHT)
    try:
        if operation is None or not operation.is_open:
            gate.check(request, takes_ticket=operation is not None and operation.takes_ticket)
        if operation is not None and operation.name in pages.streams:
            return await handler(request)
        async with asyncio.timeout(ANSWER_S):
            return await handler(request)
    except Refusal as refusal:
        return _refuse(request, refusal)
    except web.HTTPException as error:
        return _refuse(request, _as_refusal(request, error, pages.hint))
    except TimeoutError:
        return _refuse(request, Refusal("not_ready", f"no answer within {ANSWER_S:g} s"))
    except Exception:
        log.exception("a request failed: %s %s", request.method, request.match_info.route.name)
        return _refuse(request, Refusal("broken", "the log of the server says more"))


def _refuse(request: web.Request, refusal: Refusal) -> web.Response:
    response = refusal.response()
    if request.body_exists and not request.content.at_eof():
        response.force_close()  # rather than read a body that nobody wants
    return response


def _as_refusal(request: web.Request, error: web.HTTPException, hint: str) -> Refusal:
    """Returns what aiohttp's router says as a problem."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Refusal(
            "wrong_method", f"{allowed} is answered here", came=request.method, expected=allowed,
            headers={hdrs.ALLOW: allowed},
        )  # fmt: skip
    if error.status == 404:
        return Refusal("not_found", hint, came=request.path)
    if error.status == 413:
        return Refusal("too_large", f"at most {MAX_BODY_BYTES} bytes are read")
    return Refusal("bad_body", error.reason)
