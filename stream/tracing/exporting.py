"""Sends spans to a collector with the OpenTelemetry SDK (extra `otel`): OTLP, protobuf over HTTP.

Where to, and how, is what the standard variables say: OTEL_EXPORTER_OTLP_ENDPOINT (default http://localhost:4318),
OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, and OTEL_BSP_*
for the queue. The SDK's queue is bounded (2,048 spans) and is emptied by a thread of its own, so the worker waits for
no collector: while one is away, spans are dropped and the SDK warns.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from stream.config.security import shown
from stream.tracing.span import CONSUMER, INTERNAL, PRODUCER, SERVER, Span
from stream.tracing.traceparent import Parent

log = logging.getLogger(__name__)

DEFAULT_ENDPOINT: Final = "http://localhost:4318"
CLOSE_S: Final = 3.0  # for what is in the queue at the end: a worker has nine seconds to stop
_KINDS: Final = {
    SERVER: SpanKind.SERVER,
    CONSUMER: SpanKind.CONSUMER,
    PRODUCER: SpanKind.PRODUCER,
    INTERNAL: SpanKind.INTERNAL,
}
_RECORDED: Final = TraceFlags(TraceFlags.SAMPLED)


class Exporter:
    """Takes spans, and returns at once."""

    def __init__(self, service: str) -> None:
        """Takes the name of this process, if the environment gives none."""
        sender = OTLPSpanExporter()
        self.endpoint = shown(_endpoint(os.environ))
        self._resource = Resource.create().merge(_named(service))
        self._scope = InstrumentationScope("pathcast")
        self._processor = BatchSpanProcessor(sender)

    def export(self, spans: Sequence[Span]) -> None:
        for span in spans:
            self._processor.on_end(self._readable(span))

    def close(self) -> None:
        """Sends what is left, for CLOSE_S at most; then it is dropped."""
        # The SDK's own shutdown waits for a collector that is away for as long as it retries.
        ending = threading.Thread(target=self._processor.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(CLOSE_S)
        if ending.is_alive():
            log.warning("the collector of traces does not answer: the last spans are dropped")

    def _readable(self, span: Span) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=_context(Parent(span.trace_id, span.span_id), remote=False),
            parent=None if span.parent is None else _context(span.parent, remote=span.parent.span_id != 0),
            resource=self._resource,
            attributes=span.attributes,
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
            start_time=_ns(span.begin_ms),
            end_time=_ns(span.end_ms),
            instrumentation_scope=self._scope,
        )


def _ns(at_ms: float) -> int:
    # Whole microseconds: a float has no more digits for a time of today, and 2 to the 53rd in ns was in April 1970.
    return round(at_ms * 1000) * 1000


def _endpoint(environment: Mapping[str, str]) -> str:
    """Returns where the SDK sends traces, as its own variables say."""
    own, base = (environment.get(f"OTEL_EXPORTER_OTLP_{name}") for name in ("TRACES_ENDPOINT", "ENDPOINT"))
    return own or base or DEFAULT_ENDPOINT


def _context(one: Parent, *, remote: bool) -> SpanContext:
    return SpanContext(one.trace_id, one.span_id, is_remote=remote, trace_flags=_RECORDED)


def _named(service: str) -> Resource:
    """Returns our name, unless the environment gives another."""
    given = str(Resource.create().attributes.get(SERVICE_NAME, ""))
    return Resource({} if given and not given.startswith("unknown_service") else {SERVICE_NAME: service})
