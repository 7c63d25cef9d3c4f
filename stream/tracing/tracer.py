"""Samples the pings of batches, and makes the spans of those that are committed:

    ping            from its fetch to its commit; its parent is the span that the ping's own `traceparent` names
      consume       from its publication, by the producer's clock, to its fetch
      batch wait    from its fetch until the engine got its batch
      track         its batch's records are read, checked, and joined to their tracks
      step          the model's step for all pings of the batch
      write         forecasts become bytes, and gaps are filled
      publish       until the brokers have the answers; the `traceparent` of the forecast, of gap fills and of a dead
                    letter names it
      commit        until the offsets are committed; under exactly_once both are one transaction, and so the same time

Times but those of `ping`, `consume` and `batch wait` are the batch's: all its pings are answered together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from opentelemetry.trace import SpanKind

from stream.kafka.records.record_columns import Partition, Records
from stream.tracing.pings import PUBLISH, TracedBatch, TracedPing, trace_ping
from stream.tracing.sampling import sample_rows, threshold
from stream.tracing.spans import Attributes, SpanSender

# A share of 1 must not make a batch of 8,192 pings into 65,536 spans: those of a batch beyond it are left out.
MOST_PINGS: Final = 128
PING: Final = "ping"
DEAD_LETTER: Final = "pathcast.dead_letter"  # attributes: the code of its dead letter
GAP_FILLS: Final = "pathcast.gap_fills"  # and the number of its gap fills


class Tracer:
    """Makes traces of one worker's pings. `Delivery` has one, or None."""

    def __init__(self, share: float, sender: SpanSender, *, once: bool = False) -> None:
        """Takes the `share` of the entities, and whether answers and offsets are committed at `once`."""
        self._below = threshold(share)
        self._sender = sender
        self._once = once

    def sample(self, parts: Sequence[tuple[Records, float]]) -> TracedBatch | None:
        """Returns the sampled pings among these records, each part with when it was fetched; None if there are none."""
        pings: list[TracedPing] = []
        for records, fetched_ms in parts:
            rows = sample_rows(records.keys, self._below)[: MOST_PINGS - len(pings)]
            pings += [trace_ping(records[row], fetched_ms) for row in rows.tolist()]
        return TracedBatch(pings) if pings else None

    def send_spans(self, batch: TracedBatch, partitions: Collection[Partition]) -> None:
        """Sends the spans of a batch's pings that lie in these partitions, which are committed."""
        for ping in batch.pings:
            if ping.partition in partitions:
                self._send_spans(ping, batch)

    def _send_spans(self, ping: TracedPing, batch: TracedBatch) -> None:
        publish = (batch.commit_ms, batch.committed_ms) if self._once else (batch.publish_ms, batch.published_ms)
        published_ms = ping.fetched_ms if ping.published_ms < 0 else ping.published_ms
        parts = (
            ("consume", SpanKind.CONSUMER, published_ms, ping.fetched_ms),
            ("batch wait", SpanKind.INTERNAL, ping.fetched_ms, batch.started_ms),
            ("track", SpanKind.INTERNAL, batch.started_ms, batch.tracked_ms),
            ("step", SpanKind.INTERNAL, batch.tracked_ms, batch.answered_ms),
            ("write", SpanKind.INTERNAL, batch.answered_ms, batch.folded_ms),
            (PUBLISH, SpanKind.PRODUCER, *publish),
            ("commit", SpanKind.INTERNAL, batch.commit_ms, batch.committed_ms),
        )
        attributes: Attributes = {
            "messaging.system": "kafka",
            "messaging.destination.name": ping.partition[0],
            "messaging.destination.partition.id": str(ping.partition[1]),
            "messaging.kafka.offset": ping.offset,
            **self._sender.name_entity(ping.entity_id),
            "pathcast.exactly_once": self._once,
            **({DEAD_LETTER: batch.rejected[ping]} if ping in batch.rejected else {}),
            **({GAP_FILLS: batch.gap_fills[ping]} if ping in batch.gap_fills else {}),
        }
        whole = ping.context(PING)
        self._sender.send(
            PING, SpanKind.CONSUMER, whole, ping.parent, (ping.fetched_ms, batch.committed_ms), attributes
        )
        for name, kind, begin_ms, end_ms in parts:
            # The producer's clock may be ahead of ours, and a span ends after it begins.
            self._sender.send(name, kind, ping.context(name), whole, (min(begin_ms, end_ms), end_ms), {})
