"""Asks Redis about itself. It reads no key and writes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from redis import Redis, RedisError

from stream.config.security import RedisSecurity, redis_refusal, shown

T = TypeVar("T")
ROUND_TRIPS: Final = 9


@dataclass(frozen=True)
class Store:
    """What a Redis says. A field is None where our user may not ask."""

    round_trip_ms: float  # the shortest of ROUND_TRIPS
    ahead_ms: float | None  # of this machine's clock, to half a round trip
    info: Mapping[str, Any] | None  # INFO
    snapshots: str | None = field(default=None)  # the setting `save`; empty: none are made


def facts(url: str, security: RedisSecurity, timeout_s: float) -> Store:
    """Raises Refused if it denies access, ConnectionError if it does not answer, ValueError for a wrong URL."""
    access = security.arguments(url)
    try:
        with Redis.from_url(url, socket_connect_timeout=timeout_s, socket_timeout=timeout_s, **access) as client:
            client.ping()
            return Store(
                _round_trip_ms(client),
                _ask(lambda: _ahead_ms(client)),
                _ask(lambda: _info(client)),
                _ask(lambda: _snapshots(client)),
            )
    except (RedisError, OSError) as error:
        raise redis_refusal(url, error) or ConnectionError(f"no Redis answers at {shown(url)} ({error})") from error


def _ask(ask: Callable[[], T]) -> T | None:
    """Returns None for a command that our user may not give, or that this server has not."""
    from redis.exceptions import ResponseError

    try:
        return ask()
    except ResponseError:  # NoPermissionError is one
        return None


def _round_trip_ms(client: Any) -> float:
    times = []
    for _ in range(ROUND_TRIPS):
        began_s = time.perf_counter()
        client.ping()
        times.append(1000 * (time.perf_counter() - began_s))
    return min(times)  # the distance, without what this machine or Redis was doing besides


def _ahead_ms(client: Any) -> float:
    before_s = time.time()
    seconds, micros = map(int, client.time())
    return 1000 * (seconds + micros / 1e6 - (before_s + time.time()) / 2)


def _info(client: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = client.info()
    return found


def _snapshots(client: Any) -> str:
    return str(client.config_get("save").get("save", ""))
