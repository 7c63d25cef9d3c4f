"""What Redis can take away without a word: states of some entities, while all else stays. It does so when its memory is
full and its maxmemory-policy is volatile-*, because of all keys only states have a TTL.

In both faults workers keep few entities in memory, so that lost states are missed when their entities come back, and a
worker is killed, so that they are missed at a takeover. All workers are restarted at the end: what was lost of entities
that had no ping since is rebuilt by then, too.
"""

from __future__ import annotations

from typing import Final

from chaos_rig import Rig
from faults import fault

IN_MEMORY: Final = 8  # entities of each worker
TENTH: Final = 10
MISSED: Final = "stored states"  # a worker's warning that it has missed some


@fault
def states_evicted_by_redis(rig: Rig) -> None:
    """Redis is given less memory than it uses, with volatile-lru, and evicts a third of the states; a worker is killed.
    It does so again between two workers."""
    _begin(rig)
    _evict(rig)
    rig.kill(rig.workers[0])
    rig.start(max_entities=IN_MEMORY)
    _restart(rig, evict=True)


@fault
def every_tenth_state_deleted(rig: Rig) -> None:
    """Every tenth state is deleted while two workers work, and one of these is killed."""
    _begin(rig)
    with rig.servers.redis.client() as redis:
        names = sorted(redis.scan_iter(match="*:e:*", count=1000))[::TENTH]
        redis.unlink(*names)
    rig.notes.append(f"{len(names)} deleted")
    rig.say(f"{len(names)} states deleted")
    rig.kill(rig.workers[0])
    rig.start(max_entities=IN_MEMORY)
    _restart(rig, evict=False)


def _begin(rig: Rig) -> None:
    rig.start(2, max_entities=IN_MEMORY)
    rig.feed(rig.fleet(), over_s=12)
    rig.reach(0.4)


def _evict(rig: Rig) -> None:
    gone = rig.servers.redis.evict(1 / 3)
    rig.notes.append(f"{gone} evicted")
    rig.say(f"{gone} states evicted")


def _restart(rig: Rig, *, evict: bool) -> None:
    rig.consumed()
    rig.stop_all()
    if evict:
        _evict(rig)
    (worker,) = rig.start()
    worker.wait_until_ready()
    missed = sum(log.count(MISSED) for log in rig.logs())
    rig.notes.append(f"missed {missed} times (seed {rig.seed})")
    assert missed > 0, "no worker has noticed"
