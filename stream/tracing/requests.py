"""The spans of requests to our HTTP servers, and of messages that are published as pings:

    METHOD ROUTE    from a request's first byte to its answer; its parent is the span that the request's `traceparent`
                    names. No path and no query: they have ids and places in them
      publish       (ingest) from a message's pings to the brokers' acknowledgement; the pings' `traceparent` names it.
                    A message that came by no request has this span alone

A request is sampled with the entities that it names. One that names none, or that is refused before we know, is sampled
by a hash of its trace's id, so that the share of requests is that of entities.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from stream.tracing import traceparent
from stream.tracing.naming import Named
from stream.tracing.sampling import is_sampled, threshold
from stream.tracing.span import PRODUCER, SERVER, Span
from stream.tracing.traceparent import TRACEPARENT, Parent

METHODS: Final = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"))
OTHER: Final = "_OTHER"  # as OpenTelemetry's conventions call a method that is none of these


@dataclass(eq=False)
class Request:
    """A request, or a message that came by none, that is being answered."""

    trace_id: int
    span_id: int
    parent: Parent | None  # the span that its sender named
    begin_ms: float
    is_sampled: bool | None = None  # None: it has named no entity yet


class RequestTracer:
    """Makes the spans of one process. It belongs to one thread."""

    def __init__(
        self,
        share: float,
        export: Callable[[Sequence[Span]], None],
        named: Named,
        clock_ms: Callable[[], float] = lambda: time.time_ns() / 1e6,
    ) -> None:
        """Takes the `share` of the entities, `export`, which must return at once, and `named`, which returns the
        attributes that stand for an entity."""
        self._below = threshold(share)
        self._export = export
        self._named = named
        self._clock_ms = clock_ms

    def begin(self, sent: str | None = None) -> Request:
        """Returns a request that has just come, with this `traceparent` header."""
        raw = () if sent is None else ((TRACEPARENT, sent.encode(errors="replace")),)
        parent = traceparent.parse(raw)
        trace_id = _random(16) if parent is None else parent.trace_id
        return Request(trace_id, _random(8), parent, self._clock_ms())

    def export(self, span: Span) -> None:
        self._export([span])

    def now_ms(self) -> float:
        return self._clock_ms()

    def concerns(self, request: Request, entity_id: str) -> bool:
        """Notes that the request names an entity. Returns whether that is sampled."""
        sampled = is_sampled(entity_id, self._below)
        request.is_sampled = sampled or bool(request.is_sampled)
        return sampled

    def publishing(self, request: Request | None) -> Publishing:
        """Returns the publication of a message's pings, which begins now; `request` is None if none brought it."""
        within = None if request is None else Parent(request.trace_id, request.span_id)
        return Publishing(self, request or self.begin(), within, _random(8), self._clock_ms())

    def answered(self, request: Request, method: str, route: str | None, status: int, entity_id: str = "") -> None:
        """Exports the span of a request that is answered now, if it is sampled.

        Its `route` is None if we have none for it, its `status` 0 if the client went before there was one, and
        `entity_id` the one that its path names.
        """
        if entity_id:
            self.concerns(request, entity_id)
        if request.is_sampled is None:
            request.is_sampled = is_sampled(f"{request.trace_id:032x}", self._below)
        if not request.is_sampled:
            return
        method = method if method in METHODS else OTHER
        said: dict[str, str | int | float | bool] = {"http.request.method": method}
        if route is not None:
            said["http.route"] = route
        if status:
            said["http.response.status_code"] = status
        if entity_id:
            said.update(self._named(entity_id))
        name = " ".join(filter(None, ("HTTP" if method == OTHER else method, route)))
        ids = request.trace_id, request.span_id
        times = request.begin_ms, self._clock_ms()
        self._export([Span(name, SERVER, *ids, request.parent, *times, said, failed=status >= 500)])


@dataclass(eq=False)
class Publishing:
    """The pings of one message on their way to the brokers."""

    tracer: RequestTracer
    request: Request
    within: Parent | None
    span_id: int
    begin_ms: float
    pings: int = 0  # that are sampled

    def header(self, entity_id: str) -> bytes | None:
        """Returns the `traceparent` of a ping; None if its entity is not sampled."""
        if not self.tracer.concerns(self.request, entity_id):
            return None
        self.pings += 1
        return traceparent.render(Parent(self.request.trace_id, self.span_id))

    def end(self, topic: str, adapter: str, *, failed: bool = False) -> None:
        """Exports it, if one of the pings is sampled: the brokers have them, or it has `failed`."""
        if self.pings:
            said = {"messaging.system": "kafka", "messaging.destination.name": topic, "pathcast.adapter": adapter}
            ids = self.request.trace_id, self.span_id
            times = self.begin_ms, self.tracer.now_ms()
            self.tracer.export(Span("publish", PRODUCER, *ids, self.within, *times, said, failed))


def _random(size: int) -> int:
    return int.from_bytes(secrets.token_bytes(size)) or 1
