"""The tools break what they say, and mend it: else the suite would pass for having done nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import chaos_redis
import pytest
from chaos_redis import ChaosRedis
from fault_proxy import Proxies, Proxy
from missing_servers import skip_unless_required
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError

from stream.bench.harness.servers import Unavailable
from stream.up.embedded import HOST

SHORT_S = 0.3  # how long a cut way is watched for bytes


@pytest.fixture
def way() -> Iterator[Proxy]:
    """To a server that sends back what it gets, once."""
    proxies = Proxies()
    with socket.create_server((HOST, 0)) as server:
        threading.Thread(target=_echo, args=(server,), daemon=True).start()
        yield proxies.to(server.getsockname()[1])
    proxies.close()


def _echo(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        while got := connection.recv(4096):
            connection.sendall(got)


def test_a_way_that_is_cut_carries_nothing_and_loses_nothing(way: Proxy) -> None:
    with socket.create_connection((HOST, way.port), timeout=30) as client:
        client.sendall(b"before ")
        assert client.recv(100) == b"before "
        way.cut()
        client.sendall(b"during")
        client.settimeout(SHORT_S)
        with pytest.raises(TimeoutError):
            client.recv(100)
        way.heal()
        client.settimeout(30)
        assert client.recv(100) == b"during"


def test_a_slow_way_delays_each_direction(way: Proxy) -> None:
    way.delay(SHORT_S)
    with socket.create_connection((HOST, way.port), timeout=30) as client:
        began = time.monotonic()
        client.sendall(b"x")
        assert client.recv(100) == b"x"
        assert time.monotonic() - began >= 2 * SHORT_S


@pytest.fixture
def redis() -> Iterator[ChaosRedis]:
    try:
        with chaos_redis.running() as server:
            yield server
    except Unavailable as reason:
        skip_unless_required(f"needs a redis-server to spoil: {reason}")


@pytest.mark.parametrize(
    ("spoil", "mend", "error", "words"),
    [
        (ChaosRedis.refuse_writes, ChaosRedis.take_writes, ReadOnlyError, "read only"),
        (ChaosRedis.fill_memory, ChaosRedis.free_memory, OutOfMemoryError, "used memory"),
        (ChaosRedis.fill_disk, ChaosRedis.free_disk, RedisError, "MISCONF"),
    ],
)
def test_redis_refuses_writes_until_it_is_mended(
    redis: ChaosRedis,
    spoil: Callable[[ChaosRedis], object],
    mend: Callable[[ChaosRedis], None],
    error: type,
    words: str,
) -> None:
    with redis.client() as client:
        client.set("kept", "1")
        spoil(redis)
        with pytest.raises(error, match=words):
            client.set("refused", "1")
        mend(redis)
        client.set("taken", "1")
        assert sorted(client.keys()) == [b"kept", b"taken"]


def test_redis_comes_back_with_its_data_or_its_past_or_nothing(redis: ChaosRedis) -> None:
    redis.kill()
    redis.start(append=True)
    with redis.client() as client:
        client.set("first", "1")
    snapshot = redis.snapshot()
    with redis.client() as client:
        client.set("second", "1")
    redis.kill()
    redis.start(append=True)
    with redis.client() as client:
        assert client.dbsize() == 2
    redis.kill()
    redis.restore(snapshot)
    redis.start()
    with redis.client() as client:
        assert client.keys() == [b"first"]
    redis.heal()
    with redis.client() as client:
        assert client.dbsize() == 0
