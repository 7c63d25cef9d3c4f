"""A service's member as a command: its topics, its pages, and its life."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from stream.config import failpoints
from stream.config.options import log_to_stderr
from stream.members.running import Door, door_of, kafka_named, live
from stream.services.member import Member
from stream.services.pages import Pages
from stream.services.plan import Begin, Plan


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
