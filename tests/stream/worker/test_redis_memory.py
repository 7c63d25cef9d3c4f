"""A worker says at its start that its Redis would evict states. Against a real server."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from redis import Redis

from stream.config.security import PLAIN_REDIS, RedisSecurity
from stream.worker.startup import check_redis


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """Its settings are as before afterwards."""
    with Redis.from_url(redis_url) as client:
        before = client.config_get("maxmemory*")
        yield client
        for name in ("maxmemory", "maxmemory-policy"):
            client.config_set(name, before[name])


@pytest.mark.parametrize("policy", ["volatile-lru", "allkeys-lfu"])
def test_a_policy_that_evicts_is_named_with_what_to_set(
    redis: Redis, redis_url: str, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    redis.config_set("maxmemory-policy", policy)
    redis.config_set("maxmemory", "100000000")
    check_redis(redis_url, PLAIN_REDIS)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert policy in line
    assert "100 MB" in line
    assert line.endswith("set maxmemory-policy noeviction")


@pytest.mark.parametrize(("limit", "policy"), [("0", "volatile-lru"), ("100000000", "noeviction")])
def test_a_redis_that_keeps_what_it_has_is_not_spoken_of(
    redis: Redis, redis_url: str, caplog: pytest.LogCaptureFixture, limit: str, policy: str
) -> None:
    redis.config_set("maxmemory-policy", policy)
    redis.config_set("maxmemory", limit)
    check_redis(redis_url, PLAIN_REDIS)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_user_that_may_not_ask_hears_nothing(redis: Redis, redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    redis.config_set("maxmemory-policy", "volatile-lru")
    redis.config_set("maxmemory", "100000000")
    redis.execute_command("ACL", "SETUSER", "least", "on", ">secret", "-@all", "+ping")  # type: ignore[no-untyped-call]
    try:
        check_redis(redis_url.replace("redis://", "redis://least@"), RedisSecurity(password="secret"))
    finally:
        redis.execute_command("ACL", "DELUSER", "least")  # type: ignore[no-untyped-call]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
