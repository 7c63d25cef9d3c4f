"""OpenTelemetry traces from an HTTP request over its ping to the forecast, for a small share of the entities. The entry
points are `tracer.Tracer`, of a worker, and `requests.RequestTracer`, of `ingest` and `serve`.

The worker's way is one of batches, so nothing is recorded while it is walked: of each sampled ping, spans are made from
its batch's times once the batch is committed. Without a tracer no line of this package runs.

    sampling      which entities are sampled, by a hash of the id, and which pings of a batch are
    traceparent   the W3C header `traceparent`: reads it from pings and requests, writes it into what they lead to
    pings         the sampled pings of one batch: their traces' ids and the times of the batch
    span          one span, as a fact: name, parent, times, attributes
    ping_spans    the spans of one ping
    tracer        samples the pings of batches, and hands their spans to the exporter
    requests      the spans of requests, and of messages that are published as pings
    naming        what stands in spans for an entity
    opening       where the spans of one process go
    exporting     the OpenTelemetry SDK (extra `otel`): a bounded queue, and OTLP over HTTP

OpenTelemetry's own instrumentation of aiohttp's server does not fit: its spans have the path and the query, in which
there are ids and places; it samples by trace and not by entity; and it knows nothing of the low-level server of
`stream.ingest.http`.

It never records a position. An entity's id is in a span only if the operator asks for it; else a keyed hash stands for
it.
"""
