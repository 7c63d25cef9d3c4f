"""Serves webhooks: reads a request, gives it to the sink, and answers.

    404  no such path            405  not POST              411/413  the body is too large
    401  no token, no signature  429  too many a second     415      the body is not JSON, or is packed
    408  the body came too slowly                           422      asked for with `Prefer: handling=strict`
    400  the position is in the query (Traccar)
    200  Kafka has it: the pings, and as dead letters what was none
    503  Kafka does not take records now: nothing of the message is acknowledged

A message without a single ping is answered 200, too, as it is kept as a dead letter: with 4xx many senders would send
it again for ever, and others would switch the webhook off. The body of the answer has the reasons. Errors are
problems (`stream.http.problems`), as those of the API.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiohttp import hdrs, web

from stream.config.http_access import Address
from stream.config.security import Refused
from stream.http.access import HEADERS
from stream.http.limits import Buckets, Connections
from stream.http.problems import Refusal
from stream.http.server import HttpServer
from stream.ingest.http.guards import Guard
from stream.ingest.http.webhooks import Webhook, count_outcomes
from stream.ingest.publishing.sink import Sink, Unavailable
from stream.tracing import TRACEPARENT
from stream.wire import Ping

if TYPE_CHECKING:  # who does not trace does not import it
    from stream.tracing.requests import Request

log: Final = logging.getLogger(__name__)

BODY_S: Final = 10.0  # for a body; a megabyte comes in that time on the slowest of lines that anyone uses for it
STOP_S: Final = 15.0  # for requests in flight at the end: more than Kafka may take to acknowledge (publishing.sink)
RETRY_AFTER_S: Final = 5  # of a 503
STRICT: Final = "handling=strict"
IDLE_S: Final = 60.0  # a sender that has sent nothing for so long may connect again


class Limits(NamedTuple):
    """Bounds what one process takes."""

    body_bytes: int = 1024 * 1024
    connections: int = 256
    per_s: float = 1_000.0  # messages


@asynccontextmanager
async def listening(
    address: Address, webhooks: Mapping[str, Webhook], guards: Mapping[str, Guard], limits: Limits, sink: Sink
) -> AsyncIterator[_Handler]:
    """Serves the webhooks, by path, until the end of the block; then requests in flight are still answered.

    Raises OSError if the address cannot be used.
    """
    connections = Connections(limits.connections, quiet_s=IDLE_S)
    handler = _Handler(webhooks, guards, limits, sink, connections)
    server = HttpServer(handler.answer, connections, stop_s=STOP_S)
    handler.address = await server.start(address)
    try:
        yield handler
    finally:
        await server.stop()


async def serve(
    address: Address, webhooks: Mapping[str, Webhook], guards: Mapping[str, Guard], limits: Limits, sink: Sink
) -> None:
    """Takes messages until it is cancelled. Raises Refused if a broker denies access, OSError."""
    async with listening(address, webhooks, guards, limits, sink) as handler:
        for path in webhooks:
            log.info("listening at http://%s%s", handler.address, path)
        await handler.refused


class _Handler:
    def __init__(
        self,
        webhooks: Mapping[str, Webhook],
        guards: Mapping[str, Guard],
        limits: Limits,
        sink: Sink,
        connections: Connections,
    ) -> None:
        self.address: Address | None = None
        self.refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._webhooks = webhooks
        self._guards = guards
        self._limits = limits
        self._rate = Buckets(limits.per_s, max(1.0, limits.per_s))
        self._sink = sink
        self._connections = connections

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        tracer = self._sink.tracer
        traced = None if tracer is None else tracer.begin(request.headers.get(TRACEPARENT))
        status = 0
        try:
            response = await self._take(request, traced)
            status = response.status
        except Refusal as refusal:
            response = refusal.response()
            response.headers.update(HEADERS)
            status = response.status
            if not request.content.at_eof():
                response.force_close()  # the rest of the body would be taken for the next request
        finally:
            self._connections.end(request)
            if tracer is not None and traced is not None:
                route = request.path if request.path in self._webhooks else None
                tracer.end(traced, request.method, route, status)
        return response

    async def _take(self, request: web.BaseRequest, traced: Request | None) -> web.Response:
        webhook = self._webhooks.get(request.path)
        if webhook is None:
            raise Refusal("not_found", f"there is only {', '.join(self._webhooks)}")
        guard = self._guards[request.path]
        if request.method != hdrs.METH_POST:
            raise Refusal("wrong_method", webhook.wants or "only POST", headers={hdrs.ALLOW: "POST"})
        if webhook.wants and "lat" in request.query:
            raise Refusal("bad_parameter", webhook.wants)
        if not guard.knows(request.headers):
            raise _refuse_unknown()
        if self._rate.take("all senders", time.monotonic()) > 0:
            detail = f"more than {self._limits.per_s:g} messages a second"
            raise Refusal("too_many_requests", detail, headers={hdrs.RETRY_AFTER: "1"})
        _check_content(request, webhook)
        body = await self._body(request)
        self._connections.begin(request)
        if not guard.is_signed(request.headers, body):
            raise _refuse_unknown()
        parsed = webhook.read(body, time.time_ns() // 1_000_000, request)
        if STRICT in request.headers.get("Prefer", "") and not any(isinstance(one, Ping) for one in parsed):
            return _json(422, count_outcomes(parsed))
        try:
            await self._sink.take(parsed, body, f"http:{request.path}", adapter=webhook.name, request=traced)
        except Unavailable:
            raise _kafka_is_away() from None
        except Refused as error:
            if not self.refused.done():
                self.refused.set_exception(error)
            raise _kafka_is_away() from None
        return _json(200, webhook.answer(parsed))

    async def _body(self, request: web.BaseRequest) -> bytes:
        most = self._limits.body_bytes
        if (request.content_length or 0) > most:
            raise Refusal("too_large", f"more than {most} bytes")
        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_S):
                async for part in request.content.iter_any():
                    size += len(part)
                    if size > most:
                        raise Refusal("too_large", f"more than {most} bytes")
                    parts.append(part)
        except TimeoutError:
            raise Refusal("slow_request", f"the body did not come within {BODY_S:g} s") from None
        except ConnectionError:
            raise Refusal("bad_body", "the client has gone") from None
        return b"".join(parts)


def _check_content(request: web.BaseRequest, webhook: Webhook) -> None:
    if hdrs.CONTENT_TYPE in request.headers:
        kind = request.content_type
        if kind != "application/json" and not kind.endswith("+json") and kind not in webhook.lines:
            expected = " or ".join(("application/json", *webhook.lines[:1]))
            raise Refusal("wrong_type", f"expected Content-Type: {expected}")
    packed = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
    if packed.lower() != "identity":
        raise Refusal(
            "wrong_type", "the body is packed, which is not taken", headers={hdrs.ACCEPT_ENCODING: "identity"}
        )


def _refuse_unknown() -> Refusal:
    return Refusal("no_token", "a token or a signature is needed", headers={hdrs.WWW_AUTHENTICATE: "Bearer"})


def _kafka_is_away() -> Refusal:
    """Returns no reason: anybody who reaches the port could read the brokers' addresses."""
    return Refusal("kafka_away", "nothing of the message was taken", headers={hdrs.RETRY_AFTER: str(RETRY_AFTER_S)})


def _json(status: int, body: bytes, **more: Any) -> web.Response:
    return web.Response(status=status, body=body, headers={**HEADERS, hdrs.CONTENT_TYPE: "application/json"}, **more)
