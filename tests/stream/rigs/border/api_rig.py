"""The API in this process, over states in memory and forecasts that a test tells it of. Tests import this; it tests
nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import aiohttp
import msgspec
from engine_rig import SETTINGS, T0
from prometheus_client import generate_latest

from model.api import Predictor
from stream.api.answers.networks import Networks
from stream.api.answers.questions import Questions
from stream.api.answers.states import States
from stream.api.answers.tracks import Tracks
from stream.api.handlers import Handlers
from stream.api.http.application import Gate
from stream.api.http.server import Server
from stream.api.http.tickets import Tickets
from stream.api.live.newest import Newest, Published
from stream.api.metrics import Metrics
from stream.api.options import ServerOptions
from stream.api.trips.pages import Feeds
from stream.api.trips.table import TripTable
from stream.config.http_access import Address
from stream.http.access import Access
from stream.http.problems import PREFIX, Problem
from stream.store.base import Partition, Store
from stream.wire import Outgoing

SECRET: Final = "0123456789abcdef"
SERVER_ID: Final = "00c0ffee"
PINGS: Final = SETTINGS.topics.pings
NOW_MS: Final = T0 + 1_000_000
OPEN: Final = 1e9  # requests per second: no limit


class InMemory:
    """What `stream.api.answers.states` reads, from a store in memory."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.calls = 0

    async def get_many(self, partition: Partition, entity_ids: Sequence[str]) -> list[bytes | None]:
        self.calls += 1
        return await self.store.get_many(partition, entity_ids)

    async def homes(self, partitions: Sequence[Partition], entity_ids: Sequence[str]) -> list[Partition | None]:
        found: list[Partition | None] = []
        for one in entity_ids:
            homes = [home for home in partitions if (await self.store.get_many(home, [one]))[0] is not None]
            found.append(homes[0] if homes else None)
        return found


class Nobody(InMemory):
    """Redis is away."""

    async def get_many(self, partition: Partition, entity_ids: Sequence[str]) -> list[bytes | None]:
        raise ConnectionRefusedError("nobody listens")


def newest_of(answers: Iterable[Outgoing] = (), *, now_ms: int = NOW_MS, most: int = 1_000) -> Newest:
    """A table that has heard these forecasts."""
    newest = Newest(most, 3_600_000)
    publish(newest, answers, now_ms)
    return newest


def publish(newest: Newest, answers: Iterable[Outgoing], now_ms: int = NOW_MS) -> None:
    topic = SETTINGS.topics.forecasts
    newest.update(
        [Published(one.value, now_ms) for one in answers if one.topic == topic and one.value is not None], now_ms
    )


def questions_of(
    reader: InMemory,
    network: Predictor,
    *,
    networks: Networks | None = None,
    atlases: Any = None,
    newest: Newest | None = None,
    stale_ms: float = 3_600_000.0,
    now_ms: int = NOW_MS,
    partitions: int = 1,
) -> Questions:
    """An asker; `atlases` is an Atlases or what has its method `of`."""
    known = newest or newest_of()
    return Questions(
        States(reader, PINGS, lambda: partitions, known.partition),
        networks or Networks(network, None),
        atlases,
        is_heard=lambda entity_id: known.row(entity_id) is not None,
        stale_ms=stale_ms,
        clock_ms=lambda: now_ms,
    )


@asynccontextmanager
async def running(asker: Questions) -> AsyncIterator[Questions]:
    task = asyncio.create_task(asker.run())
    try:
        yield asker
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        asker.thread.shutdown()


class Served:
    """A server, and a client of it."""

    def __init__(
        self, base: str, client: aiohttp.ClientSession, gate: Gate, server: Server, asker: Questions, newest: Newest
    ) -> None:
        self.base, self.client = base, client
        self.gate, self.server, self.questions, self.newest = gate, server, asker, newest

    def metrics(self) -> bytes:
        return generate_latest(self.server.registry)

    async def get(self, path: str, **more: Any) -> tuple[int, Any]:
        async with self.client.get(self.base + path, **more) as said:
            return said.status, await said.json(content_type=None)

    async def post(self, path: str, body: Any, **more: Any) -> tuple[int, Any]:
        async with self.client.post(self.base + path, json=body, **more) as said:
            return said.status, await said.json(content_type=None)


@asynccontextmanager
async def served(
    asker: Questions,
    tracks: Predictor,
    newest: Newest,
    *,
    token: str | None = None,
    origins: Sequence[str] = (),
    rate_per_s: float = OPEN,
    burst: float = OPEN,
    behind_proxy: bool = False,
    most_streams: int = 8,
    most_connections: int = 64,
    why: Sequence[str] = (),
    trips: TripTable | None = None,
) -> AsyncIterator[Served]:
    async def reasons() -> Sequence[str]:
        return why

    filler, at = Tracks(tracks), Address("127.0.0.1", 0)
    server = Server(ServerOptions(at, rate_per_s, burst, behind_proxy, most_connections, most_streams))
    server.id = SERVER_ID
    gate = server.gate(access=Access(token, origins), metrics=Metrics(server.registry), tickets=Tickets())
    feeds = Feeds(TripTable() if trips is None else trips)
    server.add(Handlers(asker, filler, newest, server, gate, feeds).pages, reasons)
    address = await server.start()
    try:
        async with running(asker), aiohttp.ClientSession() as client:
            yield Served(f"http://{address}", client, gate, server, asker, newest)
            await server.streams.close()
    finally:
        await server.stop()
        filler.close()


def kind(said: Any) -> str:
    """What a problem is, after the prefix of its type."""
    problem = msgspec.convert(said, Problem)
    assert problem.type.startswith(PREFIX)
    return problem.type.removeprefix(PREFIX)
