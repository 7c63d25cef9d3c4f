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


@pytest.mark.parametrize(
    ("limit", "policy", "evicts"),
    [
        ("100000000", "volatile-lru", True),
        ("100000000", "allkeys-lfu", True),
        ("0", "volatile-lru", False),
        ("100000000", "noeviction", False),
    ],
)
def test_a_policy_that_evicts_is_named_with_what_to_set_and_no_other(
    redis: Redis, redis_url: str, caplog: pytest.LogCaptureFixture, limit: str, policy: str, evicts: bool
) -> None:
    redis.config_set("maxmemory-policy", policy)
    redis.config_set("maxmemory", limit)
    check_redis(redis_url, PLAIN_REDIS)
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == evicts
    for line in lines:
        assert policy in line
        assert "100 MB" in line
        assert line.endswith("set maxmemory-policy noeviction")


def test_a_user_that_may_not_ask_hears_nothing(redis: Redis, redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    redis.config_set("maxmemory-policy", "volatile-lru")
    redis.config_set("maxmemory", "100000000")
    redis.execute_command("ACL", "SETUSER", "least", "on", ">secret", "-@all", "+ping")  # type: ignore[no-untyped-call]
    try:
        check_redis(redis_url.replace("redis://", "redis://least@"), RedisSecurity(password="secret"))
    finally:
        redis.execute_command("ACL", "DELUSER", "least")  # type: ignore[no-untyped-call]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
