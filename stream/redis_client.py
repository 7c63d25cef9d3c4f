"""redis-py's client, which tells a server that says no from one that is away. Knows no key and no command."""

from __future__ import annotations

from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream.connect import RedisSecurity, redis_refusal


class Client(Redis):
    """Raises `connect.Refused`, which is no RedisError, where nobody should wait: see `redis_refusal`."""

    url = ""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except RedisError as error:
            if (refusal := redis_refusal(self.url, error)) is not None:
                raise refusal from error
            raise


def client(url: str, security: RedisSecurity, **options: Any) -> Client:
    """Not connected yet. Raises ValueError if `url` and `security` do not go together."""
    made = cast(Client, Client.from_url(url, **security.arguments(url), **options))
    made.url = url
    return made
