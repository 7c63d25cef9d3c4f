"""Makes the spans of requests to our HTTP servers, and of messages that are published as pings:

    METHOD ROUTE    from a request's first byte to its answer; its parent is the span that the request's `traceparent`
                    names. No path and no query: they have ids and places in them
      publish       (ingest) from a message's pings to the brokers' acknowledgement; the pings' `traceparent` names it.
                    A message that came by no request has this span alone

A request is sampled with the entities that it names. One that names none, or that is refused before we know, is sampled
by a hash of its trace's id, so that the share of requests is that of entities.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanContext, SpanKind

from stream.tracing.pings import PUBLISH
from stream.tracing.sampling import is_sampled, threshold
from stream.tracing.spans import Attributes, SpanSender, make_context, parse_traceparent, render_traceparent

METHODS: Final = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"))
OTHER: Final = "_OTHER"  # as OpenTelemetry's conventions call a method that is none of these
_IDS: Final = RandomIdGenerator()


@dataclass(eq=False)
class Request:
    """A request, or a message that came by none, that is being answered."""

    context: SpanContext
    parent: SpanContext | None  # the span that its sender named
    begin_ms: float
    is_sampled: bool | None = None  # None: it has named no entity yet


class RequestTracer:
    """Makes the spans of one process. It belongs to one thread."""

    def __init__(
        self, share: float, sender: SpanSender, clock_ms: Callable[[], float] = lambda: time.time_ns() / 1e6
    ) -> None:
        """Takes the `share` of the entities."""
        self.sender = sender
        self.clock_ms = clock_ms
        self._below = threshold(share)

    def begin(self, header: str | None = None) -> Request:
        """Returns a request that has just come, with this `traceparent` header."""
        parent = parse_traceparent(header)
        trace_id = _IDS.generate_trace_id() if parent is None else parent.trace_id
        return Request(make_context(trace_id, _IDS.generate_span_id()), parent, self.clock_ms())

    def note_entity(self, request: Request, entity_id: str) -> bool:
        """Notes that the request names an entity. Returns whether that is sampled."""
        sampled = is_sampled(entity_id, self._below)
        request.is_sampled = sampled or bool(request.is_sampled)
        return sampled

    def begin_publishing(self, request: Request | None) -> Publishing:
        """Returns the publication of a message's pings, which begins now; `request` is None if none brought it."""
        within = None if request is None else request.context
        request = request or self.begin()
        context = make_context(request.context.trace_id, _IDS.generate_span_id())
        return Publishing(self, request, within, context, self.clock_ms())

    def end(self, request: Request, method: str, route: str | None, status: int, entity_id: str = "") -> None:
        """Sends the span of a request that is answered now, if it is sampled.

        Its `route` is None if we have none for it, its `status` 0 if the client went before there was one, and
        `entity_id` the one that its path names.
        """
        if entity_id:
            self.note_entity(request, entity_id)
        if request.is_sampled is None:
            request.is_sampled = is_sampled(f"{request.context.trace_id:032x}", self._below)
        if not request.is_sampled:
            return
        method = method if method in METHODS else OTHER
        attributes: Attributes = {
            "http.request.method": method,
            **({} if route is None else {"http.route": route}),
            **({"http.response.status_code": status} if status else {}),
            **(self.sender.name_entity(entity_id) if entity_id else {}),
        }
        name = " ".join(filter(None, ("HTTP" if method == OTHER else method, route)))
        times = request.begin_ms, self.clock_ms()
        self.sender.send(
            name, SpanKind.SERVER, request.context, request.parent, times, attributes, failed=status >= 500
        )


@dataclass(eq=False)
class Publishing:
    """The pings of one message on their way to the brokers."""

    tracer: RequestTracer
    request: Request
    within: SpanContext | None
    context: SpanContext
    begin_ms: float
    pings: int = 0  # that are sampled

    def header(self, entity_id: str) -> bytes | None:
        """Returns the `traceparent` of a ping; None if its entity is not sampled."""
        if not self.tracer.note_entity(self.request, entity_id):
            return None
        self.pings += 1
        return render_traceparent(self.context)

    def end(self, topic: str, adapter: str, *, failed: bool = False) -> None:
        """Sends its span, if one of the pings is sampled: the brokers have them, or it has `failed`."""
        if self.pings:
            attributes = {"messaging.system": "kafka", "messaging.destination.name": topic, "pathcast.adapter": adapter}
            times = self.begin_ms, self.tracer.clock_ms()
            self.tracer.sender.send(
                PUBLISH, SpanKind.PRODUCER, self.context, self.within, times, attributes, failed=failed
            )
