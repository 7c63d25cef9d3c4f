"""The pages of a service's member: the metrics that every member has (`stream.members.pages`), and of each service

records_published_total      records that were published, in transactions that are committed
records_total                records by `partition` and `outcome`: what the service counts
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from stream.members import pages
from stream.members.pages import MemberPages
from stream.services.plan import Place


class Watched(pages.Watched, Protocol):
    """States which attributes of a member its pages read."""

    published: int

    def places(self) -> Mapping[int, Place]: ...


class Pages(MemberPages):
    """Renders the pages of a member."""

    def __init__(self, name: str, member: Watched) -> None:
        self._member = member
        super().__init__(name, member)

    def collect(self) -> Iterator[Metric]:
        """Yields every metric of both tables."""
        yield from super().collect()
        yield self._counter("records_published", "Records that were published.", self._member.published)
        outcomes = CounterMetricFamily(
            f"{self._prefix}records", "Records, by what became of them.", labels=("partition", "outcome")
        )
        for number, place in self._member.places().items():
            for outcome, count in place.counts.items():
                outcomes.add_metric((str(number), outcome), count)
        yield outcomes
