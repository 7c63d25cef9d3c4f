"""A service's member as a command: its topics, its pages, and its life."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from stream.config import failpoints
from stream.config.options import log_to_stderr
from stream.members import pages
from stream.members.pages import MemberPages
from stream.members.running import Door, door_of, kafka_named, live
from stream.services.member import Member
from stream.services.plan import Begin, Place, Plan


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


def run(plan: Plan, begin: Begin, metrics: str, provide: Callable[[int], None]) -> None:
    """Runs one member until SIGTERM or Ctrl-C; with `plan.once`, up to the present end.

    `provide` gets the number of partitions of the inputs, and creates what the service writes.

    Raises ConnectionError if Kafka does not answer, ValueError if an input is missing or the inputs have different
    numbers of partitions, Refused.
    """
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    log_to_stderr()
    asyncio.run(serve(plan, begin, door_of(metrics), provide))


async def serve(plan: Plan, begin: Begin, door: Door | None, provide: Callable[[int], None]) -> None:
    """Does the same, with metrics at `door`."""
    partitions = await asyncio.to_thread(plan.reads.partitions)
    await asyncio.to_thread(provide, partitions)
    with kafka_named(plan.bootstrap, plan.kafka):
        member = Member(plan, begin)
        await live(member, Pages(plan.name, member), door)
