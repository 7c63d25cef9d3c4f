"""A member as a command: signals, metrics and probes, and what a refusal of Kafka says."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Final, NamedTuple

from aiokafka.errors import KafkaError

from stream.config.http_access import Address, address_of, check_free, token
from stream.config.security import KafkaSecurity, in_words, kafka_refusal
from stream.http.pages import serving
from stream.http.probes import ProbePages
from stream.members.group_member import GroupMember

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Door(NamedTuple):
    """Where pages are served, and the token that opens the metrics."""

    address: Address
    secret: str | None


def door_of(metrics: str) -> Door | None:
    """Returns what `--metrics` names, with the environment's token; None if it is empty.

    Raises BadParameter, OSError if the port is taken, and as `token`.
    """
    if not metrics:
        return None
    address = address_of(metrics, "--metrics")
    check_free(address)
    return Door(address, token(os.environ))


async def live(
    member: GroupMember[Any], pages: ProbePages, door: Door | None, stopped_by: Sequence[int] = SIGNALS
) -> None:
    """Runs a member until one of these signals comes, with pages at the door. Raises as `GroupMember.run`."""
    async with AsyncExitStack() as stack:
        for number in stopped_by:
            asyncio.get_running_loop().add_signal_handler(number, member.stop)
        if door is not None:
            await stack.enter_async_context(serving(door.address, door.secret, pages.pages()))
        await member.run()


@contextmanager
def kafka_named(bootstrap: str, security: KafkaSecurity) -> Iterator[None]:
    """Raises Refused for what Kafka will say again, and ConnectionError for every other error of its client."""
    try:
        yield
    except KafkaError as error:
        refusal = kafka_refusal(bootstrap, security, error)
        raise refusal or ConnectionError(f"Kafka at {bootstrap} failed: {in_words(error)}") from error
