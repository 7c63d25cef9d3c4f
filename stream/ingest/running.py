"""Runs one ingest process: its sink, its transport, its pages and its end.

    @secured
    def mqtt(
        broker: Annotated[str, typer.Option(...)],
        bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
        prefix: Prefix = DEFAULT_PREFIX,
        metrics: Metrics = "",
        security: KafkaSecurity = PLAIN_KAFKA,
        traces: Traces = NO_TRACES,
    ) -> None:
        run(Common("owntracks", bootstrap, prefix, metrics, security, traces), partial(transport, broker))

A transport is an async function of a sink and a `Source`. It returns when its source has ended. SIGTERM and Ctrl-C
cancel it; what it has not acknowledged by then, its source must send again, or never was promised anything.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from stream.config import failpoints
from stream.config.http_access import Address, address_of, check_free, token
from stream.config.options import log_to_stderr
from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.config.traces import NO_TRACES, Traces
from stream.wire import Topics

if TYPE_CHECKING:  # Kafka's client takes half a second to import, too long for --help
    from stream.ingest.publishing.sink import Sink
    from stream.ingest.source import Source

log: Final = logging.getLogger(__name__)

REPORT_S: Final = 10.0
SERVICE: Final = "pathcast-ingest"  # in traces
STOPPED_BY: Final = (signal.SIGTERM, signal.SIGINT)

Transport = Callable[["Sink", "Source"], Coroutine[Any, Any, None]]

Metrics = Annotated[
    str,
    typer.Option(
        "--metrics",
        envvar="PATHCAST_METRICS",
        help="serve /metrics, /healthz and /readyz at HOST:PORT, or a loopback PORT",
    ),
]


class Common(NamedTuple):
    """Holds the options that every command has. `adapter` names the format, in dead letters and metrics."""

    adapter: str
    bootstrap: str
    prefix: str
    metrics: str = ""  # an address, or empty
    security: KafkaSecurity = PLAIN_KAFKA
    traces: Traces = NO_TRACES


def run(common: Common, transport: Transport) -> None:
    """Runs a transport until its source ends or a signal comes.

    Raises what the sink raises at its start, OSError if the address of the metrics is taken, ModuleNotFoundError for
    traces without the extra `otel`, and what the transport raises.
    """
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    log_to_stderr()
    door = address_of(common.metrics, "--metrics") if common.metrics else None
    secret = token(os.environ)
    if door is not None:
        check_free(door)
    asyncio.run(serve(common, transport, door, secret))


async def serve(common: Common, transport: Transport, door: Address | None = None, secret: str | None = None) -> None:
    """Does the work of `run` in the present event loop."""
    from stream.http.pages import serving
    from stream.ingest.pages import Pages
    from stream.ingest.publishing.sink import Sink
    from stream.ingest.source import Source

    source = Source(common.adapter)
    topics = Topics.of(common.prefix)
    async with AsyncExitStack() as stack:
        tracer = None
        if common.traces.share:
            from stream.tracing.opening import request_tracer

            tracer, close = request_tracer(common.traces, SERVICE)
            stack.callback(close)
        sink = Sink(common.bootstrap, topics, common.adapter, security=common.security, tracer=tracer)
        if door is not None:
            at = await stack.enter_async_context(serving(door, secret, Pages(sink, source).pages()))
            log.info("metrics at http://%s/metrics", at)
        await stack.enter_async_context(sink)
        log.info("%s: to %s at Kafka %s", common.adapter, topics.pings, common.bootstrap)
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
    """Logs a line every ten seconds in which something came."""
    before, pings = "", 0
    while True:
        await asyncio.sleep(REPORT_S)
        taken = sink.taken
        if (now := taken.in_words()) != before:
            log.info("%.1f pings/s; so far %s", (taken.pings - pings) / REPORT_S, now)
        before, pings = now, taken.pings


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
