"""What a sampled ping leads to beside, or in place of, its forecast."""

from __future__ import annotations

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stream.kafka.records.record_columns import Records
from stream.tracing.pings import TracedBatch, trace_ping
from stream.tracing.spans import SpanSender, name_by_id
from stream.tracing.tracer import DEAD_LETTER, GAP_FILLS, PING, Tracer
from stream.wire import Outgoing, Record, Reject, dead_letter

SENDERS = ("TraceParent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
# The same offset in two partitions, and a ping whose sender traces.
SENT = [
    Record("pings", 0, 7, 1_000, b"a", b"{}", (("kept", b"1"), SENDERS)),
    Record("pings", 1, 7, 1_000, b"b", b"{}", (("kept", b"1"), SENDERS)),
    Record("pings", 1, 8, 1_000, b"b", b"{}"),
]
REJECT = Reject("null_island", "both are 0")


def others() -> list[tuple[int, Outgoing]]:
    letters = [(row, dead_letter("dlq", SENT[row], REJECT, version="1")) for row in (0, 1)]
    fill = Outgoing("fills", b"b", b"{}", (("ce_id", b"x"),), SENT[2])
    return [*letters, (2, fill), (2, fill)]


def test_only_what_a_sampled_ping_led_to_gets_its_header_and_that_is_one() -> None:
    records = Records.of(SENT)
    batch = TracedBatch([trace_ping(records[1], 0.0), trace_ping(records[2], 0.0)])
    named = batch.add_headers(records, others())
    assert [row for row, _ in named] == [0, 1, 2, 2]
    assert named[0][1].headers[:2] == (("kept", b"1"), SENDERS), "as it came"
    for (_, one), ping in zip(named[1:], [batch.pings[0], *[batch.pings[1]] * 2], strict=True):
        told = [value for name, value in one.headers if name.lower() == "traceparent"]
        assert told == [ping.header()]
    assert ("kept", b"1") in named[1][1].headers
    assert batch.pings[0].header().split(b"-")[1] == SENDERS[1].split(b"-")[1], "in its sender's trace"


def test_the_span_of_a_ping_says_what_it_led_to() -> None:
    records = Records.of(SENT)
    memory = InMemorySpanExporter()
    tracer = Tracer(1.0, SpanSender(SimpleSpanProcessor(memory), Resource.get_empty(), name_by_id))
    batch = tracer.sample([(records, 0.0)])
    assert batch is not None
    batch.add_headers(records, others()[1:])
    tracer.send_spans(batch, [("pings", 0), ("pings", 1)])
    told = [span.attributes or {} for span in memory.get_finished_spans() if span.name == PING]
    assert [one.get(DEAD_LETTER) for one in told] == [None, "null_island", None]
    assert [one.get(GAP_FILLS) for one in told] == [None, None, 2]
    memory.clear()
    tracer.send_spans(batch, [("pings", 0)])
    assert len(memory.get_finished_spans()) == 8, "of one ping: the other partition is not committed"
