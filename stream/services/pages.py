"""The pages of one member: its metrics for Prometheus, and the two probes.

Each metric is named after the service, `pathcast_<name>_...`:

    records_read_total           records that were folded, since the start
    records_published_total      records that were published, in transactions that are committed
    records_total                records by `partition` and `outcome`: what the service counts
    lag_records                  by `partition`: up to the logs' ends; absent if unknown
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from stream.probes.probes import ProbePages
from stream.services.plan import Place


class Watched(Protocol):
    """What the pages need of a member."""

    read: int
    published: int
    joined: bool

    def places(self) -> Mapping[int, Place]: ...


class Pages(ProbePages):
    """Renders the pages of a member."""

    def __init__(self, name: str, member: Watched) -> None:
        self._name = name
        self._member = member
        super().__init__()

    def reasons(self) -> list[str]:
        return [] if self._member.joined else ["not a member of the group yet"]

    def collect(self) -> Iterator[Metric]:
        """Yields every metric of the module's table."""
        places = self._member.places()
        for word, value in (("read", self._member.read), ("published", self._member.published)):
            name = f"pathcast_{self._name}_records_{word}"
            yield CounterMetricFamily(name, f"Records that were {word}.", value=value)
        outcomes = CounterMetricFamily(
            f"pathcast_{self._name}_records", "Records, by what became of them.", labels=("partition", "outcome")
        )
        lag = GaugeMetricFamily(
            f"pathcast_{self._name}_lag_records", "Up to the logs' ends; absent if unknown.", labels=("partition",)
        )
        for number, place in places.items():
            for outcome, count in place.counts.items():
                outcomes.add_metric((str(number), outcome), count)
            if place.lag is not None:
                lag.add_metric((str(number),), place.lag)
        yield from (outcomes, lag)
