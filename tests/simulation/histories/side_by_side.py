"""Lets a real Redis and the model tell the same history, and refuses the first difference."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from modelled_redis import RedisServer
from redis.asyncio import Redis
from redis_edge import modelled
from redis_histories import Told

NOWHERE: Final = "redis://127.0.0.1:1/0"  # where nobody listens: who comes there has no model
Tell = Callable[[str, Redis], Awaitable[list[Told]]]


@asynccontextmanager
async def a_model(server: RedisServer | None = None) -> AsyncIterator[Redis]:
    with modelled(server or RedisServer(time.time)):
        async with Redis.from_url(NOWHERE) as redis:
            yield redis


async def by_real(url: str, tell: Tell) -> list[Told]:
    async with Redis.from_url(url) as redis:
        await redis.flushall()
        await redis.script_flush()
        return await tell(url, redis)


async def by_model(tell: Tell, server: RedisServer | None = None) -> list[Told]:
    async with a_model(server) as redis:
        return await tell(NOWHERE, redis)


def refuse_difference(seed: object, real: list[Told], model: list[Told]) -> None:
    assert len(real) == len(model) > 0
    for number, ((step, wanted), (_, got)) in enumerate(zip(real, model, strict=True)):
        assert got == wanted, f"history {seed}, step {number}: {step!r} by the model, and by Redis"
