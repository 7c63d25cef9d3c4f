"""Draws the plans of worlds with versions of the atlas, and lets happen to these versions what the plans say."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from events import Event
from msgspec.structs import replace
from plans import Beside, Plan

if TYPE_CHECKING:
    from stage import Stage

LAST_S: Final = 18.0
POINTS: Final = ("within_announcement", "within_announcement", "after_version", "after_days")
WAYS: Final = (
    *("killed", "killed", "paused", "paused", "stopped", "evicted", "folder", "away", "junk", "left"),
    *("forget", "redis", "worker", "weights", "network", "anew", "cut"),
)


def folder_away(stage: Stage, event: Event) -> None:
    """The folder of the versions is gone for some time, for makers and workers alike."""
    room = stage.versions.room
    if room is not None:
        room.take_atlases()
        stage.world.loop.call_later(event.for_s, room.give_atlases, context=stage.world.network.outside)


ACTS: Final[Mapping[str, Callable[[Stage, Event], None]]] = {"folder_away": folder_away}


def draw(plan: Plan, chance: random.Random) -> tuple[Plan, list[Event]]:
    """Returns a plan in which makers make versions of the atlas and workers ask them, and what happens to both."""
    entities, partitions = chance.randint(3, 5), chance.choice((1, 1, 1, 2))
    events, at_s = [], 1.0
    while at_s < LAST_S + 4.0:
        at_s += chance.expovariate(1 / (0.12 / partitions))
        odd = "forget" if chance.random() < 0.01 else ""
        events.append(Event(round(at_s, 4), "ping", chance.randrange(entities), odd=odd))
    for way in chance.sample(WAYS, chance.choice((0, 1, 2, 2, 3))):
        events += _tell(way, chance, plan)
    made = replace(
        plan,
        entities=entities,
        partitions=partitions,
        workers=chance.choice((1, 2)),
        clocks_off_s=plan.clocks_off_s[:1] * 2,
        members=tuple(Beside("atlas", most_polled=chance.choice((0, 4))) for _ in range(chance.choice((1, 2, 2, 3)))),
    )
    return made, events


def _tell(way: str, chance: random.Random, plan: Plan) -> list[Event]:
    """Returns what happens in one way."""
    at_s, for_s = (
        round(chance.uniform(3.0, LAST_S), 4),
        round(chance.choice((1.0, 4.0, 8.0)) * chance.uniform(0.5, 1.5), 3),
    )
    which, share = chance.randrange(12), round(chance.random(), 3)
    if way in ("killed", "paused"):
        kind = "kill_at" if way == "killed" else "pause_at"
        return [Event(2.0, kind, 0, for_s, 0.0, chance.choice(POINTS), chance.choice((1, 1, 2, 3)))]
    if way == "network":
        return [Event(at_s, chance.choice(("storm", "break", "coordinator_away", "no_leader")), which, for_s)]
    if way == "weights":
        return [Event(at_s, "announce", which)]
    if way == "redis":
        return [Event(at_s, chance.choice(("redis_lost", "redis_older", "redis_restarts")), 0, for_s, share)]
    if way == "worker":
        return [Event(at_s, chance.choice(("kill", "pause", "stop")), 0, for_s)]
    if way == "stopped":
        return [Event(at_s, "stop", -1, for_s)]
    if way == "cut":
        return [Event(at_s, "elect_unclean", which, 0.0, share)]
    kinds = {
        "evicted": "days_evicted", "folder": "folder_away", "away": "models_away", "junk": "models_junk",
        "left": "left_announced", "forget": "forget_command", "anew": "models_anew",
    }  # fmt: skip
    return [Event(at_s, kinds[way], which, for_s, share)]
