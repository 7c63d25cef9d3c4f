"""The three pages of a process that is watched: its metrics for Prometheus, and whether it is alive and ready."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from stream.http.pages import Answer, Page


class ProbePages(Collector):
    """Renders the pages. It has its own registry, so that two of them in one process do not collide."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._registry.register(_Readiness(self))
        ProcessCollector(registry=self._registry)

    @abstractmethod
    def reasons(self) -> Sequence[str]:
        """Returns why the process is not ready; none if it is."""

    def faults(self) -> Sequence[str]:
        """Returns why a new process would do better; none if this one lives. One that answers lives, by default."""
        return ()

    def pages(self) -> dict[str, Page]:
        """Returns the pages, by path. Probes are open, the metrics are not."""
        return {
            "/metrics": Page(self._metrics, open=False),
            "/healthz": Page(self._alive, open=True),
            "/readyz": Page(self._ready, open=True),
        }

    async def _metrics(self) -> Answer:
        # On the event loop, where nothing changes meanwhile: there are some hundred lines.
        return Answer(200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry))

    async def _alive(self) -> Answer:
        return _answer(self.faults())

    async def _ready(self) -> Answer:
        return _answer(self.reasons())


class _Readiness(Collector):
    """Gives Prometheus what /readyz says, under the name that a worker has for it, so that one alert is for all."""

    def __init__(self, pages: ProbePages) -> None:
        self._pages = pages

    def collect(self) -> Iterator[Metric]:
        ready = not self._pages.reasons()
        yield GaugeMetricFamily("pathcast_ready", "1: it does its work now, as /readyz says.", value=float(ready))


def _answer(reasons: Sequence[str]) -> Answer:
    body = msgspec.json.encode({"ok": not reasons, "reasons": list(reasons)})
    return Answer(503 if reasons else 200, "application/json", body + b"\n")
