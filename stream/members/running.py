"""Runs services in one process: they begin together, each with its work and its pages, and end together.

A service that fails alone ends its process, and whoever keeps that starts it again. Beside others it does the same: the
others write what they have, and the process ends with its error.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, Protocol

from aiokafka.errors import KafkaError
from prometheus_client.metrics_core import Metric

from stream.config.http_access import Address, address_of, check_free, token
from stream.config.security import in_words, kafka_refusal
from stream.http.pages import serving
from stream.http.probes import ProbePages
from stream.members.group_member import GroupMember
from stream.members.pages import MemberPages, Row

log: Final = logging.getLogger(__name__)

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Work(Protocol):
    """Does the work of a service, such as a member of a group, until it is told to stop."""

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


_NAME: Final[ContextVar[str]] = ContextVar("service")  # of which the code is that runs


def name_lines() -> None:
    """Lets each line of the log begin with the name of its service, for a process that runs several."""

    def name(record: logging.LogRecord) -> bool:
        if service := _NAME.get(""):
            record.msg = f"{service}: {record.msg}"
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(name)


async def serve(services: Sequence[Service], door: Door | None = None, stopped_by: Sequence[int] = SIGNALS) -> None:
    """Begins all services, and runs them as `live` does. None of them works before all have begun.

    Raises what hinders one of them, and as `live`.
    """
    async with AsyncExitStack() as stack:
        parts: dict[str, Running] = {}
        for one in services:
            before = _NAME.set(one.name)
            parts[one.name] = await stack.enter_async_context(one.begin())
            _NAME.reset(before)
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
        tasks = [asyncio.create_task(_run(name, part.work), name=name) for name, part in parts.items()]
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


async def _run(name: str, work: Work) -> None:
    _NAME.set(name)  # of this task, and of the tasks and threads that it starts
    await work.run()


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


@asynccontextmanager
async def running_member(name: str, member: GroupMember[Any], rows: Sequence[Row] = ()) -> AsyncIterator[Running]:
    """Yields a member of a group with its pages, and closes it in the end, also if it has never run.

    Raises Refused for what Kafka will say again, and ConnectionError for every other error of its client.
    """
    inputs = member.inputs
    try:
        yield Running(member, MemberPages(name, member, rows))
    except KafkaError as error:
        refusal = kafka_refusal(inputs.bootstrap, inputs.kafka, error)
        raise refusal or ConnectionError(f"Kafka at {inputs.bootstrap} failed: {in_words(error)}") from error
    finally:
        await member.close()
