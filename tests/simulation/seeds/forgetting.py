"""Gives `pathcast forget` in a world, and holds it to what it says.

it says that the states are gone      then no store has a state from before its record
it says that workers have passed the
record and kept a state               never: all workers here are of this release
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from plans import CUTS
from stage import Stage

from stream.commands.forget import run, states
from stream.commands.forget.findings import Finding, Outcome
from stream.kafka.log import Partition
from stream.store.redis_store import KEY_ENTITY, KEY_PARTITION

WAIT_S: Final = 20.0
LOSSES: Final = CUTS | {"redis_older", "retain"}  # by which what the command has seen may be another state's


def start(stage: Stage, which: int) -> None:
    """Starts the command in a host of its own."""
    entity = f"bus{which}"
    host = stage.world.host(f"operator.{len(stage.world.hosts)}")
    request = run.Request(entity, stage.settings, wait_s=WAIT_S)
    stage.world.note(f"forget {entity}")
    work = run._forget_in_workers(request, stage.plan.partitions)
    task = stage.world.start(host, work, "forget")
    stage.commands.add(task)
    task.add_done_callback(stage.commands.discard, context=stage.world.network.outside)
    task.add_done_callback(lambda done: _judge(stage, entity, done), context=stage.world.network.outside)


def _judge(stage: Stage, entity: str, done: asyncio.Task[list[Finding]]) -> None:
    if done.cancelled() or stage.plan.kinds & LOSSES:
        return
    if (error := done.exception()) is not None:
        stage.note_broken(f"forget: {entity}: it ended with {error!r}")
        return
    place = next(one for one in done.result() if one.place == states.PLACE)
    stage.world.note(f"forgot {entity} {place.outcome} {place.note}")
    if states._Left.OLD in place.note:
        stage.note_broken(f"forget: {entity}: {place.note}")
    if place.outcome in (Outcome.REMOVED, Outcome.ABSENT):
        sent = done.result()[0].found.rpartition(" at ")[2]
        for number, offset in (map(int, one.split(":")) for one in sent.split(", ")):
            raw = _stored(stage, (stage.settings.topics.pings, number), entity)
            if raw is not None and states._includes(entity, raw) <= offset:
                stage.note_broken(f"forget: {entity}: it said {place.outcome}, and partition {number} has a state")


def _stored(stage: Stage, partition: Partition, entity: str) -> Any:
    prefix = KEY_PARTITION.format(group=stage.settings.group, topic=partition[0], number=partition[1])
    return stage.redis.server.data.values.get(f"{prefix}{KEY_ENTITY}{entity}".encode())
