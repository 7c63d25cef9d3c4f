"""The pages of an ingest process: its metrics, and whether it is alive and ready."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from stream.ingest.sink import Sink
from stream.ingest.source import Source
from stream.serve.http_server import Answer, Page

ADAPTER: Final = "adapter"


class Pages(Collector):
    """Renders the pages. It has its own registry, so that two in one process do not collide."""

    def __init__(self, sink: Sink, source: Source) -> None:
        self._sink = sink
        self._source = source
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def pages(self) -> dict[str, Page]:
        """Returns the pages, by path. Probes are open, the metrics are not."""
        return {
            "/metrics": Page(self._metrics, open=False),
            "/healthz": Page(self._alive, open=True),
            "/readyz": Page(self._ready, open=True),
        }

    async def _metrics(self) -> Answer:
        return Answer(200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry))

    async def _alive(self) -> Answer:
        await asyncio.sleep(0)
        return _told([])

    async def _ready(self) -> Answer:
        return _told(list(self._reasons()))

    def _reasons(self) -> Iterator[str]:
        if not self._source.started:
            yield "Kafka is not connected yet"
        if not self._sink.is_available:
            yield "Kafka takes no records"
        if self._source.is_away:
            yield "the source is away"

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


def _told(reasons: list[str]) -> Answer:
    body = msgspec.json.encode({"ok": not reasons, "reasons": reasons})
    return Answer(503 if reasons else 200, "application/json", body + b"\n")
