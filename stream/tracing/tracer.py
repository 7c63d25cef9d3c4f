"""Samples the pings of batches, and hands the spans of those that are committed to an exporter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from stream.kafka.records.record_columns import Partition, Records
from stream.tracing.naming import Named
from stream.tracing.ping_spans import PUBLISH, spans_of
from stream.tracing.pings import TracedBatch, TracedPing, traced_ping
from stream.tracing.sampling import sampled, threshold
from stream.tracing.span import Span

# A share of 1 must not make a batch of 8,192 pings into 65,536 spans: those of a batch beyond it are left out.
MOST_PINGS: Final = 128


class Tracer:
    """Makes traces of one worker's pings. `Delivery` has one, or None."""

    def __init__(
        self, share: float, export: Callable[[Sequence[Span]], None], named: Named, *, once: bool = False
    ) -> None:
        """Takes the `share` of the entities, `export`, which must return at once, `named`, which returns the attributes
        that stand for an entity, and whether answers and offsets are committed at `once`."""
        self._below = threshold(share)
        self._export = export
        self._named = named
        self._once = once

    def sampled(self, parts: Sequence[tuple[Records, float]]) -> TracedBatch | None:
        """Returns the sampled pings among these records, each part with when it was fetched; None if there are none."""
        found: list[TracedPing] = []
        for records, fetched_ms in parts:
            rows = sampled(records.keys, self._below)[: MOST_PINGS - len(found)]
            found += [traced_ping(records[row], fetched_ms) for row in rows.tolist()]
        return TracedBatch(found, PUBLISH) if found else None

    def committed(self, batch: TracedBatch, partitions: Collection[Partition]) -> None:
        """Exports the spans of a batch's pings that lie in these partitions, which are committed."""
        pings = batch.of(list(partitions))
        spans = [one for ping in pings for one in spans_of(ping, batch, self._named, once=self._once)]
        if spans:
            self._export(spans)
