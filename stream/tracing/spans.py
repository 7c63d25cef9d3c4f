"""Makes spans and headers with the OpenTelemetry SDK (extra `otel`), and sends spans to a collector by OTLP, which is
protobuf over HTTP.

Where to, and how, is what the standard variables say: OTEL_EXPORTER_OTLP_ENDPOINT (default http://localhost:4318),
OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, and OTEL_BSP_*
for the queue. The SDK's queue is bounded (2,048 spans) and is emptied by a thread of its own, so the worker waits for
no collector: while one is away, spans are dropped and the SDK warns.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from stream.config.security import secret, shown
from stream.config.settings import Traces
from stream.tracing import TRACEPARENT

log = logging.getLogger(__name__)

DEFAULT_ENDPOINT: Final = "http://localhost:4318"
CLOSE_S: Final = 3.0  # for what is in the queue at the end: a worker has nine seconds to stop
KEY_BYTES: Final = 32  # of a key that is made here
ENTITY_ID: Final = "pathcast.entity_id"
ENTITY_HASH: Final = "pathcast.entity_hash"
HASH_CHARS: Final = 16  # of a keyed hash: enough to tell a million entities apart
MAX_HEADER_CHARS: Final = 512  # of a longer one the SDK warns, and senders could fill the log
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_SCOPE: Final = InstrumentationScope("pathcast")

Attributes = Mapping[str, str | int | float | bool]
EntityNaming = Callable[[str], Mapping[str, str]]  # returns the attributes that stand for an entity


def parse_traceparent(header: str | None) -> SpanContext | None:
    """Returns the span that a header names as the parent; None if it names none, or in no form that we can read."""
    if header is None or len(header) > MAX_HEADER_CHARS:
        return None
    context = get_current_span(_PROPAGATOR.extract({TRACEPARENT: header}, Context())).get_span_context()
    return context if context.is_valid else None


def render_traceparent(context: SpanContext) -> bytes:
    """Returns the value of the header that names this span as the parent."""
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers, set_span_in_context(NonRecordingSpan(context), Context()))
    return headers[TRACEPARENT].encode()


def make_context(trace_id: int, span_id: int) -> SpanContext:
    """Returns the ids of a span of ours that is recorded."""
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED)


def name_by_id(entity_id: str) -> Mapping[str, str]:
    return {ENTITY_ID: entity_id}


def naming_by_hash(key: bytes) -> EntityNaming:
    """Returns what names an entity by a hash under this key."""

    def name_by_hash(entity_id: str) -> Mapping[str, str]:
        # What a URL names may be no text.
        digest = hmac.new(key, entity_id.encode(errors="replace"), hashlib.sha256)
        return {ENTITY_HASH: digest.hexdigest()[:HASH_CHARS]}

    return name_by_hash


class SpanSender:
    """Sends spans without waiting for a collector, and names entities in them."""

    def __init__(self, processor: SpanProcessor, resource: Resource, name_entity: EntityNaming) -> None:
        self.name_entity = name_entity
        self._processor = processor
        self._resource = resource

    def send(
        self,
        name: str,
        kind: SpanKind,
        context: SpanContext,
        parent: SpanContext | None,
        times_ms: tuple[float, float],
        attributes: Attributes,
        *,
        failed: bool = False,
    ) -> None:
        """Sends one span. Times are ms since 1970; `failed`: it is our fault that it did not do what it was for."""
        begin_ns, end_ns = map(_nanoseconds, times_ms)
        span = ReadableSpan(
            name=name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            kind=kind,
            status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
            start_time=begin_ns,
            end_time=end_ns,
            instrumentation_scope=_SCOPE,
        )
        self._processor.on_end(span)

    def close(self) -> None:
        """Sends what is left, for CLOSE_S at most; then it is dropped."""
        # The SDK's own shutdown waits for a collector that is away for as long as it retries.
        ending = threading.Thread(target=self._processor.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(CLOSE_S)
        if ending.is_alive():
            log.warning("the collector of traces does not answer: the last spans are dropped")


def open_sender(traces: Traces, service: str) -> SpanSender:
    """Opens the way to the collector, for a process that is called `service` there unless the environment gives another
    name.

    Raises ValueError for a key that cannot be read.
    """
    key = secret("TRACE_KEY")
    if key is None and not traces.entity_ids:
        log.info("PATHCAST_TRACE_KEY is not set: the hashes of entities in traces are of this process alone")
    own, base = (os.environ.get(f"OTEL_EXPORTER_OTLP_{name}") for name in ("TRACES_ENDPOINT", "ENDPOINT"))
    log.info("traces: of %g of the entities, to %s", traces.share, shown(own or base or DEFAULT_ENDPOINT))
    hashing = naming_by_hash(secrets.token_bytes(KEY_BYTES) if key is None else key.encode())
    resource = Resource.create({SERVICE_NAME: service}).merge(OTELResourceDetector().detect())
    return SpanSender(BatchSpanProcessor(OTLPSpanExporter()), resource, name_by_id if traces.entity_ids else hashing)


def _nanoseconds(at_ms: float) -> int:
    # Whole microseconds: a float has no more digits for a time of today, and 2 to the 53rd in ns was in April 1970.
    return round(at_ms * 1000) * 1000
