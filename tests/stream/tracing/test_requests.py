"""The spans of requests and of messages: which are sampled, what they are called, and what they say."""

from __future__ import annotations

import subprocess
import sys
from itertools import count

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from stream.tracing.requests import RequestTracer
from stream.tracing.sampling import is_sampled, threshold
from stream.tracing.spans import ENTITY_HASH, SpanSender, naming_by_hash, parse_traceparent, render_traceparent

SHARE = 0.2
UNSET = StatusCode.UNSET
SENDERS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NAMES = [f"bus-{n}" for n in range(100)]
SAMPLED = [name for name in NAMES if is_sampled(name, threshold(SHARE))]
OTHERS = [name for name in NAMES if name not in SAMPLED]


@pytest.fixture
def memory() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(memory: InMemorySpanExporter) -> RequestTracer:
    ticks = count(1_000)  # ms: each look at the clock is one later
    sender = SpanSender(SimpleSpanProcessor(memory), Resource.get_empty(), naming_by_hash(b"key"))
    return RequestTracer(SHARE, sender, lambda: float(next(ticks)))


def test_a_message_with_one_sampled_entity_has_both_spans_and_only_its_pings_a_header(
    tracer: RequestTracer, memory: InMemorySpanExporter
) -> None:
    request = tracer.begin(SENDERS)
    publishing = tracer.begin_publishing(request)
    assert publishing.header(OTHERS[0]) is None
    header = publishing.header(SAMPLED[0])
    assert publishing.header(OTHERS[1]) is None
    publishing.end("pings", "flespi")
    tracer.end(request, "POST", "/webhook/flespi", 200)
    publish, whole = memory.get_finished_spans()
    assert publish.context is not None
    assert whole.context is not None
    assert header == render_traceparent(publish.context)
    assert (publish.kind, publish.parent) == (SpanKind.PRODUCER, whole.context)
    assert (whole.kind, whole.name) == (SpanKind.SERVER, "POST /webhook/flespi")
    assert whole.parent == parse_traceparent(SENDERS)
    times = whole.start_time, publish.start_time, publish.end_time, whole.end_time
    assert times == tuple(ms * 1_000_000 for ms in range(1_000, 1_004))
    assert publish.status.status_code is whole.status.status_code is UNSET


def test_a_message_of_other_entities_has_no_span_whatever_its_trace(
    tracer: RequestTracer, memory: InMemorySpanExporter
) -> None:
    for n in range(50):
        request = tracer.begin(f"00-{n + 1:032x}-00f067aa0ba902b7-01")
        publishing = tracer.begin_publishing(request)
        assert publishing.header(OTHERS[n]) is None
        publishing.end("pings", "flespi")
        tracer.end(request, "POST", "/webhook/flespi", 200)
    assert not memory.get_finished_spans()


def test_a_message_that_no_request_brought_begins_a_trace(tracer: RequestTracer, memory: InMemorySpanExporter) -> None:
    for _ in range(2):
        publishing = tracer.begin_publishing(None)
        publishing.header(SAMPLED[0])
        publishing.end("pings", "ais", failed=True)
    first, second = memory.get_finished_spans()
    assert first.parent is None
    assert first.status.status_code is StatusCode.ERROR
    assert first.context is not None
    assert second.context is not None
    assert first.context.trace_id != second.context.trace_id
    assert dict(first.attributes or {})["pathcast.adapter"] == "ais"


def test_requests_without_an_entity_are_sampled_by_their_trace_about_as_often(
    tracer: RequestTracer, memory: InMemorySpanExporter
) -> None:
    for n in range(2_000):
        for _ in range(2):
            tracer.end(tracer.begin(f"00-{n + 1:032x}-00f067aa0ba902b7-01"), "GET", "/v1/entities", 200)
    spans = memory.get_finished_spans()
    traces = {span.context.trace_id for span in spans if span.context}
    assert len(spans) == 2 * len(traces), "both requests of a trace or none"
    assert abs(len(traces) - SHARE * 2_000) < 5 * (2_000 * SHARE * (1 - SHARE)) ** 0.5, "within five sigma"


def test_a_request_for_an_entity_says_whose_by_a_hash_and_fails_only_by_our_fault(
    tracer: RequestTracer, memory: InMemorySpanExporter
) -> None:
    route = "/v1/entities/{id}"
    for status in (200, 404, 503, 0):
        tracer.end(tracer.begin(), "GET", route, status, SAMPLED[1])
        tracer.end(tracer.begin(), "GET", route, status, OTHERS[1])
    spans = memory.get_finished_spans()
    assert [span.status.status_code for span in spans] == [UNSET, UNSET, StatusCode.ERROR, UNSET]
    for span in spans:
        assert span.name == f"GET {route}"
        assert dict(naming_by_hash(b"key")(SAMPLED[1])) == {ENTITY_HASH: (span.attributes or {})[ENTITY_HASH]}
        assert SAMPLED[1] not in span.to_json()
    assert "http.response.status_code" not in (spans[-1].attributes or {}), "the client went before there was one"


def test_a_method_and_a_path_that_we_do_not_know_are_not_told(
    tracer: RequestTracer, memory: InMemorySpanExporter
) -> None:
    for _ in range(100):
        tracer.end(tracer.begin(), "LAT-47.36", None, 400)
    spans = memory.get_finished_spans()
    assert {span.name for span in spans} == {"HTTP"}
    assert {(span.attributes or {})["http.request.method"] for span in spans} == {"_OTHER"}


@pytest.mark.parametrize("header", ["", "00-\udcff", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "garbage" * 1_000])
def test_a_damaged_header_begins_a_trace(tracer: RequestTracer, header: str) -> None:
    request = tracer.begin(header)
    assert request.parent is None
    assert request.context.is_valid


@pytest.mark.parametrize("module", ["stream.worker.app", "stream.api.service", "stream.ingest.http.server"])
def test_without_traces_a_process_imports_no_sdk_of_traces(module: str) -> None:
    """Redis' client imports OpenTelemetry's metrics where they are installed: that is not ours."""
    asked = f"import sys, {module}; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert module in told
    others = (
        "opentelemetry.sdk.trace",
        "opentelemetry.exporter",
        "stream.tracing.",
    )
    assert not [one for one in told if one.startswith(others)]
