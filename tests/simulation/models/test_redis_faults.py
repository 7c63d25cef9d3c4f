"""Holds what the model of Redis suffers to what a real server suffers: refusals, older copies, and being away.

Left out is a server whose script runs for ever (BUSY): none of ours does.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chaos_redis
import pytest
import refusal_probes
from chaos_redis import ChaosRedis
from missing_servers import skip_unless_required
from modelled_redis import RedisServer
from redis.asyncio import Redis
from redis_histories import Told, outcome
from side_by_side import NOWHERE, a_model, by_model, refuse_difference
from store_histories import PARTITIONS

from stream.bench.harness.servers import Unavailable, redis_binary
from stream.config.settings import Settings
from stream.processes.child import Supervised
from stream.store.redis_store import RedisStore
from stream.up.embedded import HOST, free_port

STORED = PARTITIONS[0]


@pytest.fixture(scope="module", autouse=True)
def has_redis() -> None:
    """All of these start servers of their own."""
    try:
        redis_binary()
    except Unavailable as reason:
        skip_unless_required(reason)


@pytest.fixture(scope="module")
def spoilt(has_redis: None) -> Iterator[ChaosRedis]:
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
    assert refused(kind, real) >= 5


def refused(kind: str, told: list[Told]) -> int:
    return sum(one[-1:] == (kind,) for _, one in told if isinstance(one, tuple))


async def test_a_server_that_loads_its_dump_refuses_what_redis_refuses(spoilt: ChaosRedis, tmp_path: Path) -> None:
    """The real one takes 4 ms for each of 1,500 records, and answers between them."""
    spoilt.flush()
    with spoilt.client() as writer:
        for number in range(1_500):
            writer.set(f"k{number}", os.urandom(1_500))
    (tmp_path / "dump.rdb").write_bytes(spoilt.snapshot())
    port = free_port()
    slowly = ["--key-load-delay", "4000", "--loading-process-events-interval-bytes", "1024"]
    command = [str(redis_binary()), "--port", str(port), "--bind", HOST, "--dir", str(tmp_path), "--save", "", *slowly]
    loading = Supervised(command, log=tmp_path / "redis.log")
    url = f"redis://{HOST}:{port}/0"
    try:
        async with Redis.from_url(url) as redis:
            while not isinstance(await outcome(redis.info("persistence")), dict):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
            real = await refusal_probes.tell_probes(url, redis)
            assert (await redis.info("persistence"))["loading"] == 1, "it was through too early"
    finally:
        loading.stop()
    server = RedisServer(time.time)
    server.refuse("LOADING")
    refuse_difference("LOADING", real, await by_model(refusal_probes.tell_probes, server))
    assert refused("LOADING", real) > 30


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
