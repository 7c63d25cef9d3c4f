"""Redis may die, lose what it has, or refuse to write. Each fault leaves it well, and what it lost stays lost.

In all of them a worker is killed besides, so that somebody has to start from what Redis then has. Worlds of the
simulation show what comes of other refusals, of an older copy, and of a way that is cut; their model is held to a real
server (`tests/simulation/models`).
"""

from __future__ import annotations

from typing import Final

from chaos_rig import Rig
from faults import fault, fault_that_may

AWAY_S: Final = 8.0  # longer than the 5 s that a worker waits for an answer
IN_MEMORY: Final = 8  # entities of each worker, so that lost states are missed when their entities come back
MISSED: Final = "stored states"  # a worker's warning that it has missed some
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
    redis.kill()
    rig.say("Redis killed")
    rig.kill(rig.workers[0])
    rig.pause(3)
    redis.start(append=True)
    rig.say("Redis is back")
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


@fault
def states_evicted_by_redis(rig: Rig) -> None:
    """Redis is given less memory than it uses, with volatile-lru, and evicts a third of the states, as of all keys only
    these have a TTL; a worker is killed. It does so again between two workers, the last of which rebuilds also what was
    lost of entities that had no ping since."""
    rig.start(2, max_entities=IN_MEMORY)
    rig.feed(rig.fleet(), over_s=12)
    rig.reach(0.4)
    _evict(rig)
    rig.kill(rig.workers[0])
    rig.start(max_entities=IN_MEMORY)
    rig.consumed()
    rig.stop_all()
    _evict(rig)
    (worker,) = rig.start()
    worker.wait_until_ready()
    missed = sum(log.count(MISSED) for log in rig.logs())
    rig.notes.append(f"missed {missed} times (seed {rig.seed})")
    assert missed > 0, "no worker has noticed"


def _begin(rig: Rig) -> None:
    rig.start(2)
    rig.feed(rig.fleet(), over_s=10)
    rig.reach(0.25)


def _evict(rig: Rig) -> None:
    gone = rig.servers.redis.evict(1 / 3)
    rig.notes.append(f"{gone} evicted")
    rig.say(f"{gone} states evicted")
