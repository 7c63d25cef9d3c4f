"""A Redis of the chaos suite's own, whose data and health it can spoil. Knows one server; knows no key of ours."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import tiny_disk
from redis import Redis
from redis.exceptions import RedisError

from stream.bench.harness.servers import Unavailable, redis_binary
from stream.processes.child import Supervised
from stream.up.embedded import HOST, free_port, redis_answers

PATIENCE_S: Final = 120.0
SNAPSHOT: Final = "dump.rdb"
DISK_BYTES: Final = 256 * 1024  # of the disk that is full: less than any snapshot


class ChaosRedis:
    """One server on one port, with nothing on disk unless a fault asks for it. Use `running`."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._binary = redis_binary()
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        self._server: Supervised | None = None
        self._disk: Path | None = None

    def start(self, *, append: bool = False) -> None:
        """With what SNAPSHOT holds, if there is one. `append`: from now on every write is on disk when it is answered,
        and a later start has them all."""
        where = ["--port", str(self.port), "--bind", HOST, "--dir", str(self._home), "--dbfilename", SNAPSHOT]
        kept = ["--save", "", "--appendonly", "yes" if append else "no", "--appendfsync", "always"]
        command = [str(self._binary), *where, *kept, "--enable-protected-configs", "local", "--daemonize", "no"]
        self._server = Supervised(command, log=self._home / "redis.log")
        deadline = time.monotonic() + PATIENCE_S
        while not redis_answers(self.port):
            if time.monotonic() > deadline or not self._server.running:
                raise Unavailable(f"redis-server did not start: {self._server.log_tail()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        if self._server is None:
            return
        with suppress(ProcessLookupError):
            os.kill(self._server.pid, signal.SIGKILL)
        self._server.stop()
        self._server = None

    def wipe(self) -> None:
        """Of a dead server: all that it had on disk."""
        assert self._server is None
        (self._home / SNAPSHOT).unlink(missing_ok=True)
        shutil.rmtree(self._home / "appendonlydir", ignore_errors=True)

    def snapshot(self) -> bytes:
        self._call(lambda redis: redis.save())
        return (self._home / SNAPSHOT).read_bytes()

    def restore(self, snapshot: bytes) -> None:
        """Of a dead server: what it starts with."""
        self.wipe()
        (self._home / SNAPSHOT).write_bytes(snapshot)

    def flush(self) -> None:
        self._call(lambda redis: redis.flushall())

    def refuse_writes(self) -> None:
        """As a replica does it whose master is away: READONLY."""
        self._call(lambda redis: redis.replicaof(HOST, 1))

    def take_writes(self) -> None:
        self._call(lambda redis: redis.replicaof("NO", "ONE"))

    def fill_memory(self) -> None:
        """Every write that may need memory is answered OOM."""
        self._set("maxmemory-policy", "noeviction")
        self._set("maxmemory", "1")

    def free_memory(self) -> None:
        self._set("maxmemory", "0")

    def evict(self, share: float) -> int:
        """Let it evict so much of its states, as it does when memory is short under volatile-lru. How many went."""
        with self.client() as redis:
            states = sum(1 for _ in redis.scan_iter(match="*:e:*", count=1000))
            wanted = redis.info("stats")["evicted_keys"] + int(states * share)
            memory = redis.info("memory")
            self._set("maxmemory-policy", "volatile-lru")
            self._set("maxmemory", str(memory["used_memory"] - int(memory["used_memory_dataset"] * share)))
            self._until(lambda redis: redis.info("stats")["evicted_keys"] >= wanted)
            self._set("maxmemory", "0")
            self._set("maxmemory-policy", "noeviction")
            return states - sum(1 for _ in redis.scan_iter(match="*:e:*", count=1000))

    def fill_disk(self) -> str:
        """Snapshots fail, and Redis takes no writes while the last one has failed: MISCONF. How it was done."""
        how = self._tiny_disk()
        self._set("stop-writes-on-bgsave-error", "yes")
        self._set("save", "3600 1")  # it only refuses writes if it is to save at all
        self._set("dir", str(self._disk))
        if how.startswith("a folder"):
            assert self._disk is not None
            self._disk.rmdir()
        self._call(lambda redis: redis.bgsave())
        self._until(lambda redis: redis.info("persistence")["rdb_last_bgsave_status"] == "err")
        return how

    def _tiny_disk(self) -> str:
        self._disk = Path(tempfile.mkdtemp(prefix="full", dir=self._home))
        if why_not := tiny_disk.mount(self._disk, DISK_BYTES):  # a write fails all the same
            return f"a folder that is gone, as no tmpfs could be mounted ({why_not})"
        tiny_disk.fill(self._disk)
        return f"a full tmpfs of {DISK_BYTES // 1024} KiB"

    def free_disk(self) -> None:
        self._set("dir", str(self._home))
        self._call(lambda redis: redis.bgsave())
        self._until(lambda redis: redis.info("persistence")["rdb_last_bgsave_status"] == "ok")
        self._set("save", "")
        self._drop_disk()

    def _drop_disk(self) -> None:
        if self._disk is not None:
            tiny_disk.unmount(self._disk)
        self._disk = None

    def heal(self) -> None:
        """As if nothing had been done, and empty."""
        self.end()
        self.wipe()
        self.start()

    def end(self) -> None:
        self._drop_disk()
        self.kill()

    def client(self) -> Redis:
        return Redis.from_url(self.url, socket_timeout=PATIENCE_S)

    def _set(self, name: str, value: str) -> None:
        self._call(lambda redis: redis.config_set(name, value))

    def _call(self, ask: Callable[[Any], Any]) -> Any:
        with self.client() as redis:
            return ask(redis)

    def _until(self, holds: Callable[[Any], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self._call(holds):
            if time.monotonic() > deadline:
                raise RedisError(f"Redis did not come to the asked-for condition in {PATIENCE_S:.0f} s")
            time.sleep(0.05)


@contextmanager
def running() -> Iterator[ChaosRedis]:
    """Raises Unavailable. The server ends with this process, however that ends."""
    home = Path(tempfile.mkdtemp(prefix="pathcast-chaos-redis-"))
    guard = Supervised(["sh", "-c", "trap 'sleep 3' TERM; while :; do sleep 1; done"], log=home / "guard", remove=home)
    redis = ChaosRedis(home)
    try:
        redis.start()
        yield redis
    finally:
        redis.end()
        os.kill(guard.pid, signal.SIGKILL)
        guard.stop()
        shutil.rmtree(home, ignore_errors=True)
