"""Plans of worlds in which weights are refreshed, and what happens to refreshers there."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from events import Event
from hurried import HurriedAnnouncer
from msgspec.structs import replace
from plans import Plan

from stream.config import failpoints
from stream.registry import Registry, RegistryError
from stream.versions.deciding import Why, decide

if TYPE_CHECKING:
    from stage import Stage

LAST_S: Final = 18.0
POINTS: Final = (*failpoints.OF_REFRESH, "after_announcement", *("before_file", "before_manifest", "before_rename"),
    "after_publication", "within_announcement", "within_announcement")  # fmt: skip
WAYS: Final = (
    *("killed", "killed", "killed", "paused", "paused", "killed anywhere", "paused anywhere", "rollback"),
    *("absent", "away", "anew", "junk", "worker", "network"),
)


def rollback(stage: Stage, event: Event) -> None:
    """An operator lets the weights answer again that did before."""
    stage.world.start(stage.world.host("operator"), _roll_back(stage), "rolls back")


async def _roll_back(stage: Stage) -> None:
    settings = stage.settings
    try:
        made = await decide(
            lambda: HurriedAnnouncer.open(settings.bootstrap, settings.topics),
            Registry.open(str(stage.versions.registry_folder)),
            lambda decider: decider.rollback(Why("the world says so", "operator")),
        )
    except (RegistryError, RuntimeError, OSError) as error:
        stage.world.note(f"not_rolled_back {error!r}")
    else:
        stage.world.note(f"rolled_back {made.instead_of}")


ACTS: Final[Mapping[str, Callable[[Stage, Event], None]]] = {"rollback": rollback}


def draw(plan: Plan, chance: random.Random) -> tuple[Plan, list[Event]]:
    """Returns a plan in which weights are refreshed, and what happens to who does."""
    entities, refreshers = chance.randint(3, 5), chance.choice((1, 1, 2))
    events, at_s = [], 1.0
    while at_s < LAST_S + 4.0:
        at_s += chance.expovariate(1 / 0.15)
        events.append(Event(round(at_s, 4), "ping", chance.randrange(entities)))
    workers = chance.choice((1, 2))
    for way in chance.sample(WAYS, chance.choice((0, 1, 2, 2, 3))):
        events += _tell(way, chance, workers)
    made = replace(
        plan,
        entities=entities,
        partitions=1,
        workers=workers,
        clocks_off_s=plan.clocks_off_s[:1] * 2,
        members=(),
        refreshers=tuple(chance.choice((0.0, 0.0, 30.0)) for _ in range(refreshers)),
    )
    return made, events


def _tell(way: str, chance: random.Random, workers: int) -> list[Event]:
    """Returns what happens in one way."""
    at_s, for_s = (
        round(chance.uniform(2.0, LAST_S), 4),
        round(chance.choice((1.0, 4.0, 8.0)) * chance.uniform(0.5, 1.5), 3),
    )
    which, share = chance.randrange(12), round(chance.random(), 3)
    if way in ("killed", "paused"):
        kind = "kill_at" if way == "killed" else "pause_at"
        return [Event(0.5, kind, 0, for_s, 0.0, f"refresher:{chance.choice(POINTS)}", chance.choice((1, 1, 2, 3)))]
    if way in ("killed anywhere", "paused anywhere"):
        return [Event(at_s, "kill" if way.startswith("kill") else "pause", workers, for_s)]
    if way == "network":
        return [Event(at_s, chance.choice(("storm", "break", "no_leader")), which, for_s)]
    if way == "worker":
        return [Event(at_s, chance.choice(("kill", "pause", "stop")), 0, for_s)]
    kinds = {"absent": "weights_absent", "away": "models_away", "anew": "models_anew", "junk": "models_junk"}
    return [Event(at_s, kinds.get(way, way), which, for_s, share)]
