"""What a seed makes happen in a world: its sizes, and events with their times. A plan can be written down and read
again, so that a smaller one, of which events were left out, shows the same."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

import msgspec
from events import Event
from stories import CALM, STORIES, choose_story

from stream.config import failpoints

FED_S: Final = 12.0  # pings come for so long
FIRST_S: Final = 3.0  # after the start: the workers have their partitions
SESSION_S: Final = 6.0  # the shortest that brokers allow

# How often each fault is drawn, beside others.
FAULTS: Final[Mapping[str, int]] = {
    "kill": 4,
    "kill_at": 8,
    "stop": 2,
    "pause": 4,
    "pause_at": 4,
    "cut_at": 1,
    "roll_at": 2,
    "cut_kafka": 2,
    "cut_redis": 3,
    "storm": 2,
    "break": 2,
    "elect": 2,
    "no_leader": 1,
    "coordinator_away": 2,
    "late_markers": 2,
    "redis_lost": 1,
    "redis_older": 2,
    "redis_evicts": 2,
    "redis_refuses": 1,
    "redis_restarts": 1,
    "elect_unclean": 1,
    "retain": 1,
    "topic_anew": 1,
}


CUTS: Final = {"elect_unclean", "topic_anew"}  # faults by which the log itself loses something


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A world that can be run again."""

    seed: int
    exactly_once: bool
    partitions: int
    workers: int
    entities: int
    max_batch: int
    max_entities: int  # in memory of a worker
    checkpoint_ms: float
    leg: int  # entities of one write of a checkpoint
    is_static: bool  # workers are static members of their group
    clocks_off_s: tuple[float, ...]
    events: tuple[Event, ...]
    story: str = ""  # of `stories`: faults that belong together

    def without(self, left_out: set[int]) -> Plan:
        """Returns a plan that lacks the events with these indices."""
        events = tuple(event for at, event in enumerate(self.events) if at not in left_out)
        return msgspec.structs.replace(self, events=events)

    @property
    def kinds(self) -> set[str]:
        return {event.kind for event in self.events}


ODD: Final = ("late", "again", "junk", "jump", "gap", "poison", "blank", "timeless", "forget")
OWN_POINTS: Final = ("assigned", "before_fence", "before_claim")  # of `simulated_worker`, beside the failpoints


def draw_plan(seed: int) -> Plan:
    """Returns the plan of a seed."""
    chance = random.Random(f"plan {seed}")
    partitions, workers = chance.choice((1, 1, 2, 3)), chance.choice((1, 2, 2, 3))
    entities = chance.randint(2, 6)
    events = _pings(chance, entities) + _faults(chance, workers, partitions)
    plan = Plan(
        seed=seed,
        exactly_once=chance.random() < 0.5,
        partitions=partitions,
        workers=workers,
        entities=entities,
        max_batch=chance.choice((2, 4, 8, 64)),
        max_entities=chance.choice((2, 4, 64)),
        checkpoint_ms=chance.choice((50.0, 300.0, 1_000.0, 3_000.0)),
        leg=chance.choice((2, 512)),
        is_static=chance.random() < 0.2,
        clocks_off_s=tuple(chance.choice((0.0, 0.0, chance.uniform(-100, 100))) for _ in range(workers)),
        events=tuple(sorted(events, key=lambda event: event.at_s)),
    )
    return _add_story(plan, random.Random(f"story {seed}"))


def _add_story(plan: Plan, chance: random.Random) -> Plan:
    """Returns the plan with a story, if it is to have one. Half of them have no other faults."""
    name = choose_story(chance)
    if not name:
        return plan
    story = STORIES[name]
    alone = name in CALM or chance.random() < 0.5
    events = [event for event in plan.events if not alone or event.kind in ("ping", "aborted")] + story.tell(chance)
    sizes = {"workers": max(2, plan.workers), **story.pins}
    return msgspec.structs.replace(
        plan,
        story=name,
        clocks_off_s=(*plan.clocks_off_s, 0.0)[: sizes["workers"]],
        events=tuple(sorted(events, key=lambda event: event.at_s)),
        **sizes,
    )


def _pings(chance: random.Random, entities: int) -> list[Event]:
    events, at_s = [], FIRST_S * chance.random()
    mean_s = chance.choice((0.08, 0.15, 0.4))
    while at_s < FIRST_S + FED_S:
        at_s += chance.expovariate(1 / mean_s)
        odd = chance.choice(ODD) if chance.random() < 0.12 else ""
        events.append(Event(round(at_s, 4), "ping", chance.randrange(entities), odd=odd))
        if chance.random() < 0.02:
            events.append(Event(round(at_s, 4), "aborted", chance.randrange(entities)))
    return events


def _faults(chance: random.Random, workers: int, partitions: int) -> list[Event]:
    kinds, weights = list(FAULTS), list(FAULTS.values())
    events = []
    for _ in range(chance.choice((0, 1, 2, 2, 3, 4, 6))):
        kind = chance.choices(kinds, weights)[0]
        at_s = round(FIRST_S * 0.3 + chance.random() * (FED_S + FIRST_S * 0.7), 4)
        for_s = round(chance.choice((0.3, 1.0, 4.0, 8.0)) * (0.5 + chance.random()), 3)
        at_point = kind.endswith("_at")
        events.append(
            Event(
                at_s,
                kind,
                chance.randrange(12),
                for_s,
                round(chance.random(), 3),
                chance.choice([*failpoints.NAMES, *OWN_POINTS]) if at_point else "",
                chance.choice((1, 1, 2, 3)) if at_point else 1,
            )
        )
    return events


def write_plan(plan: Plan) -> str:
    """Returns a plan as a line of JSON."""
    return msgspec.json.encode(plan).decode()


def read_plan(text: str | bytes) -> Plan:
    """Returns the plan of such a line. Raises msgspec.ValidationError."""
    return msgspec.json.decode(text, type=Plan)
