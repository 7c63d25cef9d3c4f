"""Objects of Tile38, for NEARBY, WITHIN and its geofences. It speaks Redis' protocol (RESP 2).

    KEY         id -> POINT lat lon, the newest position; fields ts (ms UTC)
    KEY:next    id -> where the next ping is expected; fields ts (ms UTC), sigma_m
    KEY:60s     id -> where it will be 60 s after its newest ping; one collection for each horizon; fields as of next

`ts` is the time of the place, `sigma_m` the root mean square of its standard deviations to the east and to the north.
Each object expires when nothing was published of its entity for the time of expiry. An older forecast does not replace
a newer one: the field `ts` that is there is read first. Tile38 compares nothing by itself, so an entity's forecasts
should be written by one sink at a time, as those of one group are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisAway
from redis.exceptions import TimeoutError as RedisSilent

from stream.client.reader import Received
from stream.client.sinks.newest import NEXT, NOW, Newest, newest_of, places_of, span
from stream.config import failpoints
from stream.config.security import RedisSecurity, shown
from stream.store.redis_client import client, wait_for_answer
from stream.wire import Forecast
from stream.wire.positions import rms_sigma_m

CHUNK: Final = 500  # entities of one pipeline
ANSWER_S: Final = 10.0
Command = tuple[Any, ...]


class Tile38:
    """The store of `pathcast sink tile38`."""

    away: tuple[type[Exception], ...] = (RedisAway, RedisSilent, OSError)

    def __init__(self, url: str, security: RedisSecurity, *, key: str, expire_s: int) -> None:
        """Raises ValueError if `url` and `security` contradict each other."""
        self.name = f"Tile38 at {shown(url)}"
        # It does not speak RESP 3, with which redis-py would begin.
        self._client = client(
            url, security, decode_responses=True, protocol=2, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S
        )
        self._key = key
        self._expire_s = expire_s

    async def open(self) -> None:
        await wait_for_answer(self._client, "Tile38", "--tile38")

    async def write(self, received: Sequence[Received[Forecast]]) -> int:
        written, rows = 0, iter(newest_of(received).items())
        while chunk := list(islice(rows, CHUNK)):
            there = await self._pipelined([("GET", self._key, entity, "WITHFIELDS", "POINT") for entity, _ in chunk])
            news = [
                one for (_, one), answer in zip(chunk, there, strict=True) if _ts_of(answer) <= one.forecast.anchor.ts
            ]
            now_ms = time.time_ns() // 1_000_000
            commands = [command for one in news for command in commands_of(one, self._key, self._left_s(one, now_ms))]
            await self._pipelined(commands)
            failpoints.reach("within_write")
            written += len(news)
        return written

    async def tidy(self, now_ms: int) -> int:
        return 0  # Tile38 removes what has expired by itself

    async def close(self) -> None:
        await self._client.aclose()

    def _left_s(self, one: Newest, now_ms: int) -> float:
        return self._expire_s - (now_ms - one.heard_ms) / 1000

    async def _pipelined(self, commands: Sequence[Command]) -> list[Any]:
        if not commands:
            return []
        async with self._client.pipeline(transaction=False) as pipe:  # it has no MULTI
            for command in commands:
                pipe.execute_command(*command)
            return await pipe.execute()


def commands_of(one: Newest, key: str, left_s: float) -> Iterator[Command]:
    """Yields a SET for each place of an entity that expires in `left_s` seconds, or a DEL if that is over."""
    forecast = one.forecast
    entity, anchor = forecast.entity_id, forecast.anchor
    fields: dict[str, tuple[int, float]] = {NOW: (anchor.ts, 0.0)}
    fields[NEXT] = (anchor.ts + round(1000 * forecast.next.dt_s), rms_sigma_m(forecast.next.cov_m2))
    for horizon in forecast.horizons:
        fields[span(horizon.h_s)] = (anchor.ts + round(1000 * horizon.h_s), rms_sigma_m(horizon.cov_m2))
    for name, (lat, lon) in places_of(forecast).items():
        collection = key if name == NOW else f"{key}:{name}"
        if left_s <= 0:
            yield "DEL", collection, entity
            continue
        ts, sigma_m = fields[name]
        spread = ("FIELD", "sigma_m", f"{sigma_m:.2f}") if name != NOW else ()
        yield ("SET", collection, entity, "FIELD", "ts", ts, *spread, "EX", f"{left_s:.3f}", "POINT", lat, lon)


def _ts_of(answer: Any) -> float:
    """Returns the field `ts` of an answer to GET ... WITHFIELDS, minus infinity if there is none."""
    if not isinstance(answer, list) or len(answer) < 2:
        return -math.inf
    fields = answer[1]
    return float(dict(zip(fields[::2], fields[1::2], strict=True)).get("ts", -math.inf))
