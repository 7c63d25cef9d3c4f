"""Faults that belong together: the worlds in which a rare order of things is likely.

Single faults at random times seldom meet: a zombie that claims while its successor has two batches on their way, or a
handover while the markers of a transaction are late. Each story draws such a meeting, with times of its own, beside
the faults that a world has anyway.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from events import Event

CLAIMS: Final = ("assigned", "before_fence", "before_claim", "after_fence", "after_claim", "before_replay")
SEEKS: Final = ("assigned", "assigned", "before_fence")
LATE: Final = ("assigned", "before_fence", "before_fence", "before_claim", "before_claim", "after_fence")
CHECKPOINTS: Final = ("before_checkpoint", "within_checkpoint", "between_legs", "after_commit", "after_publish")
OUTAGE_S: Final = 34.0  # longer than a partition may be held up: see `liveness`
LOADING: Final = 2  # of the errors of `world_faults.coordinator_away`: heartbeats get yes, and all else an error


def _burst(chance: random.Random, at_s: float, pings: int, odds: tuple[str, ...] = ("",)) -> list[Event]:
    """Returns pings so close together that two batches are on their way."""
    return [
        Event(round(at_s + number * 0.0005, 4), "ping", chance.randrange(6), odd=chance.choice(odds))
        for number in range(pings)
    ]


def _bursts(chance: random.Random, from_s: float, to_s: float, every_s: float = 0.7) -> list[Event]:
    """Returns bursts of pings, some of which are refused with a dead letter."""
    found, at_s = [], from_s
    while at_s < to_s:
        found += _burst(chance, at_s, 9, ("", "", "junk"))
        at_s += every_s
    return found


def tell_late_claim(chance: random.Random) -> list[Event]:
    """A worker stands still in the middle of a takeover for longer than its session, and then goes on with it."""
    at_s = 3.0 + chance.random() * 2
    pause_s = chance.uniform(6.5, 9.5)
    return [
        Event(at_s, "pause_at", 0, pause_s, point=chance.choice(LATE), times=chance.choice((1, 1, 2))),
        Event(at_s + 0.2, "stop", chance.randrange(3), 0.5),
        *_bursts(chance, at_s + 6.0, at_s + 13.0),
    ]


def tell_late_claim_and_evictions(chance: random.Random) -> list[Event]:
    """The same, while Redis evicts states again and again."""
    found = tell_late_claim(chance)
    at_s = found[0].at_s + 5.0
    return found + [Event(at_s + 0.6 * number, "redis_evicts", 0, 0.0, 0.9) for number in range(12)]


def tell_late_markers(chance: random.Random) -> list[Event]:
    """Partitions are given away while the ends of transactions are decided and not marked."""
    at_s = 4.0 + chance.random() * 3
    return [
        Event(at_s, "late_markers", 0, chance.uniform(5, 9)),
        *_bursts(chance, at_s, at_s + 4.0, 0.4),
        Event(at_s + chance.uniform(0.5, 4.0), chance.choice(("stop", "stop", "kill")), chance.randrange(3), 1.0),
    ]


def tell_lost_claim(chance: random.Random) -> list[Event]:
    """Redis loses a claim while offsets are on their way for long."""
    at_s = 5.0 + chance.random() * 4
    slow = chance.choice(("storm", "coordinator_away", "coordinator_away"))
    lost = chance.choice(("redis_lost", "redis_older"))
    return [
        *_bursts(chance, at_s - 0.4, at_s + 4.0, 0.3),
        Event(at_s, slow, LOADING, chance.uniform(1.5, 4)),
        Event(at_s + chance.uniform(-0.3, 0.8), lost, 0, 0.3),
    ]


def tell_evictions(chance: random.Random) -> list[Event]:
    """Redis evicts states, and whoever rebuilds them dies."""
    at_s = 5.0 + chance.random() * 5
    return [
        Event(at_s, "redis_evicts", 0, 0.0, 0.9),
        Event(at_s + chance.uniform(0.0, 0.5), "kill_at", point=chance.choice((*CHECKPOINTS, *CLAIMS[2:]))),
        Event(at_s + chance.uniform(2, 9), "redis_evicts", 0, 0.0, 0.9),
    ]


def tell_flapping_coordinator(chance: random.Random) -> list[Event]:
    """The coordinator moves again and again while partitions are taken over."""
    at_s, which = 3.5 + chance.random() * 4, chance.choice((0, 1, LOADING, LOADING, LOADING, LOADING))
    begin = Event(at_s, chance.choice(("stop", "stop", "redis_lost")), chance.randrange(3), 0.5)
    if chance.random() < 0.6:
        return [begin, Event(at_s, "roll_at", 0, chance.uniform(1.0, 4.0), point=chance.choice(SEEKS))]
    return [
        begin,
        Event(at_s, "pause_at", 0, chance.uniform(0.2, 1.5), point=chance.choice(SEEKS)),
        *(Event(at_s + 0.1 + 0.8 * number, "coordinator_away", which, 0.4) for number in range(7)),
    ]


def tell_lost_brokers(chance: random.Random) -> list[Event]:
    """Workers lose all brokers in the middle of their work."""
    at_s = 4.0 + chance.random() * 6
    found = _bursts(chance, at_s - 0.5, at_s + 1.5, 0.2)
    if chance.random() < 0.6:
        point = chance.choice(("before_end", "before_end", "after_publish", "before_publish"))
        kind = chance.choice(("cut_at", "roll_at", "roll_at", "roll_at"))
        late = [Event(at_s + 5.0 * more, kind, 0, chance.uniform(2, 9), point=point) for more in range(2)]
        return [*found, *_bursts(chance, at_s + 4.5, at_s + 6.0, 0.2), *late]
    for number in range(chance.choice((1, 3, 3))):
        found.append(Event(at_s, "cut_kafka", number, chance.uniform(1, 12)))
    return [*found, Event(at_s, "break")]


def tell_poison(chance: random.Random) -> list[Event]:
    """A ping at which a step raises is answered, and its worker dies before a checkpoint has the quarantine."""
    at_s = 4.0 + chance.random() * 7
    return [
        Event(at_s, "kill_at", point=chance.choice(CHECKPOINTS), times=chance.choice((1, 2))),
        *_burst(chance, at_s + 0.01, 3, ("poison", "")),
        Event(at_s + 0.02, "ping", chance.randrange(6), odd="poison"),
    ]


def tell_outage(chance: random.Random) -> list[Event]:
    """Redis is away for long, and nothing else is wrong: partitions that need nothing of it go on."""
    at_s = 6.0 + chance.random() * 2
    gone = chance.choice(("redis_restarts", "cut_redis"))
    found = [Event(at_s, gone, number, OUTAGE_S) for number in range(3 if gone == "cut_redis" else 1)]
    if chance.random() < 0.7:  # so that a partition is to be taken over anew just then
        lost = chance.choice(("redis_evicts", "redis_lost"))
        found += _bursts(chance, at_s - 0.9, at_s + 1.5, 0.1)
        found.append(Event(at_s - chance.uniform(0.05, 0.7), lost, 0, 0.0, 0.7))
    late_s = at_s + 0.1
    while late_s < at_s + OUTAGE_S:
        found += _burst(chance, late_s, chance.choice((1, 3, 12)))
        late_s += chance.expovariate(1 / 0.6)
    return found


def tell_clocks(chance: random.Random) -> list[Event]:
    """A vehicle's clock is a day ahead for one ping, and right for the next ones, whose records have no time."""
    at_s, which = 4.0 + chance.random() * 6, chance.randrange(6)
    return [
        Event(at_s, "ping", which, odd="ahead"),
        *(Event(at_s + 0.3 + 0.2 * number, "ping", which, odd="live") for number in range(3)),
        Event(at_s + chance.uniform(0.5, 3), "kill", chance.randrange(3)),
    ]


def tell_filled_gap(chance: random.Random) -> list[Event]:
    """One batch has the ping that ends a silence, and a late one within the silence."""
    found = []
    for _ in range(4):
        at_s, which = 4.0 + chance.random() * 10, chance.randrange(6)
        odds = ("gap", "late", "") if chance.random() < 0.7 else ("gap", "", "late")
        found += [Event(round(at_s + 0.001 * at, 4), "ping", which, odd=odd) for at, odd in enumerate(odds)]
    return found


def tell_early_rebalance(chance: random.Random) -> list[Event]:
    """The group changes while nothing is committed yet, for Redis is away, and records are there."""
    stops = [Event(0.8 + number + chance.random(), "stop", chance.randrange(3), 0.2) for number in range(3)]
    return [*_burst(chance, 0.0, 9), Event(0.0, "redis_restarts", 0, 5.0), *stops]


class Story(NamedTuple):
    tell: Callable[[random.Random], list[Event]]
    weight: int  # how often it is told, beside others
    pins: Mapping[str, Any] = {}  # sizes of the plan without which it comes to nothing


STORIES: Final[Mapping[str, Story]] = {
    "late_claim": Story(tell_late_claim, 4, {"max_batch": 2}),
    "late_claim_and_evictions": Story(tell_late_claim_and_evictions, 1, {"max_entities": 2, "checkpoint_ms": 3_000.0}),
    "late_markers": Story(tell_late_markers, 2, {"exactly_once": True}),
    "lost_claim": Story(tell_lost_claim, 2, {"checkpoint_ms": 50.0}),
    "evictions": Story(tell_evictions, 1),
    "flapping_coordinator": Story(tell_flapping_coordinator, 2),
    "lost_brokers": Story(tell_lost_brokers, 2, {"exactly_once": True}),
    "poison": Story(tell_poison, 1),
    "outage": Story(tell_outage, 2, {"max_batch": 2, "workers": 1, "partitions": 2}),
    "clocks": Story(tell_clocks, 1),
    "filled_gap": Story(tell_filled_gap, 1),
    "early_rebalance": Story(tell_early_rebalance, 1),
}
TOLD: Final = 0.6  # of the worlds have a story
CALM: Final = {"outage", "filled_gap", "clocks"}  # they have no other faults


def choose_story(chance: random.Random) -> str:
    """Returns the name of a story, or "" for none."""
    if chance.random() >= TOLD:
        return ""
    return chance.choices(list(STORIES), [story.weight for story in STORIES.values()])[0]
