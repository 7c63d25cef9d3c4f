"""Runs `pathcast up`: starts servers, topics and parts; at a signal stops workers, then the rest, then servers.

SIGINT, SIGTERM -> all stop in that order; nothing is left
kill -9 of us   -> each process notices by itself that we are gone, and ends
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from stream.config.home import BOOTSTRAP, REDIS, Home, note_servers
from stream.config.security import PLAIN_KAFKA, PLAIN_REDIS, KafkaSecurity, RedisSecurity
from stream.config.settings import Settings
from stream.kafka import admin
from stream.processes import logs
from stream.processes.child import Process
from stream.processes.keeper import Keeper, stop_all
from stream.up import ports, servers
from stream.up.parts import Part, environment, start
from stream.up.screen import Screen, is_shown
from stream.up.servers import EmbeddedServer
from stream.worker import startup

START_S: Final = 30.0  # for embedded servers, which answer in under a second on an idle machine
SHOW_S: Final = 2.0  # between two tables
LONGEST_DELAY_S: Final = 60.0  # before a part that ends again and again is started
LOOK_S: Final = 0.05  # between two tries of a server that starts


@dataclass(frozen=True)
class UpOptions:
    """The parts that run, and their servers."""

    home: Home
    parts: Sequence[Part]
    prefix: str
    bootstrap: str | None = None  # None: an embedded broker
    redis_url: str | None = None  # None: an embedded store
    partitions: int | None = None  # of new topics
    kafka: KafkaSecurity = PLAIN_KAFKA
    redis: RedisSecurity = PLAIN_REDIS


async def run(options: UpOptions, screen: Screen, lock: int) -> None:
    """Runs everything until SIGINT or SIGTERM. No process is left when it returns or raises.

    `lock` is the open file that children hold, too.

    Raises:
        ConnectionError, Refused: a server that was given does not answer, or refuses us.
        RuntimeError: an embedded server does not start, or a part did not stop well.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    supervisor = Supervisor(options, screen, lock)
    watching = asyncio.create_task(supervisor.watch())
    try:
        begun = asyncio.create_task(supervisor.begin())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((begun, stopped), return_when=asyncio.FIRST_COMPLETED)
        if begun.done():
            begun.result()  # raises what it raised
            await stopped
        else:
            begun.cancel()
            with suppress(asyncio.CancelledError):
                await begun
        screen.say("", "stopping: workers finish their batches, then all else, then the servers")
    finally:
        await supervisor.stop()
        watching.cancel()
    if bad := [keeper.status.name for keeper in supervisor.keepers if keeper.fault]:
        raise RuntimeError(f"all parts were stopped, but {', '.join(bad)} did not end well")


class Supervisor:
    """All that runs: servers, workers, and the rest, each kept by a keeper."""

    def __init__(self, options: UpOptions, screen: Screen, lock: int) -> None:
        self._options, self._screen, self._lock = options, screen, lock
        self._servers: list[Keeper] = []
        self._workers: list[Keeper] = []
        self._rest: list[Keeper] = []
        self._announcing: list[asyncio.Task[None]] = []

    @property
    def keepers(self) -> list[Keeper]:
        return [*self._servers, *self._workers, *self._rest]

    async def begin(self) -> None:
        """Starts everything, the servers first. Raises as `run`."""
        options = self._options
        bootstrap, url = options.bootstrap, options.redis_url
        if bootstrap is None:
            bootstrap = (await self._serve(servers.kafka(), servers.KAFKA_PORT)).address
        if url is None:
            url = f"redis://{(await self._serve(servers.redis(), servers.REDIS_PORT)).address}/0"
        settings = Settings(
            bootstrap=bootstrap,
            redis_url=url,
            prefix=options.prefix,
            atlases=options.home.atlases,
            kafka=options.kafka,
            redis=options.redis,
        )
        await startup.reach(settings, 0.0)
        await asyncio.to_thread(_provide, settings, options)
        env = environment(os.environ, bootstrap, url, options.prefix, options.kafka, options.redis)
        given = {BOOTSTRAP: options.bootstrap, REDIS: options.redis_url}
        note_servers(options.home, env, [name for name, value in given.items() if value is None])
        for part in options.parts:
            keeper = self._keeper(part.name, partial(self._child, part, env))
            (self._workers if part.answers_pings else self._rest).append(keeper)
            keeper.begin()
        self.announce_addresses()
        topics = settings.topics
        self._screen.say("", f"{len(options.parts)} parts are started; pings go to {topics.pings} at {bootstrap}")
        self._screen.say("", f"forecasts come on {topics.forecasts}; the logs are in {options.home.logs}")

    def announce_addresses(self) -> None:
        """Says of each part where it listens, once it does: serve compiles first."""
        self._announcing = [asyncio.create_task(self._announce(part)) for part in self._options.parts if part.listens]

    async def _announce(self, part: Part) -> None:
        assert part.listens is not None
        await ports.wait_until_open(part.listens)
        self._screen.say(part.name, f"listens at http://{part.listens}: {', '.join(part.paths)}")

    async def stop(self) -> None:
        for task in self._announcing:
            task.cancel()
        for group in (self._workers, self._rest, self._servers):
            await asyncio.to_thread(stop_all, group)

    async def watch(self) -> None:
        """Renews the table, and keeps the logs of servers small."""
        while True:
            self._screen.show([keeper.status for keeper in self.keepers])
            for keeper in self._servers:
                logs.bound(self._options.home.log(keeper.status.name))
            await asyncio.sleep(SHOW_S)

    def _keeper(self, name: str, start: Callable[[], Process]) -> Keeper:
        def say(level: int, line: str) -> None:
            self._screen.say(name, line)

        return Keeper(name, start, say, longest_s=LONGEST_DELAY_S, log=self._options.home.log(name))

    def _child(self, part: Part, env: Mapping[str, str]) -> Process:
        def show(line: str) -> None:
            if is_shown(line):
                self._screen.say(part.name, line)

        log = self._options.home.log(part.name)
        return start(part, env, show, log=log, held=[self._lock])

    async def _serve(self, server: EmbeddedServer, usual_port: int) -> EmbeddedServer:
        """Starts an embedded server, and waits until it answers. Raises RuntimeError if it does not."""
        keeper = self._keeper(server.name, server.starter(self._options.home, self._lock))
        self._servers.append(keeper)
        keeper.begin()
        try:
            async with asyncio.timeout(START_S):
                while True:
                    if await asyncio.to_thread(server.answers, server.port):
                        break
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            words = "; ".join(logs.tail(self._options.home.log(server.name))) or "it wrote nothing"
            raise RuntimeError(f"the embedded {server.name} does not answer at {server.address}: {words}") from None
        taken = "" if server.port == usual_port else f" ({usual_port} is taken)"
        self._screen.say(server.name, f"embedded, at {server.address}{taken}")
        return server


def _provide(settings: Settings, options: UpOptions) -> None:
    """Creates the topics that are absent, so that no part waits for another to do it."""
    numbers = {"partitions": options.partitions}
    if options.partitions is None and options.bootstrap is None:
        numbers = {"partitions": servers.PARTITIONS}
    with admin.connect(settings.bootstrap, settings.kafka, timeout_s=startup.CHECK_S) as client:
        admin.create_all(client, settings.topics, **numbers)
        if options.bootstrap is None:
            # Not the compacted ones: what they hold is what is known now.
            servers.forget_soon(client, [*settings.topics, settings.topics.scores, settings.topics.arrivals])
