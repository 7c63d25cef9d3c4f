"""Asks an HTTP server by schedule, as a separate program: an open loop, which does not depend on the answers.

    python -m stream.bench.harness.programs.requester '{"url": ..., ...}'    the argument is one Ask as JSON

It prints READY before the first request, and at the end one line of JSON, an Asked. It speaks HTTP/1.1 over connections
that stay open, and reads of an answer no more than its status and its length: a client library would take more of the
cores than the server.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import Counter, deque
from urllib.parse import quote, urlsplit

import msgspec

from stream.bench.harness.stats import percentile
from stream.config.priority import yield_cores

READY = "asking"
LEAD_S = 0.3
TICK_S = 0.001
NICE = 10  # clients are elsewhere: what they cost should not slow what is measured
_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) .*?[Cc]ontent-[Ll]ength: (\d+)", re.DOTALL)


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Says what to ask, and how fast: request i is due i / rate_per_s seconds after the first, about entity i modulo
    their number."""

    url: str
    entities: list[str]
    rate_per_s: float
    count: int
    query: str  # of each request
    connections: int = 16
    patience_s: float = 10.0  # for the last answers


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    answered: int
    statuses: dict[str, int]
    p50_ms: float
    p99_ms: float
    late_ms: float  # by which a request was sent too late, at most


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.due_s: deque[float] = deque()  # of the requests that are not answered
        self.latencies_ms: list[float] = []
        self.statuses: Counter[str] = Counter()
        self._raw = b""
        self._skip = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        now_s = time.monotonic()
        self._raw += data
        while True:
            if self._skip > len(self._raw):
                return
            self._raw = self._raw[self._skip :]
            self._skip = 0
            end = self._raw.find(b"\r\n\r\n")
            found = _HEAD.match(self._raw[:end]) if end >= 0 else None
            if end >= 0 and found is None:
                raise RuntimeError(f"no answer of known length: {self._raw[:200]!r}")
            if found is None:
                return
            self._skip = end + 4 + int(found[2])
            if self._skip > len(self._raw):
                self._skip = 0
                return
            self.statuses[found[1].decode()] += 1
            self.latencies_ms.append(1000 * (now_s - self.due_s.popleft()))


async def ask(how: Ask) -> Asked:
    """Sends all requests, and waits for their answers."""
    where = urlsplit(how.url)
    assert where.hostname is not None, "a whole URL"
    assert where.port is not None, "a whole URL"
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(_Connection, where.hostname, where.port))[1] for _ in range(how.connections)
    ]
    host = f"{where.hostname}:{where.port}"
    requests = [
        f"GET /v1/entities/{quote(one, safe='')}/forecast?{how.query} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        for one in how.entities
    ]
    print(READY, flush=True)  # noqa: T201 - the parent reads it
    start_s, late_s = time.monotonic() + LEAD_S, 0.0
    for number in range(how.count):
        due_s = start_s + number / how.rate_per_s
        while (wait_s := due_s - time.monotonic()) > 0:  # noqa: ASYNC110 - for a moment, not for an event
            await asyncio.sleep(max(wait_s, TICK_S))
        late_s = max(late_s, -wait_s)
        one = connections[number % len(connections)]
        assert one.transport is not None, "it is connected"
        one.due_s.append(due_s)
        one.transport.write(requests[number % len(requests)])
    give_up_s = time.monotonic() + how.patience_s
    while any(one.due_s for one in connections) and time.monotonic() < give_up_s:  # noqa: ASYNC110 - likewise
        await asyncio.sleep(0.01)
    latencies = sorted(latency for one in connections for latency in one.latencies_ms)
    statuses = sum((one.statuses for one in connections), Counter[str]())
    p50, p99 = (percentile(latencies, percent) for percent in (50, 99)) if latencies else (float("nan"),) * 2
    return Asked(answered=len(latencies), statuses=dict(statuses), p50_ms=p50, p99_ms=p99, late_ms=1000 * late_s)


if __name__ == "__main__":
    yield_cores(NICE)
    said = asyncio.run(ask(msgspec.json.decode(sys.argv[1], type=Ask)))
    print(msgspec.json.encode(said).decode(), flush=True)  # noqa: T201 - the parent reads it
