"""Runs services in one process: they begin together, each with its work and its pages, and end together.

A service that fails alone ends its process, and whoever keeps that starts it again. Beside others it does the same: the
others write what they have, and the process ends with its error.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from typing import Final, NamedTuple, Protocol

from aiokafka.errors import KafkaError
from prometheus_client.metrics_core import Metric

from stream.config.http_access import Address, address_of, check_free, token
from stream.config.security import KafkaSecurity, in_words, kafka_refusal
from stream.http.pages import serving
from stream.http.probes import ProbePages

log: Final = logging.getLogger(__name__)

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Work(Protocol):
    """What a service does until it is told to stop, such as a member of a group."""

    async def run(self) -> None: ...

    def stop(self) -> None: ...


class Running(NamedTuple):
    """A service that has begun."""

    work: Work
    pages: ProbePages


class Service(NamedTuple):
    """A service that may begin: that asks what it needs, and raises what hinders it."""

    name: str
    begin: Callable[[], AbstractAsyncContextManager[Running]]


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


async def serve(services: Sequence[Service], door: Door | None = None, stopped_by: Sequence[int] = SIGNALS) -> None:
    """Begins all services, and runs them as `live` does. None of them works before all have begun.

    Raises what hinders one of them, and as `live`.
    """
    async with AsyncExitStack() as stack:
        parts = {one.name: await stack.enter_async_context(one.begin()) for one in services}
        await live(parts, door, stopped_by)


async def live(parts: Mapping[str, Running], door: Door | None, stopped_by: Sequence[int] = SIGNALS) -> None:
    """Runs services until one of these signals comes, or each has come to its end, with pages at the door.

    Once one of them raises an error, the others stop as at a signal, and that error is raised.
    """

    def stop() -> None:
        for part in parts.values():
            part.work.stop()

    async with AsyncExitStack() as stack:
        for number in stopped_by:
            asyncio.get_running_loop().add_signal_handler(number, stop)
        if door is not None:
            pages = ProcessPages({name: part.pages for name, part in parts.items()}).pages()
            await stack.enter_async_context(serving(door.address, door.secret, pages))
        tasks = [asyncio.create_task(part.work.run(), name=name) for name, part in parts.items()]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            failed = [task for task in tasks if task.done() and task.exception() is not None]
            if failed and len(tasks) > 1:
                log.error("%s has failed, so that the others stop, too", " and ".join(one.get_name() for one in failed))
            if failed:
                stop()
                await asyncio.wait(tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            raise
        finally:
            ends = await asyncio.gather(*tasks, return_exceptions=True)
    for error in [*(task.exception() for task in failed), *ends]:
        if isinstance(error, BaseException):
            raise error


class ProcessPages(ProbePages):
    """Renders the pages of all services of a process as one: all metrics, and ready where each of them is."""

    def __init__(self, parts: Mapping[str, ProbePages]) -> None:
        self._parts = parts
        super().__init__()

    def reasons(self) -> list[str]:
        return self._all(lambda pages: pages.reasons())

    def faults(self) -> list[str]:
        return self._all(lambda pages: pages.faults())

    def _all(self, of: Callable[[ProbePages], Sequence[str]]) -> list[str]:
        alone = len(self._parts) == 1
        return [why if alone else f"{name}: {why}" for name, pages in self._parts.items() for why in of(pages)]

    def collect(self) -> Iterator[Metric]:
        for pages in self._parts.values():
            yield from pages.collect()


@contextmanager
def kafka_named(bootstrap: str, security: KafkaSecurity) -> Iterator[None]:
    """Raises Refused for what Kafka will say again, and ConnectionError for every other error of its client."""
    try:
        yield
    except KafkaError as error:
        refusal = kafka_refusal(bootstrap, security, error)
        raise refusal or ConnectionError(f"Kafka at {bootstrap} failed: {in_words(error)}") from error
