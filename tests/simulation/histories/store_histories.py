"""Makes histories of calls of our stores by seed, with two owners and what happens behind their backs, and tells what
comes of them, of a real Redis or of the model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis_histories import NEVER_MS, Step, Told, comparable, outcome, tell_state

from stream.config.settings import Settings
from stream.store.base import MAX_RECORD_BYTES, Item, Patch
from stream.store.days_store import DayPart, DaysStore, Held
from stream.store.redis_store import RedisStore

PARTITIONS: Final = [("pings", 0), ("pings", 1)]


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
            ["HSET", "meta", "epoch", chance.choice(["3", "x"])],
            ["SET", "index", "no index"], ["SET", "meta", "no hash"],
            ["SETRANGE", f"e:{chance.choice(names)}", MAX_RECORD_BYTES, "x"],
            ["ZADD", "index", chance.choice([1, NEVER_MS]), chance.choice(names)],
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
            told = await outcome(store.put_many(partition, epoch, *rest))
            left = [await redis.pttl(_of_partition(partition, ["", f"e:{one}"])[1]) for one in rest[1]]
            result = told, [comparable("PTTL", one) for one in left]
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
    return found + [(step, _without_steps(told)) for step, told in await tell_state(redis)]


def _without_steps(told: Any) -> Any:
    """Returns what is stored without the scores of entities that were written: a step of the index may end between the
    two servers."""
    kind, value, left = told
    if kind == "zset":
        value = sorted((member, score if score in (1, NEVER_MS) else "soon") for member, score in value)
    return kind, value, left


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
    return found + await tell_state(redis)
