"""Keeps the sampled pings of one batch: the ids of their spans, and the times of the batch.

Ids are hashes of where the ping lies in the log, and of when it was published: a copy of a forecast after a crash has
the same header, and the spans of both attempts are one trace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import numpy as np
from opentelemetry.trace import SpanContext

from stream.kafka.records.record_columns import Partition, Records
from stream.tracing import TRACEPARENT
from stream.tracing.spans import make_context, parse_traceparent, render_traceparent
from stream.wire import Outgoing, Record, code_of

PUBLISH: Final = "publish"  # the span that what a ping leads to names as its parent


@dataclass(frozen=True, eq=False)
class TracedPing:
    """One sampled ping."""

    partition: Partition
    offset: int
    entity_id: str
    published_ms: int  # NO_TIME_MS: unknown
    fetched_ms: float
    parent: SpanContext | None  # the span that its sender named
    trace_id: int
    seed: bytes  # of its spans' ids

    def context(self, name: str) -> SpanContext:
        """Returns the ids of its span of this name."""
        digest = blake2b(name.encode(), digest_size=8, key=self.seed).digest()
        return make_context(self.trace_id, int.from_bytes(digest) or 1)

    def header(self) -> bytes:
        """Returns the `traceparent` of what it leads to."""
        return render_traceparent(self.context(PUBLISH))


@dataclass(eq=False)
class TracedBatch:
    """The sampled pings of a batch, and its times in ms since 1970, each noted by the one who knows it."""

    pings: Sequence[TracedPing]
    started_ms: float = 0.0  # the engine got the batch
    tracked_ms: float = 0.0  # all pings are in their tracks
    answered_ms: float = 0.0  # the model has answered
    folded_ms: float = 0.0  # the answers are written as bytes
    publish_ms: float = 0.0  # they are handed to the producer
    published_ms: float = 0.0  # the broker has them
    commit_ms: float = 0.0  # the offsets are handed over, once the batch before is committed
    committed_ms: float = 0.0
    rejected: dict[TracedPing, str] = field(default_factory=dict)  # the codes of dead letters
    gap_fills: Counter[TracedPing] = field(default_factory=Counter)  # how many a ping led to

    def headers(self, records: Records) -> dict[int, bytes]:
        """Returns the `traceparent` of the answers to these records that are sampled, by row."""
        return {row: ping.header() for row, ping in self._rows(records)}

    def add_headers(self, records: Records, others: Sequence[tuple[int, Outgoing]]) -> list[tuple[int, Outgoing]]:
        """Returns gap fills and dead letters, each after the row of these records that it answers, with the
        `traceparent` of those that are sampled; and notes them."""
        pings = dict(self._rows(records)) if others else {}
        return [(row, self._note(pings[row], one) if row in pings else one) for row, one in others]

    def _note(self, ping: TracedPing, one: Outgoing) -> Outgoing:
        code = code_of(one.headers)
        if code is None:
            self.gap_fills[ping] += 1
        else:
            self.rejected[ping] = code
        others = (header for header in one.headers if header[0].lower() != TRACEPARENT)
        return one._replace(headers=((TRACEPARENT, ping.header()), *others))

    def _rows(self, records: Records) -> Iterator[tuple[int, TracedPing]]:
        """Yields the sampled pings among these records, with their rows."""
        for ping in self.pings:
            if ping.partition in records.partitions:
                here = records.which == list(records.partitions).index(ping.partition)
                for row in np.flatnonzero((records.offsets == ping.offset) & here).tolist():
                    yield row, ping


def trace_ping(record: Record, fetched_ms: float) -> TracedPing:
    """Returns a sampled ping, by its record."""
    place = f"{record.topic}\n{record.partition}\n{record.offset}\n{record.timestamp_ms}".encode()
    digest = blake2b(place, digest_size=48).digest()
    header = next((value for name, value in record.headers if name.lower() == TRACEPARENT), None)
    parent = None if header is None else parse_traceparent(header.decode(errors="replace"))
    trace_id = parent.trace_id if parent is not None else int.from_bytes(digest[:16]) or 1
    where = (record.topic, record.partition)
    key = (record.key or b"").decode(errors="replace")
    return TracedPing(where, record.offset, key, record.timestamp_ms, fetched_ms, parent, trace_id, digest[16:])
