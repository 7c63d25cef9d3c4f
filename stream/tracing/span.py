"""One span, as a fact. `exporting` gives it the form of OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from stream.tracing.traceparent import Parent

SERVER: Final = "server"  # kinds of spans
CONSUMER: Final = "consumer"
PRODUCER: Final = "producer"
INTERNAL: Final = "internal"

Attributes = Mapping[str, str | int | float | bool]


class Span(NamedTuple):
    """One span. Times are ms since 1970."""

    name: str
    kind: str
    trace_id: int
    span_id: int
    parent: Parent | None
    begin_ms: float
    end_ms: float
    attributes: Attributes
    failed: bool = False  # it is our fault that it did not do what it was for
