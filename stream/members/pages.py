"""The pages of one member: its metrics for Prometheus, and the two probes.

Each metric is named after the command, `pathcast_<name>_...`:

    records_read_total           records that were folded, since the start
    failures_total               takeovers and writes that failed, and are tried again
    log_shortened_total          logs that lacked records that were read, found at a takeover
    lag_records                  by `partition`: up to the logs' ends; absent if unknown
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from stream.http.probes import ProbePages


class Watched(Protocol):
    """States which attributes of a member its pages read."""

    read: int
    failures: int
    shortened: int
    joined: bool

    def lags(self) -> Mapping[int, int | None]: ...


class MemberPages(ProbePages):
    """Renders the pages of a member. Subclasses add metrics."""

    def __init__(self, name: str, member: Watched) -> None:
        self._prefix = f"pathcast_{name}_"
        self._watched = member
        super().__init__()

    def reasons(self) -> list[str]:
        return [] if self._watched.joined else ["not a member of the group yet"]

    def collect(self) -> Iterator[Metric]:
        """Yields every metric of the module's table."""
        yield self._counter("records_read", "Records that were read.", self._watched.read)
        yield self._counter("failures", "Takeovers and writes, tried again.", self._watched.failures)
        yield self._counter("log_shortened", "Logs that lacked records that were read.", self._watched.shortened)
        text = "Up to the logs' ends; absent if unknown."
        yield self._by_partition("lag_records", text, self._watched.lags())

    def _counter(self, name: str, text: str, value: float) -> Metric:
        return CounterMetricFamily(f"{self._prefix}{name}", text, value=value)

    def _gauge(self, name: str, text: str, value: float | None) -> Metric:
        """Returns a gauge without labels, which has no value while that is unknown."""
        gauge = GaugeMetricFamily(f"{self._prefix}{name}", text)
        if value is not None:
            gauge.add_metric((), value)
        return gauge

    def _by_partition(self, name: str, text: str, values: Mapping[int, float | None]) -> Metric:
        gauge = GaugeMetricFamily(f"{self._prefix}{name}", text, labels=("partition",))
        for number, value in values.items():
            if value is not None:
                gauge.add_metric((str(number),), value)
        return gauge
