"""Runs one ingest process: its sink, its transport, its pages and its end.

    @with_common
    def mqtt(broker: Annotated[str, typer.Option(...)], options: IngestOptions = DEFAULTS) -> None:
        run("owntracks", options, partial(transport, broker))

A transport is an async function of a sink and a `Source`. It returns when its source has ended. SIGTERM and Ctrl-C
cancel it; what it has not acknowledged by then, its source must send again, or never was promised anything.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stream.config import failpoints
from stream.config.http_access import Address, address_of, check_free, token
from stream.config.options import COMMON, Common, Metrics, log_to_stderr
from stream.config.settings import NO_TRACES, Traces
from stream.config.times import LOOK_S, Pacer

if TYPE_CHECKING:  # Kafka's client takes half a second to import, too long for --help
    from stream.ingest.publishing.sink import Sink, TakenCounts
    from stream.ingest.source import Source

log: Final = logging.getLogger(__name__)

SERVICE: Final = "pathcast-ingest"  # in traces
STOPPED_BY: Final = (signal.SIGTERM, signal.SIGINT)

Transport = Callable[["Sink", "Source"], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class IngestOptions:
    """Holds what every command of `pathcast ingest` is told."""

    common: Common = COMMON
    metrics: Metrics = ""
    traces: Traces = NO_TRACES


DEFAULTS: Final = IngestOptions()


def run(adapter: str, options: IngestOptions, transport: Transport) -> None:
    """Runs a transport until its source ends or a signal comes. `adapter` names the format where it is counted.

    Raises what the sink raises at its start, OSError if the address of the metrics is taken, ModuleNotFoundError for
    traces without the extra `otel`, and what the transport raises.
    """
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    log_to_stderr()
    door = address_of(options.metrics, "--metrics") if options.metrics else None
    secret = token(os.environ)
    if door is not None:
        check_free(door)
    asyncio.run(serve(adapter, options, transport, door, secret))


async def serve(
    adapter: str, options: IngestOptions, transport: Transport, door: Address | None = None, secret: str | None = None
) -> None:
    """Does the work of `run` in the present event loop."""
    from stream.http.pages import serving
    from stream.ingest.pages import Pages
    from stream.ingest.publishing.sink import Sink
    from stream.ingest.source import Source

    source = Source(adapter)
    common, topics = options.common, options.common.topics
    async with AsyncExitStack() as stack:
        tracer = None
        if options.traces.share:
            from stream.tracing.requests import RequestTracer
            from stream.tracing.spans import open_sender

            tracer = RequestTracer(options.traces.share, open_sender(options.traces, SERVICE))
            stack.callback(tracer.sender.close)
        sink = Sink(common.bootstrap, topics, adapter, security=common.security, tracer=tracer)
        if door is not None:
            at = await stack.enter_async_context(serving(door, secret, Pages(sink, source).pages()))
            log.info("metrics at http://%s/metrics", at)
        await stack.enter_async_context(sink)
        log.info("%s: to %s at Kafka %s", adapter, topics.pings, common.bootstrap)
        source.started = True
        work = asyncio.create_task(transport(sink, source))
        for number in STOPPED_BY:
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        report = asyncio.create_task(_report(sink))
        try:
            await work
        except asyncio.CancelledError:
            if (ours := asyncio.current_task()) is not None and ours.cancelling():
                raise  # somebody ends us, and not a signal the transport
        finally:
            report.cancel()
            for number in STOPPED_BY:
                asyncio.get_running_loop().remove_signal_handler(number)
    log.info("ended: %s%s", sink.taken.in_words(), f", {source.lost:,} lost" if source.lost else "")


async def _report(sink: Sink) -> None:
    """Logs a line a minute while something comes."""
    taken, pings = sink.taken, 0
    pacer = Pacer(_count(taken), time.monotonic())
    while True:
        await asyncio.sleep(LOOK_S)
        taken = sink.taken
        if (line := pacer.take_line(_count(taken), time.monotonic())) is not None:
            log.info("%.1f pings/s; so far %s", (taken.pings - pings) / line.seconds, taken.in_words())
            pings = taken.pings


def _count(taken: TakenCounts) -> int:
    return taken.pings + taken.refused + taken.rejects.total() + taken.skips.total()


async def run_together(*work: Coroutine[Any, Any, None]) -> None:
    """Runs all until one of them ends or raises, and then cancels the others."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        for ended in (await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))[0]:
            ended.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
