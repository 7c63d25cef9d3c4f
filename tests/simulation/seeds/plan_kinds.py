"""Kinds of worlds. Every second seed draws one, in which things meet that seldom do in a plain world.

cold      few entities are in memory, and Redis is away, older, empty or slow while others send
cut       a log loses its end while its worker is away, dead between two writes, or at work
fenced    members are removed and producers fenced by an operator, while checkpoints wait for commits
retained  records are deleted that a worker has not read, as it stands still
alone     Redis refuses one partition, and nothing else happens
versions  weights are announced, by makers that die or stand still; the topic of versions is away, or anew
calm      nothing happens but odd pings

Of seeds that leave LATER_AT if divided by LATER_EVERY, a later kind is drawn instead, so that all others stay what they
were before there was one:

atlases   versions of the atlas are made and asked; their makers die or stand still, their folder is away
refresh   weights are refreshed, by who dies or stands still at any step of a round, or by two of them
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import atlas_faults
import refresh_faults
from msgspec.structs import replace
from narrow_kinds import draw_narrow, is_narrow
from plans import Event, Plan, draw_plain_plan

FIRST_S: Final = 4.0  # the first fault: by then each entity was seen
LAST_S: Final = 14.0
READ_REFUSALS: Final = (0, 1, 2)  # BUSY, LOADING and MASTERDOWN, in the order of their names: nothing can be read


def draw_plan(seed: int) -> Plan:
    """Returns the plan of a seed: a plain one, or one of a kind, of `narrow_kinds`, too."""
    plan = draw_plain_plan(seed)
    if seed % LATER_EVERY == LATER_AT:
        kind = LATER[seed // LATER_EVERY % len(LATER)]
        made, events = LATER_KINDS[kind](replace(plan, world=kind, story=""), random.Random(f"later kind {seed}"))
        return replace(made, events=tuple(sorted(events, key=lambda event: event.at_s)))
    if is_narrow(seed):
        return draw_narrow(plan, random.Random(f"narrow {seed}"))
    return draw_kind(plan, random.Random(f"kind {seed}")) if seed % 2 else plan


def draw_kind(plan: Plan, chance: random.Random) -> Plan:
    """Returns a plan of a kind, with the pings of a plain plan."""
    kind = chance.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
    pings = [event for event in plan.events if event.kind in ("ping", "aborted")]
    members = () if kind in QUIET else plan.members
    made, faults = KINDS[kind][1](replace(plan, world=kind, story="", members=members), chance)
    if kind not in QUIET and chance.random() < 0.3:
        faults += [event for event in plan.events if event not in pings][:1]
    if kind in FORGETS and chance.random() < 0.5:
        faults += [Event(_at(chance), "forget_command", chance.randrange(12)) for _ in range(2)]
    odd = OFTEN.get(kind)
    if odd is not None:
        pings = [replace(one, odd=odd) if not one.odd and chance.random() < 0.06 else one for one in pings]
    return replace(made, events=tuple(sorted([*pings, *faults], key=lambda event: event.at_s)))


def _at(chance: random.Random, first_s: float = FIRST_S, last_s: float = LAST_S) -> float:
    return round(chance.uniform(first_s, last_s), 4)


def _cold(plan: Plan, chance: random.Random) -> tuple[Plan, list[Event]]:
    at_s, for_s = _at(chance, last_s=9.0), round(chance.uniform(5.2, 9.0), 3)
    what = chance.choice(("redis_restarts", "redis_refuses", "cut_redis", "redis_older", "redis_lost", "storm", ""))
    faults = []
    if what == "redis_older":
        faults += [Event(at_s, what, 0, chance.choice((0.3, 1.0, 3.0))), Event(at_s + 4.0, what, 0, 0.3)]
    elif what == "redis_lost":
        faults += [Event(at_s, what), Event(at_s + 4.0, what)]
    elif what:
        faults.append(Event(at_s, what, chance.choice(READ_REFUSALS), for_s))
    made = replace(
        plan,
        workers=chance.choice((1, 1, 2)),
        clocks_off_s=plan.clocks_off_s[:1] * 2,
        partitions=chance.choice((1, 2)),
        entities=chance.randint(4, 8),
        max_entities=chance.choice((1, 2)),
        checkpoint_ms=chance.choice((50.0, 300.0, 1_000.0)),
        leg=2,
    )
    return made, faults


def _cut(plan: Plan, chance: random.Random) -> tuple[Plan, list[Event]]:
    at_s = _at(chance, last_s=10.0)
    way = chance.choice(("at work", "between writes", "away", "dead", "anew", "anew while away"))
    faults, times = [], chance.choice((1, 2, 4))
    unclean = Event(round(at_s + chance.uniform(0.1, 1.5), 4), "elect_unclean", 0, 0.0, round(chance.random(), 3))
    if way == "between writes":
        faults.append(Event(at_s, "kill_at", 0, 0.0, 0.0, chance.choice(("between_legs", "within_checkpoint"))))
    elif way in ("away", "anew while away"):
        faults.append(Event(at_s, "stop", 0, round(chance.uniform(4.0, 7.0), 3)))
    elif way == "dead":
        faults.append(Event(at_s, "kill"))
    if way.startswith("anew"):
        faults.append(replace(unclean, kind="topic_anew", for_s=round(chance.uniform(0.0, 4.0), 3)))
    else:
        faults.append(replace(unclean, times=times))
        if chance.random() < 0.3:
            faults.append(replace(unclean, at_s=round(unclean.at_s + 4.0, 4)))
    made = replace(
        plan,
        workers=1,
        partitions=1,
        entities=chance.randint(3, 6),
        checkpoint_ms=chance.choice((50.0, 300.0, 20_000.0)),
        leg=2,
        is_static=chance.random() < 0.5,
    )
    if way == "anew":  # early, and without a checkpoint: nothing but the worker's memory says that there was another
        at_s = _at(chance, 3.2, 4.2)
        faults = [Event(at_s, "topic_anew", 0, 0.4), Event(round(at_s + 0.1, 4), "pause", 0, chance.uniform(4.0, 5.5))]
        made = replace(made, checkpoint_ms=20_000.0)
    return made, faults


def _fenced(plan: Plan, chance: random.Random) -> tuple[Plan, list[Event]]:
    faults = [Event(_at(chance), "fence", chance.randrange(12)) for _ in range(chance.randint(3, 8))]
    if chance.random() < 0.3:
        faults.append(Event(_at(chance), "storm", 0, 4.0))
    return replace(plan, checkpoint_ms=50.0, max_entities=chance.choice((2, 64)), leg=chance.choice((2, 512))), faults


def _retained(plan: Plan, chance: random.Random) -> tuple[Plan, list[Event]]:
    at_s = _at(chance, last_s=10.0)
    stands_s = round(chance.uniform(2.5, 5.0), 3)  # shorter than its session: it stays the owner
    later_s = round(at_s + stands_s * chance.uniform(0.5, 0.95), 4)
    faults = [Event(at_s, "pause", 0, stands_s), Event(later_s, "retain", chance.randrange(12), 0.0, 0.99)]
    return replace(plan, workers=1, partitions=chance.choice((1, 2))), faults


def _alone(plan: Plan, chance: random.Random) -> tuple[Plan, list[Event]]:
    made = replace(
        plan,
        workers=1,
        partitions=chance.choice((2, 3)),
        entities=8,
        max_entities=64,
        checkpoint_ms=chance.choice((50.0, 300.0, 1_000.0)),
    )
    return made, [Event(FIRST_S, "refuse_partition", chance.randrange(12), 14.0)]


def _calm(plan: Plan, chance: random.Random) -> tuple[Plan, list[Event]]:
    made = replace(
        plan, workers=1, checkpoint_ms=chance.choice((50.0, 3_000.0)), max_entities=chance.choice((1, 2, 64)), leg=2
    )
    return made, []


def _versions(plan: Plan, chance: random.Random) -> tuple[Plan, list[Event]]:
    faults = [Event(_at(chance, 3.0, 10.0), "announce", which) for which in range(chance.randint(1, 3))]
    for way in chance.sample(("between steps", "two makers", "absent", "away", "anew", "junk", "pings"), 2):
        at_s, for_s = _at(chance, 3.0, 11.0), round(chance.uniform(0.5, 6.0), 3)
        if way == "between steps":
            kind = chance.choice(("kill_at", "pause_at"))
            faults.append(Event(2.0, kind, 0, for_s, 0.0, "within_announcement", chance.choice((1, 1, 2))))
        elif way == "two makers":
            faults.append(Event(2.0, "pause_at", 0, for_s, 0.0, "within_announcement"))
            first_s = min(event.at_s for event in faults if event.kind == "announce")
            faults.append(Event(round(first_s + chance.uniform(1.0, 3.0), 4), "announce", 2))
        elif way == "absent":
            faults.append(Event(1.0, "weights_absent", chance.randrange(3), for_s + 8.0))
        elif way == "away":
            faults += [Event(at_s, "models_away", 0, for_s), Event(round(at_s + for_s + 2.0, 4), "models_away", 0, 1.0)]
        elif way == "anew":
            faults += [Event(at_s, "models_anew", 0, 0.5), Event(round(at_s + 1.5, 4), "announce", 1)]
        elif way == "junk":
            faults.append(Event(at_s, "models_junk", chance.randrange(3)))
        elif chance.random() < 0.3:
            faults += [Event(at_s, "topic_anew", 0, 0.5), Event(round(at_s + 3.5, 4), "announce", 1)]
    made = replace(plan, partitions=chance.choice((1, 1, 2)), workers=chance.choice((1, 2)), entities=4)
    return replace(made, clocks_off_s=plan.clocks_off_s[:1] * 2), faults


Draw = Callable[[Plan, random.Random], tuple[Plan, list[Event]]]
KINDS: Final[dict[str, tuple[int, Draw]]] = {
    "cold": (4, _cold),
    "cut": (4, _cut),
    "fenced": (2, _fenced),
    "retained": (1, _retained),
    "alone": (1, _alone),
    "versions": (3, _versions),
    "calm": (2, _calm),
}
LATER_EVERY, LATER_AT = 20, 9
LATER_KINDS: Final[dict[str, Draw]] = {"atlases": atlas_faults.draw, "refresh": refresh_faults.draw}
LATER: Final = ("atlases", "refresh")
OFTEN: Final = {"cold": "forget", "calm": "poison"}  # which odd pings come more often
FORGETS: Final = {"cold", "calm"}  # kinds in which somebody gives the command
QUIET: Final = {"alone", "calm"}  # kinds to which no other fault is added: what must hold in them would not
