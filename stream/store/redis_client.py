"""The client of redis-py, which distinguishes a server that refuses from one that cannot be reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from stream.config.security import RedisSecurity, redis_refusal, shown


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
