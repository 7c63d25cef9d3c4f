"""What workers promise beside right answers, each for the worlds in which nothing excuses them.

retention    what it deletes unread is counted in what the group commits
takeovers    no partition is taken over anew where nobody else can have claimed it, and Redis has lost nothing
quarantine   is stored soon: what raised may not raise in a replay, which would then go on with the entity
partitions   are written although Redis refuses another one
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from plans import CUTS

from stream.engine.entities import quarantine
from stream.kafka.log import CommittedOffset
from stream.store.redis_store import KEY_ENTITY, KEY_PARTITION

if TYPE_CHECKING:
    from stage import Stage

LOOK_S: Final = 0.25
QUARANTINE_S: Final = 2.0  # a checkpoint that begins behind another one, with a slow network
HELD_UP_S: Final = 9.0  # a checkpoint that is due, after two tries for the refused partition
# Faults after which one worker has no reason to take a partition over because of its claim.
HARMLESS: Final = {
    *("ping", "aborted", "elect", "late_markers", "retain", "redis_evicts", "redis_refuses", "redis_restarts"),
    *("refuse_partition", "forget_command"),
}


def list_uncounted(stage: Stage) -> list[str]:
    """Returns the partitions of which retention has deleted more unread than the group's commit says."""
    if stage.plan.kinds & CUTS:
        return []
    found, group = [], stage.settings.group
    for partition, deleted in sorted(stage.kafka.deleted_unread.items()):
        stored = stage.kafka.cluster.offset_fetch(group, [partition]).get(partition)
        if stored is None or stored.offset <= stage.kafka.protocol.log(partition).start:
            continue  # nobody has looked beyond it yet
        counted = CommittedOffset.of(stored.offset, stored.metadata).history.lost
        if counted < deleted:
            found.append(
                f"uncounted: partition {partition[1]} lost {deleted} records unread, and {counted} are counted"
            )
    return found


def list_needless(stage: Stage) -> list[str]:
    """Returns the workers that took partitions over anew without a reason."""
    if stage.plan.workers > 1 or not stage.plan.kinds <= HARMLESS:
        return []
    workers = [place.worker for place in stage.workers if place.worker is not None]
    fenced = [worker.delivery.accounts.fenced for worker in workers if hasattr(worker, "delivery")]
    return [f"needless: a worker was fenced {times} times, and by nobody" for times in fenced if times]


async def watch(stage: Stage) -> None:
    """Looks at workers from time to time, and notes what takes too long."""
    since: dict[Any, float] = {}
    while True:
        await asyncio.sleep(LOOK_S)
        now_s = stage.world.loop.time()
        late: dict[Any, float] = {}
        if stage.plan.world == "calm":
            late = dict.fromkeys(_unwritten(stage), QUARANTINE_S)
        elif stage.plan.world == "alone" and stage.redis.server.refused_prefix:
            late = dict.fromkeys(_unstored(stage), HELD_UP_S)
        since = {key: since.get(key, now_s) for key in late}
        for key, limit_s in late.items():
            if now_s - since[key] > limit_s:
                stage.note_broken(f"late: {key[0]} for {limit_s:g} s")


def _unwritten(stage: Stage) -> list[Any]:
    """Returns the quarantines that no checkpoint has written. One that has answered more records since then is stored,
    and only says less of them than it could."""
    workers = [place.worker for place in stage.workers if place.worker is not None]
    shards = [one for worker in workers if hasattr(worker, "engine") for one in worker.engine._table._shards.values()]
    return [
        (f"the quarantine of {name} in partition {shard.partition[1]} is not stored", shard.number)
        for shard in shards
        for name in sorted(shard.unwritten)
        if not _is_stored(stage, shard.partition, name)
    ]


def _is_stored(stage: Stage, partition: tuple[str, int], name: str) -> bool:
    prefix = KEY_PARTITION.format(group=stage.settings.group, topic=partition[0], number=partition[1])
    raw: Any = stage.redis.server.data.values.get((prefix + KEY_ENTITY + name).encode())
    return raw is not None and quarantine.is_one(raw)


def _unstored(stage: Stage) -> list[Any]:
    """Returns the partitions that Redis takes, and whose last checkpoint is behind."""
    found = []
    for number in range(stage.plan.partitions):
        partition = (stage.settings.topics.pings, number)
        stored = stage.redis.next_offset(stage.settings.group, partition) or 0
        refused = stage.redis.server.refused_prefix.decode().endswith(f"|{number}}}:")
        if not refused and stored < stage.kafka.committed(stage.settings.group, partition):
            found.append((f"partition {number} is not stored beside a refused one", stored))
    return found
