"""Keeps Redis GEO sets of where everything is and will be, for GEOSEARCH and GEOPOS.

    KEY:now       GEO set      entity -> its newest position
    KEY:next      GEO set      entity -> where its next ping is expected
    KEY:60s ...   GEO set      entity -> where it will be 60 s after its newest ping; one set for each horizon
    KEY:ts        sorted set   entity -> time of its newest ping, ms UTC
    KEY:heard     sorted set   entity -> when its newest forecast was published, ms UTC
    KEY:places    set          the names of the GEO sets: now, next, 60s ...

An older forecast never replaces a newer one: a script compares times and writes all sets of an entity in one step. An
entity of which nothing was published for the time of expiry is removed from all of them; and if nobody writes any more,
all keys expire after that time. Redis places nothing beyond 85.05 degrees of latitude; such a place is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from redis.exceptions import ConnectionError as RedisAway
from redis.exceptions import TimeoutError as RedisSilent

from stream.client.reader import Received
from stream.config import failpoints
from stream.config.security import RedisSecurity, shown
from stream.store.redis_client import client, wait_for_answer
from stream.wire import Forecast
from stream.wire.positions import next_place

NOW: Final = "now"  # the anchor's place
NEXT: Final = "next"  # where the next ping is expected


class NewestForecast(NamedTuple):
    """The newest forecast of an entity, and when it was last heard of."""

    forecast: Forecast
    heard_ms: int  # the latest publication among its forecasts: a recording that is fed again is heard now


def newest_of(received: Iterable[Received[Forecast]]) -> dict[str, NewestForecast]:
    """Returns the newest forecasts by entity: of two, the one with the later anchor, and at the same anchor the later
    record."""
    found: dict[str, NewestForecast] = {}
    for one in received:
        forecast, heard_ms = one.record, one.timestamp_ms
        if (known := found.get(forecast.entity_id)) is not None:
            heard_ms = max(heard_ms, known.heard_ms)
            if known.forecast.anchor.ts > forecast.anchor.ts:
                forecast = known.forecast
        found[forecast.entity_id] = NewestForecast(forecast, heard_ms)
    return found


def places_of(forecast: Forecast) -> dict[str, tuple[float, float]]:
    """Returns latitude and longitude (degrees) by name: `now`, `next`, and `60s` for a horizon of 60 s."""
    ahead = {f"{horizon.h_s:g}s": (horizon.lat, horizon.lon) for horizon in forecast.horizons}
    return {NOW: (forecast.anchor.lat, forecast.anchor.lon), NEXT: next_place(forecast)[1:], **ahead}


MAX_LAT: Final = 85.05112878  # of the Web Mercator square, by which Redis computes its hashes
CHUNK: Final = 500  # entities of one script: it holds Redis up for a millisecond or two
ANSWER_S: Final = 10.0

# KEYS: ts, heard, places, then a GEO set for each place.
# ARGV: expiry (ms), number of places, their names, then of each entity: id, ts, heard, and longitude and latitude of
# each place, which are empty where there is none.
WRITE: Final = """
local names = tonumber(ARGV[2])
local width, written = 3 + 2 * names, 0
for row = 3 + names, #ARGV, width do
  local id, ts = ARGV[row], ARGV[row + 1]
  local known = redis.call('ZSCORE', KEYS[1], id)
  redis.call('ZADD', KEYS[2], 'GT', ARGV[row + 2], id)
  if not known or tonumber(known) <= tonumber(ts) then
    redis.call('ZADD', KEYS[1], ts, id)
    for place = 1, names do
      local lon, lat = ARGV[row + 1 + 2 * place], ARGV[row + 2 + 2 * place]
      if lon == '' then
        redis.call('ZREM', KEYS[3 + place], id)
      else
        redis.call('GEOADD', KEYS[3 + place], lon, lat, id)
      end
    end
    written = written + 1
  end
end
for place = 1, names do
  redis.call('SADD', KEYS[3], ARGV[2 + place])
end
for key = 1, #KEYS do
  redis.call('PEXPIRE', KEYS[key], ARGV[1])
end
return written
"""
# KEYS: ts, heard, then the GEO sets. ARGV: the oldest time that is not silent, and how many at most.
FORGET: Final = """
local silent = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
for _, id in ipairs(silent) do
  for key = 1, #KEYS do
    redis.call('ZREM', KEYS[key], id)
  end
end
return #silent
"""


class RedisGeo:
    """The store of `pathcast export redis`. Redis 6.2 or newer, or Valkey."""

    away: tuple[type[Exception], ...] = (RedisAway, RedisSilent, OSError)

    def __init__(self, url: str, security: RedisSecurity, *, key: str, expire_s: int) -> None:
        """Raises ValueError if `url` and `security` contradict each other."""
        self.name = f"Redis at {shown(url)}"
        self._client = client(
            url, security, decode_responses=True, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S
        )
        self._key = key
        self._expire_s = expire_s

    async def open(self) -> None:
        await wait_for_answer(self._client)

    async def write(self, received: Sequence[Received[Forecast]]) -> int:
        newest = newest_of(received)
        names = list(dict.fromkeys([NOW, NEXT, *(name for one in newest.values() for name in places_of(one.forecast))]))
        keys = [self._key_of(name) for name in ("ts", "heard", "places", *names)]
        head = [self._expire_s * 1000, len(names), *names]
        written, rows = 0, iter(newest.items())
        while chunk := list(islice(rows, CHUNK)):
            values = [value for entity, one in chunk for value in _arguments_of(entity, one, names)]
            written += await self._script(WRITE, keys, [*head, *values])
            failpoints.reach("within_write")
        return written

    async def tidy(self, now_ms: int) -> int:
        names = await self._client.smembers(self._key_of("places"))
        keys = [self._key_of(name) for name in ("ts", "heard", *sorted(map(str, names)))]
        removed = 0
        while True:
            found = await self._script(FORGET, keys, [now_ms - self._expire_s * 1000, CHUNK])
            removed += found
            if found < CHUNK:
                return removed

    async def close(self) -> None:
        await self._client.aclose()

    async def _script(self, script: str, keys: Sequence[str], values: Sequence[Any]) -> int:
        return int(await self._client.eval(script, len(keys), *keys, *values))

    def _key_of(self, name: str) -> str:
        return f"{self._key}:{name}"


def _arguments_of(entity: str, one: NewestForecast, names: Sequence[str]) -> Iterator[Any]:
    places = places_of(one.forecast)
    yield from (entity, one.forecast.anchor.ts, one.heard_ms)
    for name in names:
        lat, lon = places.get(name, (90.0, 0.0))
        yield from (lon, lat) if abs(lat) <= MAX_LAT else ("", "")
