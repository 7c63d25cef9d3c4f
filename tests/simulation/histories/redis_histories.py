"""Makes histories of commands by seed, and tells what comes of them, of a real Redis or of the model. The seed alone
decides each step, before it is known what the server says.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream.store.days_store import DaysLost

Step = tuple[Any, ...]
Told = tuple[Step, Any]

ABOUT_MS: Final = 600_000  # times to live are compared in steps of this: the two servers are asked one after the other
NEVER_MS: Final = 4_102_444_800_000  # in 2100
_KEYS: Final = [b"k0", b"k1", b"k2", b"k3"]
_WORDS: Final = [b"", b"a", b"b", b"7", b"-3", b"07", b"1.5", b"9223372036854775807", b"long" * 30, b"\0\xff"]
_UNORDERED: Final = {"KEYS", "HKEYS", "SMEMBERS"}
_IN_SCRIPTS: Final = ["GET", "HGETALL", "LLEN", "ZCARD", "STRLEN", "DEL", "TYPE", "PERSIST"]
_LEFT: Final = {"TTL": 1_000, "PTTL": 1}

_SCRIPT: Final = """
local found = {}
for i = 1, #ARGV do
    local reply = redis.pcall(ARGV[i], KEYS[1], unpack(KEYS, 2))
    found[i] = type(reply) == 'table' and (reply.err and string.match(reply.err, '^%u+') or reply.ok or #reply) or reply
end
return found
"""


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
        "PEXPIREAT": lambda: [key(), chance.choice([1, NEVER_MS])], "PERSIST": lambda: [key()],
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
        "EVAL": lambda: [_SCRIPT, 1, key(), *chance.sample(_IN_SCRIPTS, 3)],
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
    return found + await tell_state(redis)


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
    """Returns a reply without what servers may do differently: the order of what has none, and the very moment. Of what
    histories write, nothing expires within less than 15 minutes unless it is gone at once."""
    if name in _UNORDERED and isinstance(reply, list | set):
        return sorted(reply)
    if name in _LEFT and isinstance(reply, int) and reply > 0:
        return reply * _LEFT[name] // ABOUT_MS
    if name == "PEXPIRETIME" and isinstance(reply, int) and 0 < reply < NEVER_MS:
        return "soon"
    return reply


async def tell_state(redis: Redis) -> list[Told]:
    """Returns all that is stored, and about how long."""
    found: list[Told] = []
    for key in sorted(await redis.keys()):
        kind = (await redis.type(key)).decode()
        value = await redis.execute_command(*_READS[kind][:1], key, *_READS[kind][1:])
        value = sorted(value) if kind == "set" else value
        found.append((("stored", key), (kind, value, comparable("PTTL", await redis.pttl(key)))))
    return found


_READS: Final[dict[str, list[Any]]] = {
    "string": ["GET"],
    "hash": ["HGETALL"],
    "list": ["LRANGE", 0, -1],
    "set": ["SMEMBERS"],
    "zset": ["ZRANGE", 0, -1, "WITHSCORES"],
}
