"""The spans of requests and of messages: which are sampled, what they are called, and what they say."""

from __future__ import annotations

import subprocess
import sys
from itertools import count

import pytest

from stream.tracing import traceparent
from stream.tracing.naming import HASH, by_hash
from stream.tracing.requests import RequestTracer
from stream.tracing.sampling import is_sampled, threshold
from stream.tracing.span import PRODUCER, SERVER, Span
from stream.tracing.traceparent import Parent

SHARE = 0.2
SENDERS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NAMES = [f"bus-{n}" for n in range(100)]
SAMPLED = [name for name in NAMES if is_sampled(name, threshold(SHARE))]
OTHERS = [name for name in NAMES if name not in SAMPLED]


@pytest.fixture
def spans() -> list[Span]:
    return []


@pytest.fixture
def tracer(spans: list[Span]) -> RequestTracer:
    ticks = count(1_000)  # ms: each look at the clock is one later
    return RequestTracer(SHARE, spans.extend, by_hash(b"key"), lambda: float(next(ticks)))


def test_a_message_with_one_sampled_entity_has_both_spans_and_only_its_pings_a_header(
    tracer: RequestTracer, spans: list[Span]
) -> None:
    request = tracer.begin(SENDERS)
    publishing = tracer.publishing(request)
    assert publishing.header(OTHERS[0]) is None
    header = publishing.header(SAMPLED[0])
    assert publishing.header(OTHERS[1]) is None
    publishing.end("pings", "flespi")
    tracer.answered(request, "POST", "/webhook/flespi", 200)
    publish, whole = spans
    assert header == traceparent.render(Parent(publish.trace_id, publish.span_id))
    assert (publish.kind, publish.parent) == (PRODUCER, Parent(whole.trace_id, whole.span_id))
    assert (whole.kind, whole.name, whole.parent) == (SERVER, "POST /webhook/flespi", traceparent.parse(sent(SENDERS)))
    assert whole.begin_ms < publish.begin_ms < publish.end_ms < whole.end_ms
    assert not publish.failed
    assert not whole.failed


def sent(header: str) -> tuple[tuple[str, bytes], ...]:
    return (("traceparent", header.encode()),)


def test_a_message_of_other_entities_has_no_span_whatever_its_trace(tracer: RequestTracer, spans: list[Span]) -> None:
    for n in range(50):
        request = tracer.begin(f"00-{n + 1:032x}-00f067aa0ba902b7-01")
        publishing = tracer.publishing(request)
        assert publishing.header(OTHERS[n]) is None
        publishing.end("pings", "flespi")
        tracer.answered(request, "POST", "/webhook/flespi", 200)
    assert spans == []


def test_a_message_that_no_request_brought_begins_a_trace(tracer: RequestTracer, spans: list[Span]) -> None:
    for _ in range(2):
        publishing = tracer.publishing(None)
        publishing.header(SAMPLED[0])
        publishing.end("pings", "ais", failed=True)
    first, second = spans
    assert first.parent is None
    assert first.failed
    assert first.trace_id != second.trace_id
    assert first.attributes["pathcast.adapter"] == "ais"


def test_requests_without_an_entity_are_sampled_by_their_trace_about_as_often(
    tracer: RequestTracer, spans: list[Span]
) -> None:
    for n in range(2_000):
        for _ in range(2):
            tracer.answered(tracer.begin(f"00-{n + 1:032x}-00f067aa0ba902b7-01"), "GET", "/v1/entities", 200)
    traces = {span.trace_id for span in spans}
    assert len(spans) == 2 * len(traces), "both requests of a trace or none"
    assert abs(len(traces) - SHARE * 2_000) < 5 * (2_000 * SHARE * (1 - SHARE)) ** 0.5, "within five sigma"


def test_a_request_for_an_entity_says_whose_by_a_hash_and_fails_only_by_our_fault(
    tracer: RequestTracer, spans: list[Span]
) -> None:
    route = "/v1/entities/{id}"
    for status in (200, 404, 503, 0):
        tracer.answered(tracer.begin(), "GET", route, status, SAMPLED[1])
        tracer.answered(tracer.begin(), "GET", route, status, OTHERS[1])
    assert [span.failed for span in spans] == [False, False, True, False]
    for span in spans:
        assert span.name == f"GET {route}"
        assert dict(by_hash(b"key")(SAMPLED[1])) == {HASH: span.attributes[HASH]}
        assert SAMPLED[1] not in str(span)
    assert "http.response.status_code" not in spans[-1].attributes, "the client went before there was one"


def test_a_method_and_a_path_that_we_do_not_know_are_not_told(tracer: RequestTracer, spans: list[Span]) -> None:
    for _ in range(100):
        tracer.answered(tracer.begin(), "LAT-47.36", None, 400)
    assert {span.name for span in spans} == {"HTTP"}
    assert {span.attributes["http.request.method"] for span in spans} == {"_OTHER"}


@pytest.mark.parametrize("header", ["", "00-\udcff", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "garbage" * 1_000])
def test_a_damaged_header_begins_a_trace(tracer: RequestTracer, header: str) -> None:
    request = tracer.begin(header)
    assert request.parent is None
    assert request.trace_id


@pytest.mark.parametrize("module", ["stream.worker.app", "stream.api.service", "stream.ingest.http.server"])
def test_without_traces_a_process_imports_no_sdk_of_traces(module: str) -> None:
    """Redis' client imports OpenTelemetry's metrics where they are installed: that is not ours."""
    asked = f"import sys, {module}; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert module in told
    others = (
        "opentelemetry.sdk.trace",
        "opentelemetry.exporter",
        "stream.tracing.exporting",
        "stream.tracing.requests",
    )
    assert not [one for one in told if one.startswith(others)]
