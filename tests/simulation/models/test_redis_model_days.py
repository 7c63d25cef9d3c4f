"""The suite of our store of days, with the model as the server: what it wants of Redis, the model does, too."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator

import pytest
from borrowed_suites import borrow_tests
from modelled_redis import RedisServer
from redis.asyncio import Redis
from redis_edge import modelled

from stream.store.days_store import DaysStore

globals().update(borrow_tests("stream/store/test_days_store.py"))


@pytest.fixture
def redis_url() -> Iterator[str]:
    with modelled(RedisServer(time.time)):
        yield "redis://127.0.0.1:1/0"  # where nobody listens


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[DaysStore]:
    made = DaysStore(redis_url, "g", 60)
    yield made
    await made.close()
