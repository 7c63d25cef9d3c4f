"""The pages of one member: a table of its metrics for Prometheus, and what its probes say.

Each metric is named after the service, `pathcast_<name>_...`. Every member has those of ROWS; a service adds rows of
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from stream.http.probes import ProbePages

Values = Mapping[Any, float | None] | float | None  # by label, or by several as a tuple; None: unknown, and not shown
PARTITION: Final = ("partition",)


class Row(NamedTuple):
    """One metric of a member."""

    family: type[CounterMetricFamily | GaugeMetricFamily]
    name: str
    text: str
    read: Callable[[Any], Values]  # of the member
    labels: tuple[str, ...] = ()


def counter(name: str, text: str, read: Callable[[Any], Values], *labels: str) -> Row:
    return Row(CounterMetricFamily, name, text, read, labels)


def gauge(name: str, text: str, read: Callable[[Any], Values], *labels: str) -> Row:
    return Row(GaugeMetricFamily, name, text, read, labels)


ROWS: Final = (
    counter("records_read", "Records that were folded, since the start.", lambda one: one.read),
    counter("failures", "Takeovers and writes that failed, and are tried again.", lambda one: one.failures),
    counter("log_shortened", "Logs that lacked records that were read.", lambda one: one.shortened),
    gauge("lag_records", "Up to the logs' ends; absent if unknown.", lambda one: one.lags(), *PARTITION),
)


class Watched(Protocol):
    """States which attributes of a member its pages read, beside those of its own rows."""

    read: int
    failures: int
    shortened: int

    def lags(self) -> Mapping[int, int | None]: ...

    def hindrances(self) -> list[str]: ...


class MemberPages(ProbePages):
    """Renders the pages of a member."""

    def __init__(self, name: str, member: Watched, rows: Sequence[Row] = ()) -> None:
        self._prefix = f"pathcast_{name}_"
        self._member = member
        self._rows = (*ROWS, *rows)
        super().__init__()

    def reasons(self) -> list[str]:
        return self._member.hindrances()

    def collect(self) -> Iterator[Metric]:
        """Yields every metric of the table."""
        for row in self._rows:
            values = row.read(self._member)
            family = row.family(f"{self._prefix}{row.name}", row.text, labels=row.labels)
            for key, value in (values if isinstance(values, Mapping) else {(): values}).items():
                if value is not None:
                    family.add_metric([str(one) for one in (key if isinstance(key, tuple) else (key,))], value)
            yield family
