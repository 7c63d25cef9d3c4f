"""The suite of our stores of states, with the model as the server: what they want of Redis, the model does, too."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator

import pytest
from borrowed_suites import borrow_tests
from modelled_redis import RedisServer
from redis.asyncio import Redis
from redis_edge import modelled

from stream.config.settings import Settings
from stream.store.redis_store import RedisStore

globals().update(borrow_tests("stream/store/test_redis_store.py"))


@pytest.fixture
def redis_url() -> Iterator[str]:
    with modelled(RedisServer(time.time)):
        yield "redis://127.0.0.1:1/0"  # where nobody listens


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def redis_store(redis_url: str) -> AsyncIterator[RedisStore]:
    made = RedisStore(Settings(redis_url=redis_url, group="g1", state_ttl_s=60))
    yield made
    await made.close()


@pytest.fixture
def store(redis_store: RedisStore) -> RedisStore:
    return redis_store
