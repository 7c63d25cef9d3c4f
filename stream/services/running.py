"""A member as a command: signals, metrics and probes, and what a refusal of Kafka says."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

from aiokafka.errors import KafkaError

from stream.config import failpoints
from stream.config.http_access import Address, address_of, check_free, token
from stream.config.options import log_to_stderr
from stream.config.security import kafka_refusal
from stream.probes.http_server import serving
from stream.services.member import Member
from stream.services.pages import Pages
from stream.services.plan import Begin, Plan, in_words, partitions_of

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def run(plan: Plan, begin: Begin, metrics: str, provide: Callable[[int], None]) -> None:
    """Runs one member until SIGTERM or Ctrl-C; with `plan.once`, up to the present end.

    `provide` gets the number of partitions of the inputs, and creates what the service writes.

    Raises ConnectionError if Kafka does not answer, ValueError if an input is missing or the inputs have different
    numbers of partitions, Refused.
    """
    door = address_of(metrics, "--metrics") if metrics else None
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    log_to_stderr()
    if door is not None:
        check_free(door)
    asyncio.run(serve(plan, begin, door, token(os.environ), provide))


async def serve(
    plan: Plan, begin: Begin, door: Address | None, secret: str | None, provide: Callable[[int], None]
) -> None:
    """Does the same, with metrics at `door` for who shows the `secret`."""
    partitions = await asyncio.to_thread(partitions_of, plan)
    await asyncio.to_thread(provide, partitions)
    async with AsyncExitStack() as stack:
        try:
            member = Member(plan, begin)
            for number in SIGNALS:
                asyncio.get_running_loop().add_signal_handler(number, member.stop)
            if door is not None:
                await stack.enter_async_context(serving(door, secret, Pages(plan.name, member).pages()))
            await member.run()
        except KafkaError as error:
            refusal = kafka_refusal(plan.bootstrap, plan.kafka, error)
            raise refusal or ConnectionError(f"Kafka at {plan.bootstrap} failed: {in_words(error)}") from error
