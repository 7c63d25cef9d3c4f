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
    "fence": 1,
    "forget_command": 1,
}


CUTS: Final = {"elect_unclean", "topic_anew"}  # faults by which the log itself loses something


class Beside(msgspec.Struct, frozen=True, omit_defaults=True):
    """A member beside the workers."""

    kind: str  # of `simulated_members.MAKERS`
    clock_off_s: float = 0.0
    begins_s: float = 0.0
    most_polled: int = 0  # records of a poll; 0: as many as there are
    once: bool = False  # it ends at the present end, and is started again


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
    world: str = "plain"  # or one of `plan_kinds.KINDS`
    members: tuple[Beside, ...] = ()
    refreshers: tuple[float, ...] = ()  # percent of the entities that each gives to a canary; 0: it promotes at once

    def without(self, left_out: set[int]) -> Plan:
        """Returns a plan that lacks the events with these indices."""
        events = tuple(event for at, event in enumerate(self.events) if at not in left_out)
        return msgspec.structs.replace(self, events=events)

    @property
    def kinds(self) -> set[str]:
        return {event.kind for event in self.events}


ODD: Final = ("late", "again", "junk", "jump", "gap", "poison", "blank", "timeless", "forget")
OWN_POINTS: Final = ("assigned", "before_fence", "before_claim")  # of `simulated_worker`, beside the failpoints


def draw_plain_plan(seed: int) -> Plan:
    """Returns a plan in which everything is drawn alike."""
    chance = random.Random(f"plan {seed}")
    partitions, workers = chance.choice((1, 1, 2, 3)), chance.choice((1, 2, 2, 3))
    entities = chance.randint(2, 6)
    events = _pings(chance, entities) + _faults(chance, workers, partitions)
    beside = random.Random(f"members {seed}")  # so that the rest of a world is the same with members and without
    members = _members(beside)
    events += _faults_beside(beside, members, workers, partitions)
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
        members=members,
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


# -- members beside the workers

BESIDE: Final = ("latest", "scores", "atlas", "archive", "arrivals")
BESIDE_SHARE: Final = 0.4  # of the worlds
ANSWER_CUTS: Final = {"answers_cut", "answers_anew"}  # the forecasts lose something, which no worker can mend
# What is done to members, or to what they read and write; and to which kinds of them, where that is not all.
FAULTS_BESIDE: Final[Mapping[str, tuple[int, str]]] = {
    "kill": (4, ""),
    "stop": (4, ""),
    "pause": (3, ""),
    "kill_at": (5, ""),
    "pause_at": (4, ""),
    "slow_at": (4, ""),
    "cut_kafka": (1, ""),
    "cut_redis": (1, "atlas"),
    "output_refused": (3, "latest scores"),
    "input_away": (3, "latest scores arrivals"),
    "answers_cut": (1, "latest scores arrivals"),
    "answers_anew": (2, "latest scores arrivals"),
    "stranger": (4, "latest scores arrivals"),
    "id_unanswered": (2, "latest arrivals"),
    "days_evicted": (8, "atlas"),
    "growth_evicted": (1, "atlas"),
    "elect_unclean": (3, "atlas archive"),
    "topic_anew": (1, "atlas archive"),
    "ping_of_years": (3, "atlas"),
    "left_announced": (2, "atlas"),
    "archive_forgets": (5, "archive"),
    "landing_unanswered": (4, "archive"),
}
POINTS_BESIDE: Final[Mapping[str, tuple[str, ...]]] = {
    "latest": ("after_publish", "before_end", "after_commit"),
    "arrivals": ("after_publish", "before_end", "after_commit"),
    "scores": ("before_publish", "after_publish", "after_commit"),
    "atlas": ("after_days",),
    "archive": (
        *("before_landing", "before_landed", "after_landed", "after_tombstone"),
        *("before_forgotten", "after_forgotten", "within_clearing"),
    ),
}
TAKING: Final = ("before_taking", "taking")  # points of `member_watch`, which every kind has


def _members(chance: random.Random) -> tuple[Beside, ...]:
    """Draws one or two kinds of members, and how many of each."""
    if chance.random() >= BESIDE_SHARE:
        return ()
    return tuple(
        Beside(
            kind,
            clock_off_s=chance.choice((0.0, 0.0, chance.uniform(-100, 100))),
            begins_s=chance.choice((0.0, 0.0, round(chance.uniform(3, 11), 3))),
            most_polled=chance.choice((0, 1, 4, 20)),
            once=kind == "scores" and chance.random() < 0.2,
        )
        for kind in chance.sample(BESIDE, chance.choice((1, 1, 2)))
        for _ in range(chance.choice((1, 2, 2, 3)))
    )


def _faults_beside(chance: random.Random, members: tuple[Beside, ...], workers: int, partitions: int) -> list[Event]:
    kinds = {one.kind for one in members}
    able = {name: weight for name, (weight, of) in FAULTS_BESIDE.items() if not of or kinds & set(of.split())}
    events = []
    for _ in range(chance.choice((0, 1, 2, 3, 4)) if members else 0):
        name, which = chance.choices(list(able), list(able.values()))[0], chance.randrange(len(members))
        kind = members[which].kind
        point = f"{kind}:{chance.choice((*POINTS_BESIDE[kind], *TAKING))}" if name.endswith("_at") else ""
        events.append(
            Event(
                round(FIRST_S * 0.5 + chance.random() * (FED_S + FIRST_S * 0.4), 4),
                name,
                workers + which if name in ("kill", "stop", "pause", "cut_kafka", "cut_redis") else which,
                round(chance.choice((1.0, 4.0, 8.0, 12.0)) * (0.5 + chance.random()), 3),
                round(chance.random(), 3),
                f"{kind}:taking" if name == "slow_at" else point,
                chance.choice((1, 1, 2)) if point else 1,
            )
        )
    return events
