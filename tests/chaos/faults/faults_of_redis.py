"""What can happen to Redis, and to the way to it. Each leaves it well, and what it lost stays lost.

In all of them a worker is killed besides, so that somebody has to start from what Redis then has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from chaos_redis import ChaosRedis
from chaos_rig import Rig
from faults import fault, fault_that_may

AWAY_S = 8.0  # longer than the 5 s that a worker waits for an answer


BECAUSE: Final = (
    "an entity that is not in memory is answered as new where Redis cannot be read for more than 5 s; its answers say "
    "so until Redis is back"
)


@fault_that_may("unread", because=BECAUSE)
def redis_killed_and_its_data_kept(rig: Rig) -> None:
    """kill -9 of Redis, which has every write on its disk, and a worker; Redis is started again after 3 s."""
    redis = rig.servers.redis
    redis.kill()
    redis.start(append=True)
    _begin(rig)
    _kill_redis(rig)
    rig.kill(rig.workers[0])
    rig.pause(3)
    redis.start(append=True)
    rig.say("Redis is back")
    rig.start()


@fault_that_may("unread", because=BECAUSE)
def redis_killed_and_its_data_lost(rig: Rig) -> None:
    """kill -9 of Redis and of a worker; Redis comes back empty after 3 s. What is rebuilt reads the log again."""
    _begin(rig)
    _kill_redis(rig)
    rig.kill(rig.workers[0])
    rig.pause(3)
    rig.servers.redis.wipe()
    rig.servers.redis.start()
    rig.say("Redis is back, empty")
    rig.start()


@fault
def redis_flushed(rig: Rig) -> None:
    """FLUSHALL while two workers write, then kill -9 of one, then FLUSHALL again while nobody has been told."""
    _begin(rig)
    rig.servers.redis.flush()
    rig.say("FLUSHALL")
    rig.reach(0.5)
    rig.kill(rig.workers[0])
    rig.servers.redis.flush()
    rig.say("FLUSHALL")
    rig.start()


@fault
def redis_restored_from_an_older_snapshot(rig: Rig) -> None:
    """A snapshot of Redis is taken, and when workers are past it, Redis is killed and started with it; then a worker
    is killed, and whoever follows starts from what has been written on top of the past."""
    redis = rig.servers.redis
    _begin(rig, over_s=12)
    snapshot = redis.snapshot()
    rig.say("snapshot taken")
    rig.reach(0.5)
    _kill_redis(rig)
    redis.restore(snapshot)
    redis.start()
    rig.say("Redis is back as it was at the snapshot")
    rig.reach(0.8)
    rig.kill(rig.workers[0])
    rig.start()


@fault
def redis_read_only(rig: Rig) -> None:
    """Every write is refused for 8 s (READONLY, as a replica without its master does it); a worker is killed."""
    _refusing(rig, ChaosRedis.refuse_writes, ChaosRedis.take_writes)


@fault
def redis_out_of_memory(rig: Rig) -> None:
    """Every write is answered OOM for 8 s; a worker is killed."""
    _refusing(rig, ChaosRedis.fill_memory, ChaosRedis.free_memory)


@fault
def redis_disk_full(rig: Rig) -> None:
    """The disk of Redis is full: its snapshot fails, and it refuses writes (MISCONF) for 8 s; a worker is killed."""
    _begin(rig)
    rig.notes.append(rig.servers.redis.fill_disk())
    rig.say("disk full")
    rig.pause(AWAY_S / 2)
    rig.kill(rig.workers[0])
    rig.pause(AWAY_S / 2)
    rig.servers.redis.free_disk()
    rig.say("disk free")
    rig.start()


@fault_that_may("unread", because=BECAUSE)
def redis_cut_off_for_30_s(rig: Rig) -> None:
    """The way from both workers to Redis is cut for 30 s, and a worker is killed in the middle of it."""
    rig.start(2, proxied=True)
    rig.feed(rig.fleet(), over_s=35)
    rig.reach(0.15)
    rig.servers.redis_way.cut()
    rig.say("way to Redis cut")
    rig.pause(15)
    rig.kill(rig.workers[0])
    rig.pause(15)
    rig.servers.redis_way.heal()
    rig.say("way to Redis open")
    rig.start()


def _begin(rig: Rig, *, over_s: float = 10.0) -> None:
    rig.start(2)
    rig.feed(rig.fleet(), over_s=over_s)
    rig.reach(0.25)


def _kill_redis(rig: Rig) -> None:
    rig.servers.redis.kill()
    rig.say("Redis killed")


def _refusing(rig: Rig, begin: Callable[[ChaosRedis], None], end: Callable[[ChaosRedis], None]) -> None:
    _begin(rig)
    begin(rig.servers.redis)
    rig.say("Redis refuses writes")
    rig.pause(AWAY_S / 2)
    rig.kill(rig.workers[0])
    rig.pause(AWAY_S / 2)
    end(rig.servers.redis)
    rig.say("Redis takes writes")
    rig.start()
