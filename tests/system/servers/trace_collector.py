"""A collector of traces that keeps what comes by OTLP over HTTP, as protobuf. Tests import this; it tests nothing
itself."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

ANSWER = ExportTraceServiceResponse().SerializeToString()


class ReceivedSpan(NamedTuple):
    """One span as it came."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str  # empty: none
    begin_ns: int
    end_ns: int
    attributes: dict[str, Any]
    kind: int  # 2: server, 4: producer, 5: consumer
    failed: bool


class Collector:
    """What came so far."""

    def __init__(self) -> None:
        self.endpoint = ""
        self._lock = threading.Lock()
        self._spans: list[ReceivedSpan] = []

    def take(self, request: ExportTraceServiceRequest) -> None:
        spans = [
            _received(span, dict(map(_pair, resource.resource.attributes)))
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans += spans

    @property
    def spans(self) -> list[ReceivedSpan]:
        with self._lock:
            return list(self._spans)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Collects on a port of loopback until the block ends."""
    found = Collector()
    with receiving(found.take) as found.endpoint:
        yield found


@contextmanager
def receiving(take: Callable[[ExportTraceServiceRequest], None]) -> Iterator[str]:
    """Yields the endpoint, on a port of loopback. `take` is called with each request, by a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # the SDK keeps its connection

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces", self.path
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            take(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(ANSWER)))
            self.end_headers()
            self.wfile.write(ANSWER)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="receiver of traces", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _received(span: Any, resource: dict[str, Any]) -> ReceivedSpan:
    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
    times = span.start_time_unix_nano, span.end_time_unix_nano
    attributes = dict(map(_pair, span.attributes))
    failed = span.status.code == span.status.STATUS_CODE_ERROR
    return ReceivedSpan(resource.get("service.name", ""), span.name, *ids, *times, attributes, span.kind, failed)


def _pair(item: Any) -> tuple[str, Any]:
    return item.key, getattr(item.value, item.value.WhichOneof("value"))
