"""Holds the model of Redis to a real one: the same histories, by seed, and every reply compared. Where they differ, the
model is wrong.

The order of what has none is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis_histories
import store_histories
from modelled_redis import RedisServer
from redis.asyncio import Redis
from redis_commands import COMMANDS, OK, Command
from redis_histories import Step, Told, outcome
from side_by_side import Tell, by_model, by_real, refuse_difference

NOW_S = 1_764_000_000.0


def of_commands(seed: int) -> Tell:
    steps = redis_histories.commands(seed, 60)
    return lambda url, redis: redis_histories.tell_commands(redis, steps)


def of_stores(seed: int) -> Tell:
    steps = store_histories.store_calls(seed, 70)
    return lambda url, redis: store_histories.tell_store_calls(url, redis, steps)


def of_days(seed: int) -> Tell:
    steps = store_histories.days_calls(seed, 50)
    return lambda url, redis: store_histories.tell_days_calls(url, redis, steps)


HISTORIES: dict[str, tuple[Callable[[int], Tell], int]] = {
    "commands": (of_commands, 80), "stores": (of_stores, 40), "days": (of_days, 30),
}  # fmt: skip


@pytest.mark.parametrize("kind", HISTORIES)
async def test_every_reply_of_a_history_is_that_of_redis(redis_url: str, kind: str) -> None:
    make, many = HISTORIES[kind]
    for seed in range(many):
        refuse_difference(seed, await by_real(redis_url, make(seed)), await by_model(make(seed)))


# -- what these histories would notice --------------------------------------------------------------------------------


def _does(reply: Any) -> Callable[[Any, Any], Any]:
    return lambda data, arguments: reply


BROKEN: dict[str, tuple[str, str, Callable[[Any, Any], Any]]] = {
    "patches renew no time to live": ("stores", "PEXPIRE", _does(1)),
    "records live for ever": ("stores", "SET", lambda data, rest: data.values.__setitem__(rest[0], rest[1]) or OK),
    "nothing is unlinked": ("stores", "UNLINK", _does(0)),
    "what is gone is there": ("stores", "EXISTS", _does(1)),
    "the index is never cleaned": ("stores", "ZCOUNT", _does(0)),
    "who is removed stays in the index": ("stores", "ZREM", _does(0)),
    "the offset stays": ("stores", "HDEL", _does(0)),
    "patches begin at the first byte": (
        "stores", "SETRANGE", lambda data, rest: COMMANDS[b"APPEND"].run(data, [rest[0], rest[2]])
    ),
    "writes are not counted": ("stores", "HINCRBY", _does(1)),
    "a day keeps no part": ("days", "RPUSH", _does(1)),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
async def test_a_model_that_is_broken_differs(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Compares the model with itself, so that nothing but the break makes a difference."""
    kind, name, run = BROKEN[what]
    make, _ = HISTORIES[kind]
    _, arity, flags = COMMANDS[name.encode()]
    for seed in range(12):
        whole = await by_model(make(seed), RedisServer(lambda: NOW_S))
        assert whole == await by_model(make(seed), RedisServer(lambda: NOW_S))
        with monkeypatch.context() as patch:
            patch.setitem(COMMANDS, name.encode(), Command(run, arity, flags))
            if whole != await by_model(make(seed), RedisServer(lambda: NOW_S)):
                return
    pytest.fail("no history showed it")


# -- scans and transactions -------------------------------------------------------------------------------------------


async def test_a_scan_of_several_pages_finds_what_is_there_all_the_time(redis_url: str) -> None:
    async def tell(url: str, redis: Redis) -> list[Told]:
        names = [b"n%d" % number for number in range(2_000)]
        await redis.mset(dict.fromkeys(names, b"")) if url == redis_url else [
            await redis.set(one, b"") for one in names
        ]
        cursor, pages, found = 0, 0, set[bytes]()
        while cursor or not pages:
            cursor, page = await redis.scan(cursor, match="n*", count=100)
            found |= set(page)
            pages += 1
            await redis.unlink(*names[pages * 10 : pages * 10 + 10])
            await redis.set(b"new%d" % pages, b"")
        return [(("found",), found >= set(names[:10]) | set(names[pages * 10 + 10 :])), (("pages",), pages >= 15)]

    assert await by_real(redis_url, tell) == await by_model(tell) == [(("found",), True), (("pages",), True)]


async def test_a_transaction_is_that_of_redis(redis_url: str) -> None:
    async def tell(url: str, redis: Redis) -> list[Told]:
        found: list[Told] = []
        for commands in (
            [("SET", "a", "1"), ("HGET", "a", "x"), ("INCRBY", "a", 4)],
            [("SET", "a", "2"), ("NOSUCH",)],
            [("GET", "a"), ("ZADD", "z", "1", "m"), ("ZRANGE", "z", 0, -1)],
        ):
            pipe = redis.pipeline(transaction=True)
            for command in commands:
                pipe.execute_command(*command)
            told = await outcome(pipe.execute(raise_on_error=False))
            if isinstance(told, list):
                told = [type(one).__name__ if isinstance(one, Exception) else one for one in told]
            found.append((("transaction", *commands), told))
        return found

    real = await by_real(redis_url, tell)
    refuse_difference("transaction", real, await by_model(tell))
    assert real[2][1][0] == b"5"


def test_the_steps_of_a_seed_are_the_same_again() -> None:
    made: Callable[[], list[Step]] = lambda: store_histories.store_calls(7, 50)  # noqa: E731
    assert made() == made() != store_histories.store_calls(8, 50)
