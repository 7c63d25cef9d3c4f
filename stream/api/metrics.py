"""The metrics of requests, for Prometheus, and the names of those of the API.

Counts are kept where things happen; sizes are read at a scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

PREFIX: Final = "pathcast_serve_"
SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
# By name: the help text. The values come from who knows them, as numbers at the moment of a scrape.
SIZES: Final = {
    "entities": "Entities whose newest forecast is in memory.",
    "trips": "Trips under way whose newest record is in memory.",
    "lag_records": "Forecasts in the log that were not read yet.",
    "caught_up": "1: the forecasts are read that were in the log at the start.",
    "questions_waiting": "Questions that wait to be computed.",
    "tracks_waiting": "Tracks that are filled or wait for it.",
    "connections": "Open connections.",
    "networks": "Weights in memory.",
}
COUNTS: Final = {
    "batches": "Batches of questions that were computed.",
    "store_failures": "Reads of Redis that failed.",
    "kafka_failures": "Reads of the forecasts topic that failed.",
    "records": "Records of the forecasts topic that were read.",
    "records_refused": "Records that are no forecasts, or no trips.",
    "entities_crowded_out": "Entities that were left out because the table was full.",
    "connections_closed": "Connections that were closed because they sent nothing, or were too many.",
}


class Metrics:
    """The metrics of the API, or of the map."""

    def __init__(
        self,
        registry: CollectorRegistry,
        prefix: str = PREFIX,
        sizes: Mapping[str, str] = SIZES,
        counts: Mapping[str, str] = COUNTS,
    ) -> None:
        """Takes the prefix of all names, and the help texts of what is read at a scrape."""
        self._prefix, self._sizes, self._counts = prefix, sizes, counts
        self._registry = ours = registry
        self._requests = Counter(
            prefix + "requests", "Requests, by operation and status.", ["operation", "status"], registry=ours
        )
        self._seconds = Histogram(
            prefix + "seconds",
            "From a request to its answer; not of streams.",
            ["operation"],
            buckets=SECONDS,
            registry=ours,
        )
        self._streams = Gauge(prefix + "streams", "Open streams.", ["kind"], registry=ours)
        self._messages = Counter(prefix + "messages", "Messages sent to streams.", ["kind"], registry=ours)
        self._dropped = Counter(
            prefix + "streams_dropped", "Streams whose clients took nothing.", ["kind"], registry=ours
        )
        for kind in ("events", "socket"):
            self._streams.labels(kind)
            self._messages.labels(kind)
            self._dropped.labels(kind)

    def watch(self, values: Mapping[str, Callable[[], float]]) -> None:
        """Reads these sizes and counts at each scrape."""
        for names, family in ((self._sizes, GaugeMetricFamily), (self._counts, CounterMetricFamily)):
            readings = {self._prefix + name: (text, values[name]) for name, text in names.items() if name in values}
            self._registry.register(_Read(family, readings))

    def count_answer(self, operation: str, status: int, seconds: float | None) -> None:
        """Counts an answer. `seconds` is None for a stream."""
        self._requests.labels(operation, str(status)).inc()
        if seconds is not None:
            self._seconds.labels(operation).observe(seconds)

    def count_opened(self, kind: str) -> None:
        self._streams.labels(kind).inc()

    def count_closed(self, kind: str, *, dropped: bool) -> None:
        self._streams.labels(kind).dec()
        if dropped:
            self._dropped.labels(kind).inc()

    def count_sent(self, kind: str, messages: int) -> None:
        self._messages.labels(kind).inc(messages)


class _Read(Collector):
    """Metrics whose values somebody else knows."""

    def __init__(self, family: Callable[..., Metric], values: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        """Takes the help text and the value of each, by name."""
        self._family = family
        self._values = values

    def collect(self) -> Iterator[Metric]:
        for name, (text, of) in self._values.items():
            yield self._family(name, text, value=of())
