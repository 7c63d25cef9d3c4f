"""Makes clients of Redis, which distinguish a server that refuses from one that cannot be reached, and warns of a Redis
that would delete states when its memory is full."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import redis
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from stream.config.security import RedisSecurity, redis_refusal, shown

log = logging.getLogger(__name__)

KEEPS: Final = "noeviction"


class Client(Redis):
    """Raises `security.Refused`, which is no RedisError, where waiting does not help: see `redis_refusal`."""

    url = ""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        with _refusals(self.url):
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        made = _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        made.url = self.url
        return made


class _Pipeline(Pipeline):
    """Does the same for pipelines, which do not use `Client.execute_command`."""

    url = ""

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        with _refusals(self.url):
            return await super().execute(raise_on_error)


@contextmanager
def _refusals(url: str) -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        if (refusal := redis_refusal(url, error)) is not None:
            raise refusal from error
        raise


def client(url: str, security: RedisSecurity, **options: Any) -> Client:
    """Returns a client that is not connected yet. Raises ValueError if `url` and `security` contradict each other."""
    made = cast(Client, Client.from_url(url, **security.arguments(url), **options))
    made.url = url
    return made


async def wait_for_answer(made: Client) -> None:
    """Returns when the server has answered a PING.

    Raises ConnectionError if it does not answer, and Refused if it denies access.
    """
    try:
        await made.ping()
    except (RedisError, OSError) as error:
        raise redis_refusal(made.url, error) or ConnectionError(
            f"no Redis answers at {shown(made.url)} ({error}): is it running, and is --redis right?"
        ) from error


def warn_of_eviction(client: redis.Redis, url: str) -> None:
    """Logs a warning of one line if this Redis would evict states. Logs none if we may not ask (`+info`)."""
    try:
        memory: Any = client.info("memory")
    except RedisError as error:
        log.debug("whether Redis would evict states is unknown (%s)", error)
        return
    limit, policy = memory.get("maxmemory", 0), memory.get("maxmemory_policy", KEEPS)
    if limit and policy != KEEPS:
        log.warning(
            "Redis at %s evicts states when %.0f MB are full (maxmemory-policy %s): set maxmemory-policy noeviction",
            shown(url),
            limit / 1e6,
            policy,
        )
