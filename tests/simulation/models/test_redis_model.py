"""Holds the model of Redis to a real one: the same histories, by seed, and every reply compared. Where they differ, the
model is wrong.

Left out, as no real server of this size shows it in time: what a server answers whose script runs for ever (BUSY), and
the order of what has none.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import chaos_redis
import pytest
import redis_histories
import refusal_probes
import store_histories
from chaos_redis import ChaosRedis
from modelled_redis import RedisServer
from redis.asyncio import Redis
from redis_commands import COMMANDS, OK, Command
from redis_edge import modelled
from redis_histories import Step, Told, outcome
from store_histories import PARTITIONS

from stream.config.settings import Settings
from stream.store.redis_store import RedisStore

NOWHERE = "redis://127.0.0.1:1/0"  # where nobody listens: who comes there has no model
NOW_S = 1_764_000_000.0
Tell = Callable[[str, Redis], Awaitable[list[Told]]]
STORED = PARTITIONS[0]


@asynccontextmanager
async def a_model(server: RedisServer | None = None) -> AsyncIterator[Redis]:
    with modelled(server or RedisServer(time.time)):
        async with Redis.from_url(NOWHERE) as redis:
            yield redis


async def by_real(url: str, tell: Tell) -> list[Told]:
    async with Redis.from_url(url) as redis:
        await redis.flushall()
        await redis.script_flush()
        return await tell(url, redis)


async def by_model(tell: Tell, server: RedisServer | None = None) -> list[Told]:
    async with a_model(server) as redis:
        return await tell(NOWHERE, redis)


def refuse_difference(seed: object, real: list[Told], model: list[Told]) -> None:
    assert len(real) == len(model) > 0
    for number, ((step, wanted), (_, got)) in enumerate(zip(real, model, strict=True)):
        assert got == wanted, f"history {seed}, step {number}: {step!r} by the model, and by Redis"


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


# -- refusals and older copies ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spoilt() -> Iterator[ChaosRedis]:
    with chaos_redis.running() as found:
        yield found


def _set(*pairs: tuple[str, str]) -> Callable[[ChaosRedis], None]:
    def do(redis: ChaosRedis) -> None:
        for name, value in pairs:
            redis._set(name, value)

    return do


Spoil = Callable[[ChaosRedis], object]
REFUSALS: dict[str, tuple[list[Spoil], list[Spoil]]] = {
    "OOM": ([ChaosRedis.fill_memory], [ChaosRedis.free_memory]),
    "READONLY": ([ChaosRedis.refuse_writes], [ChaosRedis.take_writes]),
    "NOREPLICAS": ([_set(("min-replicas-to-write", "1"))], [_set(("min-replicas-to-write", "0"))]),
    "MISCONF": ([ChaosRedis.fill_disk], [ChaosRedis.free_disk]),
    "MASTERDOWN": (
        [_set(("replica-serve-stale-data", "no")), ChaosRedis.refuse_writes],
        [ChaosRedis.take_writes, _set(("replica-serve-stale-data", "yes"))],
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
async def test_what_is_refused_is_what_redis_refuses(spoilt: ChaosRedis, kind: str) -> None:
    begin, end = REFUSALS[kind]
    async with Redis.from_url(spoilt.url) as redis:
        await refusal_probes.prepare(redis)
        await redis.script_flush()
        for spoil in begin:
            spoil(spoilt)
        try:
            real = await refusal_probes.tell_probes(spoilt.url, redis)
        finally:
            for heal in end:
                heal(spoilt)
    server = RedisServer(time.time)
    async with a_model(server) as redis:
        await refusal_probes.prepare(redis)
        server.refuse(kind)
        refuse_difference(kind, real, await refusal_probes.tell_probes(NOWHERE, redis))
    assert sum(told == (told[0], kind) for _, told in real if isinstance(told, tuple)) >= 5, "it refused nothing"


async def test_an_older_copy_and_a_server_that_is_away_are_those_of_redis(spoilt: ChaosRedis) -> None:
    """A real server is killed, and starts again with an older dump; its clients and their connections are as before."""

    async def tell(url: str, copy: Callable[[], Any], go: Callable[[], Any], come: Callable[[Any], Any]) -> list[Told]:
        store = RedisStore(Settings(redis_url=url, group="g", state_ttl_s=900))
        found: list[Told] = []

        async def do(name: str, *arguments: Any) -> None:
            found.append(((name, *arguments), await outcome(getattr(store, name)(STORED, *arguments))))

        await do("claim")
        await do("put_many", 1, 5, {"x": b"old", "y": b"old"})
        older = copy()
        await do("put_many", 1, 6, {"x": b"new", "z": b"new"})
        go()
        await do("put_many", 1, 7, {"x": b"newer"})
        await do("get_many", ["x"])
        come(older)
        await do("get_many", ["x", "y", "z"])
        await do("put_many", 1, 7, {"x": b"newer"})
        await do("list_evicted")
        await do("peek")
        await do("claim")
        await do("get_many", ["x", "y", "z"])
        await do("put_many", 2, 7, {"x": b"newest"})
        go()
        come(None)
        await do("put_many", 2, 8, {"x": b"lost"})
        await do("put_many", 2, 8, {"x": b"lost"})
        await do("get_many", ["x"])
        await do("claim")
        await store.close()
        return found

    def start(dump: bytes | None) -> None:
        spoilt.wipe() if dump is None else spoilt.restore(dump)
        spoilt.start()

    spoilt.flush()
    real = await tell(spoilt.url, spoilt.snapshot, spoilt.kill, start)
    server = RedisServer(time.time)

    def come(snapshot: Any) -> None:
        server.away = False
        server.restart(snapshot)

    async with a_model(server):
        model = await tell(NOWHERE, server.snapshot, lambda: setattr(server, "away", True), come)
    refuse_difference("older copy", real, model)
    told = [str(one) for _, one in real]
    assert sum("older copy" in one for one in told) == 2
    assert sum("ConnectionError" in one for one in told) == 3, "the last by a connection that broke meanwhile"
    assert sum("lose its data" in one for one in told) == 2


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
