"""OpenTelemetry traces from ping to forecast, for a small share of the entities. `tracer.Tracer` is the entry point.

The worker's way is one of batches, so nothing is recorded while it is walked: of each sampled ping, spans are made from
its batch's times once the batch is committed. Without a tracer no line of this package runs.

    sampling      which pings of a batch belong to sampled entities, by a hash of the entity's id
    traceparent   the W3C header `traceparent`: reads it from pings, writes it into forecasts
    pings         the sampled pings of one batch: their traces' ids and the times of the batch
    spans         the spans of one ping, as facts: names, parents, times, attributes
    tracer        samples, and hands spans to the exporter
    exporting     the OpenTelemetry SDK (extra `otel`): a bounded queue, and OTLP over HTTP

It never records a position. An entity's id is in a span only if the operator asks for it; else a keyed hash stands for
it.
"""
