"""The pages of a member of the archive: the metrics that every member has (`stream.members.pages`), and by `partition`

    records_total                     records that have landed or were left out, by `outcome`, whoever landed them: what
                                      `archive show` counts
    waiting_pings                     pings in memory that have not landed yet
    landed_offset                     the offset that follows the records that have landed
    landed_timestamp_seconds          when that was; absent before the first landing

and of the member `pings_landed_total`, since its start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from stream.adapters.archived.manifest import Manifest
from stream.members import pages
from stream.members.pages import MemberPages


class Standing(NamedTuple):
    """Where one partition stands."""

    waiting: int  # pings
    manifest: Manifest


class Watched(pages.Watched, Protocol):
    """States which attributes of a member its pages read."""

    landed: int

    def standings(self) -> Mapping[int, Standing]: ...


class Pages(MemberPages):
    """Renders the pages of a member."""

    def __init__(self, member: Watched) -> None:
        self._member = member
        super().__init__("archive", member)

    def collect(self) -> Iterator[Metric]:
        """Yields every metric of both tables."""
        yield from super().collect()
        yield self._counter("pings_landed", "Pings that have landed.", self._member.landed)
        standings = self._member.standings()
        records = CounterMetricFamily(
            f"{self._prefix}records", "Records, by what became of them.", labels=("partition", "outcome")
        )
        for number, one in standings.items():
            for outcome, count in one.manifest.counts.items():
                records.add_metric((str(number), outcome), count)
        yield records
        waiting = {number: one.waiting for number, one in standings.items()}
        yield self._by_partition("waiting_pings", "Pings in memory.", waiting)
        offsets = {number: one.manifest.next_offset for number, one in standings.items()}
        yield self._by_partition("landed_offset", "The offset after the records that have landed.", offsets)
        times = {number: one.manifest.landed_ms / 1000 or None for number, one in standings.items()}
        yield self._by_partition("landed_timestamp_seconds", "When the last records landed.", times)
