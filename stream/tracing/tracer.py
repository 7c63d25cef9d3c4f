"""Samples the pings of batches, and hands the spans of those that are committed to an exporter."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from stream.kafka.records.record_columns import Partition, Records
from stream.tracing.pings import TracedBatch, TracedPing, traced_ping
from stream.tracing.sampling import sampled, threshold
from stream.tracing.spans import PUBLISH, Span, spans_of

ID: Final = "pathcast.entity_id"
HASH: Final = "pathcast.entity_hash"
HASH_CHARS: Final = 16  # of a keyed hash: enough to tell a million entities apart
# A share of 1 must not make a batch of 8,192 pings into 65,536 spans: those of a batch beyond it are left out.
MOST_PINGS: Final = 128


class Tracer:
    """Makes traces of one worker's pings. `Delivery` has one, or None."""

    def __init__(
        self,
        share: float,
        export: Callable[[Sequence[Span]], None],
        *,
        key: bytes,
        entity_ids: bool = False,
        once: bool = False,
    ) -> None:
        """Takes the `share` of the entities, `export`, which must return at once, the `key` of the hashes that stand
        for entities, unless `entity_ids` shows them, and whether answers and offsets are committed at `once`."""
        self._below = threshold(share)
        self._export = export
        self._key = key
        self._entity_ids = entity_ids
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
        spans = [one for ping in batch.of(list(partitions)) for one in spans_of(ping, batch, self._of, once=self._once)]
        if spans:
            self._export(spans)

    def _of(self, entity_id: str) -> Mapping[str, str]:
        if self._entity_ids:
            return {ID: entity_id}
        return {HASH: hmac.new(self._key, entity_id.encode(), hashlib.sha256).hexdigest()[:HASH_CHARS]}
