"""Histories of commands and of calls of our stores, by seed, and what comes of them: the same of a real Redis and of the
model. Each step is decided by the seed alone, before it is known what the server says.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream.config.settings import Settings
from stream.store.base import MAX_RECORD_BYTES, Item, Patch
from stream.store.days_store import DayPart, DaysLost, DaysStore, Held
from stream.store.redis_store import RedisStore

Step = tuple[Any, ...]
Told = tuple[Step, Any]

PARTITIONS: Final = [("pings", 0), ("pings", 1)]
ABOUT_MS: Final = 30_000  # how far times of two servers are apart, that were asked one after the other
_KEYS: Final = [b"k0", b"k1", b"k2", b"k3"]
_WORDS: Final = [b"", b"a", b"b", b"7", b"-3", b"07", b"1.5", b"9223372036854775807", b"long" * 30, b"\0\xff"]
_UNORDERED: Final = {"KEYS", "HKEYS", "SMEMBERS"}
_TIMES: Final = {"TTL", "PTTL", "PEXPIRETIME"}

_SCRIPT: Final = """
local found = {}
for i = 1, #ARGV do
    local reply = redis.pcall(ARGV[i], KEYS[1], unpack(KEYS, 2))
    found[i] = type(reply) == 'table' and (reply.err and string.match(reply.err, '^%u+') or reply.ok or #reply) or reply
end
return found
"""


# -- commands -----------------------------------------------------------------------------------------------------------


def commands(seed: int, length: int) -> list[Step]:
    """Returns commands on a few keys that are of any type, right and wrong ones."""
    chance = random.Random(seed)
    return [_command(chance) for _ in range(length)]


def _command(chance: random.Random) -> Step:
    key = lambda: chance.choice(_KEYS)  # noqa: E731
    word = lambda: chance.choice(_WORDS)  # noqa: E731
    rank = lambda: chance.randint(-4, 4)  # noqa: E731
    score = lambda: chance.choice([-1, 0, 0.5, 1, 2, 1e3, "inf", "-inf", "x"])  # noqa: E731
    bound = lambda: chance.choice(["-inf", "+inf", "0", "(0", "1", "(1", "2", "(", "y"])  # noqa: E731
    makers: dict[str, Callable[[], Sequence[Any]]] = {
        "GET": lambda: [key()], "MGET": lambda: [key(), key()], "STRLEN": lambda: [key()],
        "SET": lambda: [key(), word(), *chance.choice(
            [[], [], ["PX", 900_000], ["EX", 900], ["PX", 0], ["EX", "x"], ["KEEPTTL"], ["NX"], ["XX"], ["PX"]])],
        "SETRANGE": lambda: [key(), chance.choice([0, 1, 7, -1, 2**29, "x"]), word()],
        "GETRANGE": lambda: [key(), rank(), rank()], "APPEND": lambda: [key(), word()],
        "INCRBY": lambda: [key(), word()], "DEL": lambda: [key(), key()], "UNLINK": lambda: [key()],
        "EXISTS": lambda: [key(), key()], "TYPE": lambda: [key()],
        "PEXPIRE": lambda: [key(), chance.choice([900_000, 0, -5, "x"])], "EXPIRE": lambda: [key(), 900],
        "PEXPIREAT": lambda: [key(), chance.choice([1, 4_102_444_800_000])], "PERSIST": lambda: [key()],
        "PTTL": lambda: [key()], "TTL": lambda: [key()], "PEXPIRETIME": lambda: [key()], "DBSIZE": lambda: [],
        "KEYS": lambda: [chance.choice(["*", "k?", "k[12]", "k[^1]", "\\k1", "k", "[k-z]0"])],
        "HSET": lambda: [key(), word(), word(), *chance.choice([[], [], [word()], [word(), word()]])],
        "HGET": lambda: [key(), word()], "HMGET": lambda: [key(), word(), word()], "HGETALL": lambda: [key()],
        "HKEYS": lambda: [key()], "HLEN": lambda: [key()], "HEXISTS": lambda: [key(), word()],
        "HDEL": lambda: [key(), word(), word()], "HINCRBY": lambda: [key(), word(), chance.choice([1, -4, 2**62, "x"])],
        "RPUSH": lambda: [key(), word(), word()], "LLEN": lambda: [key()], "LRANGE": lambda: [key(), rank(), rank()],
        "SADD": lambda: [key(), word(), word()], "SREM": lambda: [key(), word()], "SMEMBERS": lambda: [key()],
        "ZADD": lambda: [key(), score(), word(), *chance.choice([[], [score(), word()], [score()]])],
        "ZREM": lambda: [key(), word(), word()], "ZSCORE": lambda: [key(), word()], "ZCARD": lambda: [key()],
        "ZCOUNT": lambda: [key(), bound(), bound()],
        "ZRANGE": lambda: [key(), rank(), rank(), *chance.choice([[], ["WITHSCORES"]])],
        "ZRANGEBYSCORE": lambda: [key(), bound(), bound(), *chance.choice(
            [[], ["WITHSCORES"], ["LIMIT", rank(), rank()]])],
        "ZREMRANGEBYRANK": lambda: [key(), rank(), rank()],
        "ZREMRANGEBYSCORE": lambda: [key(), bound(), bound()],
        "EVAL": lambda: [_SCRIPT, 1, key(), *chance.sample(["GET", "HGETALL", "LLEN", "ZCARD", "STRLEN", "DEL", "TYPE", "PERSIST"], 3)],
        "EVAL_RO": lambda: [_SCRIPT, 1, key(), *chance.sample(["GET", "HKEYS", "LLEN", "DEL", "HGETALL"], 3)],
        "EVALSHA": lambda: ["0" * 40, 0], "NOSUCH": lambda: [key()], "GETX": lambda: [],
        "STRLEN ": lambda: [],
    }  # fmt: skip
    if chance.random() < 0.03:
        return ("expires", key(), word())
    name = chance.choice(list(makers))
    return (name.strip(), *makers[name]())


async def tell_commands(redis: Redis, steps: Sequence[Step]) -> list[Told]:
    """Does the commands, and returns what came of each."""
    found = []
    for step in steps:
        if step[0] == "expires":
            await redis.set(step[1], step[2], px=1)
            await asyncio.sleep(0.01)
            found.append((step, await redis.get(step[1])))
        else:
            found.append((step, comparable(step[0], await outcome(redis.execute_command(*step)))))
    return found


async def outcome(work: Awaitable[Any]) -> Any:
    """Returns what came of a call: its result, or the name of its error and the code that Redis gave it."""
    try:
        return await work
    except RedisError as error:
        return type(error).__name__, _code(error)
    except (DaysLost, RuntimeError, OSError, ValueError) as error:
        return type(error).__name__, str(error)


def _code(error: RedisError) -> str:
    """redis-py takes the codes that it knows out of the text."""
    known = getattr(error, "status_code", None)
    first = str(error).partition(" ")[0]
    return str(known) if known else first if first.isupper() else ""


def comparable(name: str, reply: Any) -> Any:
    """Returns a reply without what servers may do differently: the order of what has none, and the very moment."""
    if name in _UNORDERED and isinstance(reply, list | set):
        return sorted(reply)
    if name in _TIMES and isinstance(reply, int) and reply > ABOUT_MS:
        return reply // ABOUT_MS // 20
    return reply


# -- our stores -----------------------------------------------------------------------------------------------------------


def store_calls(seed: int, length: int) -> list[Step]:
    """Returns calls of two owners, and what happens behind their backs."""
    chance = random.Random(seed)
    names = [f"e{n}" for n in range(8)] + ["ß*", "", "a b"]
    some = lambda: chance.sample(names, chance.randint(0, 5))  # noqa: E731
    size = lambda: chance.choice([0, 1, 10, 10, 10, 5_000])  # noqa: E731

    def item() -> Item:
        if chance.random() < 0.5:
            return chance.randbytes(size())
        least = chance.choice([0, 1, 10, 10])
        ranges = ((chance.randrange(12), chance.randbytes(chance.randint(0, 3))) for _ in range(chance.randint(0, 2)))
        return Patch(least, tuple(ranges))

    makers: dict[str, Callable[[], Sequence[Any]]] = {
        "claim": lambda: [chance.choice([0, 0, 3, 40])],
        "put_many": lambda: [chance.choice([None, chance.randrange(2**55)]), {name: item() for name in some()}],
        "get_many": lambda: [some()],
        "list_evicted": lambda: [chance.choice([None, some()])],
        "unlist": lambda: [some(), chance.choice([None, chance.randrange(99)])],
        "remove": lambda: [some()],
        "count": lambda: [],
        "forget": lambda: [],
        "peek": lambda: [],
        "entity_ids": lambda: [],
        "homes": lambda: [some()],
        "behind": lambda: chance.choice([
            ["UNLINK", f"e:{chance.choice(names)}"], ["UNLINK", f"e:{chance.choice(names)}"], ["UNLINK", "index"],
            ["UNLINK", "meta"], ["FLUSHALL"], ["SCRIPT", "FLUSH"], ["RPUSH", f"e:{chance.choice(names)}", "x"],
            ["HSET", "meta", "next_offset", chance.choice([b"seven", b"-1", b"12"])], ["HSET", "meta", "writes", "1"],
            ["HSET", "meta", "epoch", chance.choice(["3", "x"])], ["SET", "index", "no index"], ["SET", "meta", "no hash"],
            ["SETRANGE", f"e:{chance.choice(names)}", MAX_RECORD_BYTES, "x"],
            ["ZADD", "index", chance.choice([1, 4_102_444_800_000]), chance.choice(names)],
            ["PEXPIREAT", f"e:{chance.choice(names)}", 1], ["PTTL", f"e:{chance.choice(names)}"],
            ["ZRANGE", "index", 0, -1], ["HGETALL", "meta"],
        ]),
        "copy": lambda: [],
        "restore": lambda: [],
    }  # fmt: skip
    often = ["claim", "put_many", "put_many", "put_many", "get_many", "get_many", "behind", "list_evicted"]
    found = []
    for _ in range(length):
        name = chance.choice([*often, *makers])
        if chance.random() < 0.3 and name == "forget":
            name = "count"
        found.append((name, chance.randrange(2), chance.choice([0, 0, 1]), *makers[name]()))
    return found


async def tell_store_calls(url: str, redis: Redis, steps: Sequence[Step]) -> list[Told]:
    """Does the calls with two owners, and returns what came of each."""
    owners = [RedisStore(Settings(redis_url=url, group="g", state_ttl_s=900)) for _ in range(2)]
    epochs: dict[tuple[int, int], int] = {}
    copy: dict[bytes, tuple[bytes, int]] = {}
    found: list[Told] = []
    for step in steps:
        name, who, where, *rest = step
        store, partition, epoch = owners[who], PARTITIONS[where], epochs.get((who, where), 0)
        if name == "claim":
            result = await outcome(store.claim(partition, floor=rest[0]))
            if not isinstance(result[0], str):
                epochs[who, where] = result.epoch
        elif name == "put_many":
            result = await outcome(store.put_many(partition, epoch, *rest))
        elif name in ("unlist", "remove", "forget"):
            result = await outcome(getattr(store, name)(partition, epoch, *rest))
        elif name == "entity_ids":
            result = await outcome(_sorted(store, partition))
        elif name == "homes":
            result = await outcome(store.homes(PARTITIONS, *rest))
        elif name == "behind":
            result = comparable(rest[0], await outcome(redis.execute_command(*_of_partition(partition, rest))))
            if rest[0] == "ZRANGE" and isinstance(result, list):
                result = sorted(result)  # a step of the index may end between the two servers
        elif name == "copy":
            copy = {key: (await redis.dump(key), max(0, await redis.pttl(key))) for key in sorted(await redis.keys())}
            result = sorted(copy)
        elif name == "restore":
            await redis.flushall()
            for key, (dumped, left_ms) in copy.items():
                await redis.restore(key, left_ms, dumped)
            result = sorted(await redis.keys())
        else:
            result = await outcome(getattr(store, name)(partition, *rest))
            if name == "list_evicted" and isinstance(result, list):
                result = sorted(result)
        found.append((step, result))
    for store in owners:
        await store.close()
    return found


async def _sorted(store: RedisStore, partition: tuple[str, int]) -> list[str]:
    return sorted([one async for one in store.entity_ids(partition)])


def _of_partition(partition: tuple[str, int], command: Sequence[Any]) -> list[Any]:
    """Returns a command whose key is named by its end, with the whole key."""
    if command[0] in ("FLUSHALL", "SCRIPT"):
        return list(command)
    return [command[0], f"pathcast:{{g|{partition[0]}|{partition[1]}}}:{command[1]}", *command[2:]]


def days_calls(seed: int, length: int) -> list[Step]:
    """Returns calls of two owners of days, and what happens behind their backs."""
    chance = random.Random(seed)
    keys = ["sums", "growth", "day:1", "day:2", "day:3"]

    def put() -> Sequence[Any]:
        days = chance.sample([1, 2, 3], chance.randint(0, 3))
        gone = [day for day in (1, 2, 3) if day not in days and chance.random() < 0.3]
        parts = {day: DayPart(chance.randbytes(5), chance.random() < 0.3) for day in days}
        return chance.randrange(2**55), chance.randbytes(4), parts, gone, chance.choice(["", "read=6"])

    makers: dict[str, Callable[[], Sequence[Any]]] = {
        "claim": lambda: [], "put": put, "forget": lambda: [], "discard": lambda: [], "read_held": lambda: [],
        "growth": lambda: [], "parts": lambda: [chance.randint(1, 3)], "snapshot": lambda: [],
        "behind": lambda: chance.choice([
            ["UNLINK", chance.choice(keys)], ["PTTL", chance.choice(keys)], ["SET", chance.choice(keys), "x"],
            ["HSET", "sums", "writes", "2"], ["FLUSHALL"], ["SCRIPT", "FLUSH"], ["LRANGE", "day:1", 0, -1],
        ]),
    }  # fmt: skip
    often = ["claim", "put", "put", "put", "put", "snapshot"]
    return [(name, chance.randrange(2), *makers[name]())
            for name in (chance.choice([*often, *makers]) for _ in range(length))]  # fmt: skip


async def tell_days_calls(url: str, redis: Redis, steps: Sequence[Step]) -> list[Told]:
    """Does the calls, and returns what came of each."""
    owners = [DaysStore(url, "g", 900) for _ in range(2)]
    holds = [Held(0, None, 0, {})] * 2
    partition = PARTITIONS[0]
    found: list[Told] = []
    for step in steps:
        name, who, *rest = step
        store = owners[who]
        if name == "behind":
            result = comparable(rest[0], await outcome(redis.execute_command(*_of_partition(partition, rest))))
        elif name in ("put", "forget"):
            result = await outcome(getattr(store, name)(partition, holds[who], *rest))
        elif name == "snapshot":
            result = await outcome(store.snapshot(partition, bytes))
        else:
            result = await outcome(getattr(store, name)(partition, *rest))
        if name == "claim" and isinstance(result[0], Held):
            holds[who] = result[0]
        elif isinstance(result, Held):
            holds[who] = result
        found.append((step, result))
    for store in owners:
        await store.close()
    return found


# -- what is refused ------------------------------------------------------------------------------------------------------

_WRITE_FIRST: Final = "redis.call('SET', KEYS[1], 'x') return redis.call('STRLEN', KEYS[1])"
_FREE_FIRST: Final = (
    "redis.call('UNLINK', KEYS[1]) redis.call('SET', KEYS[1], 'x') return redis.call('STRLEN', KEYS[1])"
)
_TRY: Final = "local reply = redis.pcall('HSET', KEYS[1], 'a', 'b') return type(reply) == 'table' and 'no' or reply"
PROBES: Final[list[Step]] = [
    ("PING",), ("GET", "s"), ("EXISTS", "s", "no"), ("STRLEN", "s"), ("TTL", "s"), ("HGETALL", "h"), ("TIME",),
    ("SET", "s", "1"), ("SETRANGE", "s", 0, "2"), ("PEXPIRE", "s", 900_000), ("HSET", "h", "a", "1"), ("HDEL", "h", "z"),
    ("HINCRBY", "h", "n", 1), ("RPUSH", "l", "a"), ("ZADD", "z", 1, "a"), ("ZREM", "z", "q"), ("UNLINK", "no"),
    ("EVAL", "return redis.call('GET', KEYS[1])", 1, "s"), ("EVAL", _WRITE_FIRST, 1, "s"), ("EVAL", _FREE_FIRST, 1, "s"),
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
        found.append((("store", call.__name__), await outcome(call)))
    await store.close()
    return found
