"""Opens the way to the collector for one process, as its settings and its environment say. Only who traces imports it:
it needs the extra `otel`."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from stream.config.security import secret
from stream.config.traces import Traces
from stream.tracing.exporting import Exporter
from stream.tracing.naming import Named, by_hash, by_id
from stream.tracing.requests import RequestTracer
from stream.tracing.span import Span

log = logging.getLogger(__name__)

KEY_BYTES: Final = 32  # of a key that is made here


class Opened(NamedTuple):
    """Where spans go, and what they say of an entity."""

    export: Callable[[Sequence[Span]], None]  # returns at once
    named: Named
    close: Callable[[], None]


def opened(traces: Traces, service: str) -> Opened:
    """Returns the way to the collector, for a process that is called `service` there.

    Raises ValueError for a key that cannot be read.
    """
    key = secret("TRACE_KEY")
    if key is None and not traces.entity_ids:
        log.info("PATHCAST_TRACE_KEY is not set: the hashes of entities in traces are of this process alone")
    exporter = Exporter(service)
    log.info("traces: of %g of the entities, to %s", traces.share, exporter.endpoint)
    if traces.entity_ids:
        return Opened(exporter.export, by_id, exporter.close)
    return Opened(
        exporter.export, by_hash(secrets.token_bytes(KEY_BYTES) if key is None else key.encode()), exporter.close
    )


def request_tracer(traces: Traces, service: str) -> tuple[RequestTracer, Callable[[], None]]:
    """Returns the tracer of a process that is called `service` at the collector, and what sends its last spans.

    Raises as `opened`.
    """
    way = opened(traces, service)
    return RequestTracer(traces.share, way.export, way.named), way.close
