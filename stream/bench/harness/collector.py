"""A collector of traces that counts spans and keeps none: a thread of the benchmark's own process, so that a worker's
CPU is what tracing costs it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

ANSWER = ExportTraceServiceResponse().SerializeToString()


class Collector:
    """Where spans go, and how many came since `take` was called last."""

    def __init__(self, endpoint: str) -> None:
        self.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}  # of a process that is to send its spans here
        self._lock = threading.Lock()
        self._spans = 0

    def count(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        spans = sum(len(scope.spans) for one in request.resource_spans for scope in one.scope_spans)
        with self._lock:
            self._spans += spans

    def take(self) -> int:
        with self._lock:
            spans, self._spans = self._spans, 0
        return spans


@contextmanager
def collecting() -> Iterator[Collector]:
    """Collects on a port of loopback until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # the SDK keeps its connection

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.count(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(ANSWER)))
            self.end_headers()
            self.wfile.write(ANSWER)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, name="collector of traces", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
