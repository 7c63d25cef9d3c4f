"""OpenTelemetry traces from an HTTP request over its ping to the forecast, for a small share of the entities. The entry
points are `tracer.Tracer`, of a worker, and `requests.RequestTracer`, of `ingest` and `serve`.

The worker's way is one of batches, so nothing is recorded while it is walked: of each sampled ping, spans are made from
its batch's times once the batch is committed. Without a tracer no module of this package is imported.

    sampling   which entities are sampled, by a hash of the id
    pings      the sampled pings of one batch: their traces' ids and the times of the batch
    tracer     samples the pings of batches, and makes their spans
    requests   the spans of requests, and of messages that are published as pings
    spans      spans and `traceparent` as the OpenTelemetry SDK (extra `otel`) has them; a bounded queue, OTLP over HTTP

OpenTelemetry's own samplers do not fit: they decide by a trace's id, or as its sender did, and a share of the entities
is promised. Nor does its instrumentation of aiohttp's server: its spans have the path and the query, in which there are
ids and places.

It never records a position. An entity's id is in a span only if the operator asks for it; else a keyed hash stands for
it.
"""

from typing import Final

TRACEPARENT: Final = "traceparent"  # the header of W3C Trace Context, of a record or a request
