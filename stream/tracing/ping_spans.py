"""The spans of one ping, as facts:

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

from collections.abc import Mapping
from typing import Final

from stream.tracing.naming import Named
from stream.tracing.pings import TracedBatch, TracedPing
from stream.tracing.span import CONSUMER, INTERNAL, PRODUCER, Span
from stream.tracing.traceparent import Parent

PING: Final = "ping"
PUBLISH: Final = "publish"
REJECTED: Final = "pathcast.dead_letter"  # attributes: the code of its dead letter
GAP_FILLS: Final = "pathcast.gap_fills"  # and the number of its gap fills


def spans_of(ping: TracedPing, batch: TracedBatch, named: Named, *, once: bool) -> list[Span]:
    """Returns the spans of a ping that is committed. `once`: answers and offsets are one transaction."""
    topic, number = ping.partition
    where: dict[str, str | int | float] = {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(number),
        "messaging.kafka.offset": ping.offset,
    }
    whole = Parent(ping.trace_id, ping.span_id(PING))
    publish = (batch.commit_ms, batch.committed_ms) if once else (batch.publish_ms, batch.published_ms)
    parts = (
        ("consume", CONSUMER, ping.fetched_ms if ping.published_ms < 0 else ping.published_ms, ping.fetched_ms),
        ("batch wait", INTERNAL, ping.fetched_ms, batch.started_ms),
        ("track", INTERNAL, batch.started_ms, batch.tracked_ms),
        ("step", INTERNAL, batch.tracked_ms, batch.answered_ms),
        ("write", INTERNAL, batch.answered_ms, batch.folded_ms),
        (PUBLISH, PRODUCER, *publish),
        ("commit", INTERNAL, batch.commit_ms, batch.committed_ms),
    )
    root = Span(
        PING, CONSUMER, ping.trace_id, whole.span_id, ping.parent, ping.fetched_ms, batch.committed_ms,
        {**where, **named(ping.entity_id), "pathcast.exactly_once": once, **_caused(ping, batch)},
    )  # fmt: skip
    return [root, *(_part(ping, whole, *part) for part in parts)]


def _caused(ping: TracedPing, batch: TracedBatch) -> Mapping[str, str | int]:
    """Returns what a ping led to beside, or in place of, a forecast."""
    found: dict[str, str | int] = {}
    if ping in batch.rejected:
        found[REJECTED] = batch.rejected[ping]
    if ping in batch.gap_fills:
        found[GAP_FILLS] = batch.gap_fills[ping]
    return found


def _part(ping: TracedPing, whole: Parent, name: str, kind: str, begin_ms: float, end_ms: float) -> Span:
    # The producer's clock may be ahead of ours, and a span ends after it begins.
    return Span(name, kind, ping.trace_id, ping.span_id(name), whole, min(begin_ms, end_ms), end_ms, {})
