"""redis-py's client, which tells a server that says no from one that is away. Knows no key and no command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from stream.config.security import RedisSecurity, redis_refusal


class Client(Redis):
    """Raises `connect.Refused`, which is no RedisError, where nobody should wait: see `redis_refusal`."""

    url = ""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        with _refusals(self.url):
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        made = _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        made.url = self.url
        return made


class _Pipeline(Pipeline):
    """The same for many commands at once, which `Client.execute_command` never sees."""

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
    """Not connected yet. Raises ValueError if `url` and `security` do not go together."""
    made = cast(Client, Client.from_url(url, **security.arguments(url), **options))
    made.url = url
    return made
