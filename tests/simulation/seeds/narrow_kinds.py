"""Kinds of worlds in which one thing is likely to meet another: for meetings that other kinds have too seldom.

slow      a second member comes while the first one waits for a server in a takeover, and is given what comes next
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace
from plans import Beside, Event, Plan

EVERY: Final = 40  # of so many seeds, one draws a kind of these: all other seeds draw what they drew before
AT: Final = 39
SLOW: Final = ("latest", "arrivals", "scores", "atlas", "archive")


def is_narrow(seed: int) -> bool:
    return seed % EVERY == AT


def draw_narrow(plan: Plan, chance: random.Random) -> Plan:
    """Returns a plan of one of these kinds, with the pings of a plain plan."""
    kind = chance.choice(list(KINDS))
    pings = [event for event in plan.events if event.kind in ("ping", "aborted")]
    made, faults = KINDS[kind](replace(plan, world=kind, story="", members=()), chance)
    return replace(made, events=tuple(sorted([*pings, *faults], key=lambda event: event.at_s)))


def _slow(plan: Plan, chance: random.Random) -> tuple[Plan, list[Event]]:
    kind, slow_s = chance.choice(SLOW), round(chance.uniform(3.0, 8.0), 3)
    first_s = round(chance.uniform(2.0, 5.0), 3)
    later_s = [round(first_s + chance.uniform(1.0, 4.0), 3) for _ in range(chance.choice((1, 1, 2)))]
    members = tuple(Beside(kind, begins_s=begins_s) for begins_s in (first_s, *later_s))
    return replace(plan, partitions=3, members=members), [Event(0.0, "slow_at", 0, slow_s, point=f"{kind}:taking")]


KINDS: Final[dict[str, Callable[[Plan, random.Random], tuple[Plan, list[Event]]]]] = {
    "slow": _slow,
}
