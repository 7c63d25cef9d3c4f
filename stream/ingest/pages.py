"""Renders the pages of an ingest process: its metrics, and whether it is alive and ready."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from stream.http.probes import ProbePages
from stream.ingest.publishing.sink import Sink
from stream.ingest.source import Source

ADAPTER: Final = "adapter"


class Pages(ProbePages):
    """Renders the pages of a sink and its source."""

    def __init__(self, sink: Sink, source: Source) -> None:
        self._sink = sink
        self._source = source
        super().__init__()

    def reasons(self) -> list[str]:
        facts = (
            (not self._source.started, "Kafka is not connected yet"),
            (not self._sink.is_available, "Kafka takes no records"),
            (self._source.is_away, "the source is away"),
        )
        return [reason for holds, reason in facts if holds]

    def collect(self) -> Iterator[Metric]:
        """Yields every metric."""
        pings = CounterMetricFamily("pathcast_ingest_pings", "Pings that Kafka has acknowledged.", labels=(ADAPTER,))
        rejects = CounterMetricFamily(
            "pathcast_ingest_rejects", "Dead letters that Kafka has acknowledged.", labels=(ADAPTER, "code")
        )
        skips = CounterMetricFamily(
            "pathcast_ingest_skips", "What came and was neither a position nor an error.", labels=(ADAPTER, "why")
        )
        unavailable = CounterMetricFamily(
            "pathcast_ingest_unavailable", "Messages not taken, as Kafka took no records.", labels=(ADAPTER,)
        )
        for adapter, taken in self._sink.by_adapter.items():
            pings.add_metric((adapter,), taken.pings)
            unavailable.add_metric((adapter,), taken.refused)
            for code, count in taken.rejects.items():
                rejects.add_metric((adapter, code), count)
            for why, count in taken.skips.items():
                skips.add_metric((adapter, why), count)
        yield from (pings, rejects, skips, unavailable)
        lost = CounterMetricFamily("pathcast_ingest_lost", "Messages that were lost, as too many waited for Kafka.")
        lost.add_metric((), self._source.lost)
        yield lost
        gauges = (
            ("pathcast_ingest_kafka_away", "1: Kafka took none of the last records.", not self._sink.is_available),
            ("pathcast_ingest_source_away", "1: the source does not answer.", self._source.is_away),
            ("pathcast_ingest_waiting_records", "That wait for an acknowledgement.", self._sink.waiting),
        )
        for name, text, value in gauges:
            yield GaugeMetricFamily(name, text, value=float(value))
