"""The sampled pings of one batch: what their spans are called, and when the batch was where.

Ids are hashes of where the ping lies in the log, and of when it was published: a copy of a forecast after a crash has
the same header, and the spans of both attempts are one trace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from stream.kafka.records.record_columns import Partition, Records
from stream.tracing import traceparent
from stream.tracing.traceparent import Parent
from stream.wire import Outgoing, Record, code_of


class TracedPing(NamedTuple):
    """One sampled ping."""

    partition: Partition
    offset: int
    entity_id: str
    published_ms: int  # NO_TIME_MS: unknown
    fetched_ms: float
    parent: Parent | None  # the span that its sender named
    trace_id: int
    seed: bytes  # of its spans' ids

    def span_id(self, name: str) -> int:
        """Returns the id of its span of this name."""
        return int.from_bytes(blake2b(name.encode(), digest_size=8, key=self.seed).digest()) or 1

    def header(self, name: str) -> bytes:
        """Returns the `traceparent` that names its span of this name as the parent."""
        return traceparent.render(Parent(self.trace_id, self.span_id(name)))


@dataclass(eq=False)
class TracedBatch:
    """The sampled pings of a batch, and its times in ms since 1970, each noted by the one who knows it."""

    pings: Sequence[TracedPing]
    answering: str  # the name of the span that a forecast names as its parent
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
        return {row: ping.header(self.answering) for row, ping in self._rows(records)}

    def named(self, records: Records, others: Sequence[tuple[int, Outgoing]]) -> list[tuple[int, Outgoing]]:
        """Returns gap fills and dead letters, each after the row of these records that it answers, with the
        `traceparent` of those that are sampled; and notes them."""
        pings = dict(self._rows(records)) if others else {}
        return [(row, self._named(pings[row], one) if row in pings else one) for row, one in others]

    def _named(self, ping: TracedPing, one: Outgoing) -> Outgoing:
        code = code_of(one.headers)
        if code is None:
            self.gap_fills[ping] += 1
        else:
            self.rejected[ping] = code
        return one._replace(headers=traceparent.replaced(one.headers, ping.header(self.answering)))

    def _rows(self, records: Records) -> Iterator[tuple[int, TracedPing]]:
        """Yields the sampled pings among these records, with their rows."""
        for ping in self.pings:
            if ping.partition in records.partitions:
                here = records.which == list(records.partitions).index(ping.partition)
                for row in np.flatnonzero((records.offsets == ping.offset) & here).tolist():
                    yield row, ping

    def of(self, partitions: Sequence[Partition]) -> Sequence[TracedPing]:
        """Returns the pings that lie in these partitions."""
        return [ping for ping in self.pings if ping.partition in partitions]


def traced_ping(record: Record, fetched_ms: float) -> TracedPing:
    """Returns a sampled ping, by its record."""
    place = f"{record.topic}\n{record.partition}\n{record.offset}\n{record.timestamp_ms}".encode()
    digest = blake2b(place, digest_size=48).digest()
    parent = traceparent.parse(record.headers)
    trace_id = parent.trace_id if parent is not None else int.from_bytes(digest[:16]) or 1
    where = (record.topic, record.partition)
    key = (record.key or b"").decode(errors="replace")
    return TracedPing(where, record.offset, key, record.timestamp_ms, fetched_ms, parent, trace_id, digest[16:])
