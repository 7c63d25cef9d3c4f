"""Does what a Redis may refuse: commands, scripts that write at first or later, and calls of our store."""

from __future__ import annotations

from typing import Final

from redis.asyncio import Redis
from redis_histories import Step, Told, outcome
from store_histories import PARTITIONS

from stream.config.settings import Settings
from stream.store.redis_store import RedisStore

_WRITE_FIRST: Final = "redis.call('SET', KEYS[1], 'x') return redis.call('STRLEN', KEYS[1])"
_FREE_FIRST: Final = (
    "redis.call('UNLINK', KEYS[1]) redis.call('SET', KEYS[1], 'x') return redis.call('STRLEN', KEYS[1])"
)
_TRY: Final = "local reply = redis.pcall('HSET', KEYS[1], 'a', 'b') return type(reply) == 'table' and 'no' or reply"
PROBES: Final[list[Step]] = [
    ("PING",), ("GET", "s"), ("EXISTS", "s", "no"), ("STRLEN", "s"), ("TTL", "s"), ("HGETALL", "h"), ("TIME",),
    ("SET", "s", "1"), ("SETRANGE", "s", 0, "2"), ("PEXPIRE", "s", 900_000), ("HSET", "h", "a", "1"),
    ("HDEL", "h", "z"),
    ("HINCRBY", "h", "n", 1), ("RPUSH", "l", "a"), ("ZADD", "z", 1, "a"), ("ZREM", "z", "q"), ("UNLINK", "no"),
    ("EVAL", "return redis.call('GET', KEYS[1])", 1, "s"), ("EVAL", _WRITE_FIRST, 1, "s"),
    ("EVAL", _FREE_FIRST, 1, "s"),
    ("EVAL", _TRY, 1, "s"), ("EVAL", _TRY, 1, "new"), ("EVAL_RO", "return redis.call('TIME')[2] and 1", 0),
    ("EVAL_RO", _WRITE_FIRST, 1, "s"), ("EVALSHA", "0" * 40, 0), ("SCRIPT", "EXISTS", "0" * 40), ("SELECT", 0),
    ("GET", "s"), ("HGETALL", "h"), ("LLEN", "l"), ("ZRANGE", "z", 0, -1), ("NOSUCH",), ("GET",), ("DBSIZE",),
]  # fmt: skip


async def prepare(redis: Redis) -> None:
    """Writes what the probes find."""
    await redis.flushall()
    for command in (("SET", "s", "abc"), ("HSET", "h", "a", "0"), ("RPUSH", "l", "x"), ("ZADD", "z", 1, "m")):
        await redis.execute_command(*command)


async def tell_probes(url: str, redis: Redis) -> list[Told]:
    """Does all that may be refused, and calls of our store."""
    found: list[Told] = []
    for step in PROBES:
        told = await outcome(redis.execute_command(*step))
        found.append((step, "a time" if step[0] == "TIME" and isinstance(told, tuple) else told))
    store, partition = RedisStore(Settings(redis_url=url, group="g", state_ttl_s=900)), PARTITIONS[0]
    for call in (
        store.claim(partition), store.put_many(partition, 1, 5, {"e": b"1"}), store.get_many(partition, ["e"]),
        store.list_evicted(partition), store.count(partition), store.peek(partition), store.unlist(partition, 1, ["e"]),
        store.remove(partition, 1, ["e"]), store.forget(partition, 1),
    ):  # fmt: skip
        name = call.__name__
        found.append((("store", name), await outcome(call)))
    await store.close()
    return found
