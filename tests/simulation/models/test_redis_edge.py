"""What lies between our clients and the model of Redis: what is lost there, and how redis-py takes it."""

from __future__ import annotations

import asyncio
import builtins
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from modelled_redis import RedisServer
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, ConnectionError, TimeoutError
from redis_edge import Link, modelled

from stream.config.settings import Settings
from stream.store import redis_store
from stream.store.base import Claim
from stream.store.redis_store import RedisStore

T = TypeVar("T")
A = ("pings", 0)
LOSSES = [
    ("request lost", ConnectionError, False),
    ("answer lost", ConnectionError, True),
    ("late", TimeoutError, False),
    ("never", TimeoutError, True),
]


class Fate(Link):
    """Lets the test decide what becomes of each request."""

    def __init__(self) -> None:
        self.next: str = ""
        self.torn = False
        self.between: Callable[[], Any] = lambda: None
        self.skip: Callable[[float], None] = lambda seconds: None

    async def call(self, work: Callable[[], T]) -> T:
        fate, self.next = self.next, ""
        if fate == "request lost":
            raise ConnectionResetError("lost")
        if fate == "late":
            raise builtins.TimeoutError
        done = await super().call(work)
        if fate == "answer lost":
            raise ConnectionResetError("lost")
        if fate == "never":
            self.skip(redis_store.CALL_TIMEOUT_S)
            await asyncio.Event().wait()
        self.between()
        return done

    def tears(self) -> bool:
        return self.torn


async def test_what_is_lost_may_have_been_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits by the time of its loop alone: here it skips the seconds for which an answer is awaited."""
    server, fate, loop, ahead_s = RedisServer(time.time), Fate(), asyncio.get_running_loop(), [0.0]
    monkeypatch.setattr(loop, "time", lambda: time.monotonic() + ahead_s[0])
    fate.skip = lambda seconds: ahead_s.append(ahead_s.pop() + seconds)
    with modelled(server, fate):
        store = RedisStore(Settings(redis_url="redis://x", group="g"))
        await store.claim(A)
        await store.put_many(A, 1, 4, {})  # now the server knows the script
        for number, (loss, error, is_done) in enumerate(LOSSES, 5):
            before = await store.peek(A)
            fate.next = loss
            with pytest.raises(error):
                await store.put_many(A, 1, number, {"x": b"1"})
            assert await store.peek(A) == (Claim(1, number) if is_done else before), "by a new connection"
        assert await store.put_many(A, 1, 9, {"x": b"1"}) == []
        await store.close()


async def test_a_connection_that_broke_fails_when_it_is_used_and_the_next_one_does_not() -> None:
    """As with a real server, since redis-py waits for notices of maintenance and takes an end of file for one."""
    server = RedisServer(time.time)
    with modelled(server):
        async with Redis.from_url("redis://x") as redis:
            await redis.set("a", "1")
            server.restart(server.snapshot())
            with pytest.raises(ConnectionError):
                await redis.get("a")
            assert await redis.get("a") == b"1"


async def test_a_script_is_sent_again_to_a_server_that_knows_none_of_ours() -> None:
    server = RedisServer(time.time)
    with modelled(server):
        store = RedisStore(Settings(redis_url="redis://x", group="g"))
        for epoch in range(1, 4):
            assert (await store.claim(A)).epoch == epoch
            server.flush_scripts()
        await store.close()


async def test_a_server_that_loads_its_dump_counts_as_away() -> None:
    server = RedisServer(time.time)
    server.refuse("LOADING")
    with modelled(server):
        store = RedisStore(Settings(redis_url="redis://x", group="g"))
        with pytest.raises(BusyLoadingError):
            await store.claim(A)
        assert issubclass(BusyLoadingError, ConnectionError)
        server.refuse("LOADING", on=False)
        assert (await store.claim(A)).epoch == 1
        await store.close()


@pytest.mark.parametrize("torn", [False, True])
async def test_between_the_commands_of_a_torn_pipeline_others_come(torn: bool) -> None:
    server, fate = RedisServer(time.time), Fate()
    fate.torn = torn
    fate.between = lambda: server.execute("SET", "a", "theirs")
    with modelled(server, fate):
        async with Redis.from_url("redis://x", decode_responses=True) as redis:
            await redis.ping()
            server.execute("SET", "a", "ours")
            async with redis.pipeline(transaction=False) as pipe:
                pipe.get("a")
                pipe.get("a")
                assert await pipe.execute() == ["ours", "theirs" if torn else "ours"]


async def test_what_was_evicted_or_lost_is_missed() -> None:
    server = RedisServer(time.time)
    with modelled(server):
        store = RedisStore(Settings(redis_url="redis://x", group="g"))
        epoch, _ = await store.claim(A)
        names = [f"e{n}" for n in range(40)]
        await store.put_many(A, epoch, 5, dict.fromkeys(names, b"1"))
        gone = server.evict_some(random.Random(3), 0.5)
        assert 5 < len(gone) < 35
        assert sorted(await store.list_evicted(A)) == sorted(key.decode().rpartition(":")[2] for key in gone)
        assert await store.peek(A) == Claim(1, 5), "what never expires is no prey of a policy volatile-*"
        server.evict_some(random.Random(3), 1.0, volatile=False)
        assert await store.peek(A) == Claim(0, None)
        server.lose_all()
        assert server.execute("DBSIZE") == 0
        await store.close()


async def test_time_passes_by_the_server_s_clock_alone() -> None:
    now_s = [1_764_000_000.0]
    server = RedisServer(lambda: now_s[0])
    server.execute("SET", "a", "1", "PX", 1000)
    now_s[0] += 1.0
    assert server.execute("GET", "a") == b"1", "it expires after its last millisecond"
    assert server.execute("EVAL", "return redis.call('TIME')", 0) == [b"1764000001", b"0"]
    now_s[0] += 0.001
    assert server.execute("EVAL", "return redis.call('EXISTS', 'a')", 0) == 0
    assert server.execute("PTTL", "a") == -2


async def test_a_scan_that_repeats_keys_confuses_nobody() -> None:
    server = RedisServer(time.time)
    with modelled(server):
        store = RedisStore(Settings(redis_url="redis://x", group="g"))
        epoch, _ = await store.claim(A)
        names = [f"e{n}" for n in range(9_000)]
        await store.put_many(A, epoch, 5, dict.fromkeys(names, b"1"))
        assert sorted([one async for one in store.entity_ids(A)]) == sorted(names)
        server.data.repeats = lambda: True
        seen = [one async for one in store.entity_ids(A)]
        assert len(seen) > len(set(seen)) == len(names)
        await store.forget(A, epoch)
        assert server.execute("DBSIZE") == 1
        await store.close()
