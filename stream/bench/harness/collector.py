"""Receives traces by OTLP over HTTP, as protobuf, in a thread of the benchmark's own process: so the CPU of a worker is
what tracing costs it. `collecting` counts spans and keeps none; tests use `receiving`, and look at them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

ANSWER = ExportTraceServiceResponse().SerializeToString()


class Collector:
    """Counts spans."""

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}  # of a process that is to send its spans here
        self._lock = threading.Lock()
        self._spans = 0

    def count(self, request: ExportTraceServiceRequest) -> None:
        spans = sum(len(scope.spans) for one in request.resource_spans for scope in one.scope_spans)
        with self._lock:
            self._spans += spans

    def take(self) -> int:
        """Returns how many spans came since this was called last."""
        with self._lock:
            spans, self._spans = self._spans, 0
        return spans


@contextmanager
def collecting() -> Iterator[Collector]:
    """Counts the spans that come to a port of loopback until the block ends."""
    found = Collector()
    with receiving(found.count) as endpoint:
        found.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
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
