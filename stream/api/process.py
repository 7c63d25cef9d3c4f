"""Runs `pathcast serve` and `pathcast map`: one process with one listening address and one reader of topics.

reach servers, load what answers need -> follow topics -> listen -> ... a signal -> end the streams -> stop
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

from aiokafka.errors import KafkaError

from stream.api.http.server import Server
from stream.api.live.topics import POLL_RECORDS, Source, TopicFollower
from stream.api.options import ServeOptions
from stream.api.trips.table import TripTable
from stream.config.http_access import MAP_TOKEN, SERVE_TOKEN
from stream.config.security import kafka_refusal
from stream.kafka.reading import reader
from stream.versions.announcement_reader import AnnouncementReader

log = logging.getLogger(__name__)

ISOLATION: Final = "read_committed"  # forecasts of an aborted transaction never were any


async def serve(how: ServeOptions, stopped_by: Sequence[int]) -> None:
    """Serves until one of these signals comes.

    Raises ConnectionError if Redis or Kafka does not answer, ValueError if a topic is missing or a setting is wrong,
    WeightsError, Refused, OSError if the address cannot be used, ModuleNotFoundError for traces without the extra
    `otel`.
    """
    settings = how.settings
    _warn(how)
    stopping = asyncio.Event()
    for number in stopped_by:
        signal.signal(number, signal.SIG_DFL)  # nothing is held yet, and a thread that compiles cannot be stopped
    async with AsyncExitStack() as stack:
        loaded = kind = None
        if how.api is not None:
            from stream.api import service  # here, as a map alone loads no model

            loaded = await service.load(stack, settings, how.api)
        if how.map is not None:
            from stream.api.map import service as map_service

            kind = await asyncio.to_thread(map_service.find_kind, settings, how.map)
        for number in stopped_by:
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        try:
            servers, access = settings.bootstrap.split(","), settings.kafka.arguments()
            consumer = await stack.enter_async_context(reader(servers, access, ISOLATION))
            announcements = None
            if settings.atlases is not None:
                opened = AnnouncementReader.open(settings.bootstrap, settings.topics, settings.kafka)
                announcements = await stack.enter_async_context(opened)
            refusal = partial(kafka_refusal, settings.bootstrap, settings.kafka)
            most = POLL_RECORDS if how.map is None else map_service.POLL_RECORDS
            server, following = Server(how.server), TopicFollower(consumer, refusal, most)
            trips = TripTable()  # one for both, as they follow the same topic
            following.add([Source(settings.topics.trips, trips.take, None)], lambda _: None)
            tasks, details = [following.run()], [f"as process {os.getpid()}"]
            if how.api is not None and loaded is not None:
                api = service.Api(how.api, settings, loaded, server, following, announcements, trips)
                stack.push_async_callback(api.close)
                tasks += api.tasks()
                details.append(f"weights {loaded.networks[0].version}")
            if how.map is not None and kind is not None:
                asker = await stack.enter_async_context(reader(servers, access, ISOLATION))
                live_map = map_service.LiveMap(how.map, settings, kind, server, following, asker, announcements, trips)
                tasks += live_map.tasks()
                details.append(f"the map from the {kind} topic")
            stack.push_async_callback(server.stop)
            address = await server.start()
            log.info("listening at http://%s, %s", address, ", ".join(details))
            await run_all(tasks, stopping)
        except KafkaError as error:
            refused = kafka_refusal(settings.bootstrap, settings.kafka, error)
            raise refused or ConnectionError(f"Kafka at {settings.bootstrap} failed: {error!r}") from error


def _warn(how: ServeOptions) -> None:
    address = how.server.address
    if address.loopback:
        return
    if how.api is not None and how.api.token is None:
        log.warning("anybody who reaches %s may ask where everybody is: %s is not set", address, SERVE_TOKEN)
    if how.map is not None and how.map.token is None:
        log.warning("anybody who reaches %s may see where everybody is: %s is not set", address, MAP_TOKEN)


async def run_all(tasks: Iterable[Coroutine[Any, Any, None]], stopping: asyncio.Event) -> None:
    """Runs all of these until `stopping` is set, and cancels them then. Raises what ends one: none should end."""
    running = [asyncio.create_task(one) for one in tasks]
    waiting = asyncio.create_task(stopping.wait())
    try:
        done, _ = await asyncio.wait([*running, waiting], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (*running, waiting):
            task.cancel()
        await asyncio.gather(*running, waiting, return_exceptions=True)
