"""A collector of traces: a real HTTP server that takes OTLP as protobuf. Tests import this; it tests nothing itself."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Told(NamedTuple):
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

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        self._lock = threading.Lock()
        self._spans: list[Told] = []

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        spans = [
            _told(span, dict(map(_pair, resource.resource.attributes)))
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans += spans

    @property
    def spans(self) -> list[Told]:
        with self._lock:
            return list(self._spans)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Collects on a port of loopback until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces", self.path
            found.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            said = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _told(span: Any, resource: dict[str, Any]) -> Told:
    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
    times = span.start_time_unix_nano, span.end_time_unix_nano
    attributes = dict(map(_pair, span.attributes))
    failed = span.status.code == span.status.STATUS_CODE_ERROR
    return Told(resource.get("service.name", ""), span.name, *ids, *times, attributes, span.kind, failed)


def _pair(item: Any) -> tuple[str, Any]:
    return item.key, getattr(item.value, item.value.WhichOneof("value"))
