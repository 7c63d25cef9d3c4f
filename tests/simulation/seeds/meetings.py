"""Notes what happens in a world, and which things met: a crash while a commit was on its way, an election within the
seconds of a rebalance. It changes nothing in the world.

A commit lasts from the moment at which its answers are published to the one at which it is done, and has met what
happens within that time. Of all others, two have met if at most NEAR_S lie between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product
from typing import Final

from events import Event
from virtual_loop import Host

NEAR_S: Final = 3.0
LONGEST_S: Final = 6.0  # of a commit or a rebalance whose end nobody has seen
OTHER: Final = "other"
COMMIT: Final = ("commit",)
REBALANCE: Final = ("rebalance",)
# By group, the kinds of faults that it has. What no group has is "other".
GROUPS: Final = {
    "commit": "",
    "rebalance": "",
    "crash": "kill",
    "pause": "pause",
    "stop": "stop",
    "network": "cut_kafka storm break",
    "broker": "roll coordinator_away fence late_markers",
    "election": "elect elect_unclean no_leader input_away",
    "cut": "elect_unclean topic_anew retain answers_cut answers_anew",
    "outage": "cut_redis redis_refuses redis_restarts refuse_partition",
    "loss": "redis_lost redis_older redis_evicts days_evicted growth_evicted",
    "versions": "announce weights_absent models_away models_anew models_junk left_announced folder_away",
    OTHER: "",
}
GROUPS_OF: Final = {
    kind: tuple(group for group, kinds in GROUPS.items() if kind in kinds.split())
    for kind in " ".join(GROUPS.values()).split()
}
# Faults that are noted when they meet a host: those at a point of its work happen later than their event.
OF_HOSTS: Final = {
    *("kill", "pause", "stop", "cut_kafka", "cut_redis", "kill_at", "pause_at", "cut_at", "roll_at"),
}
COMMIT_BEGINS: Final = {"after_publish", "before_end"}
REBALANCE_BEGINS: Final = {"assigned", "before_taking"}
REBALANCE_ENDS: Final = {"before_replay", "before_publish", "after_publish"}


@dataclass
class Happening:
    """Something that lasts for a time."""

    groups: Sequence[str]
    begin_s: float
    end_s: float

    def meets(self, other: Happening) -> bool:
        near_s = 0.0 if COMMIT in (self.groups, other.groups) else NEAR_S
        return self.begin_s - near_s <= other.end_s and other.begin_s - near_s <= self.end_s


class Meetings:
    """What happens in one world."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all: list[Happening] = []
        self._at_work: dict[tuple[Sequence[str], Host], Happening] = {}  # commits and rebalances that go on
        self.kinds: set[str] = set()  # of the faults that there were

    def note(self, event: Event) -> None:
        """Notes an event of the plan."""
        if event.kind not in ("ping", "aborted") and event.kind not in OF_HOSTS:
            self._happen(event.kind, event.for_s)

    def note_fault(self, fault: str, host: Host, for_s: float) -> None:
        """Notes a fault that meets a host now."""
        self._happen(fault, for_s)
        if fault == "kill":
            self._end(COMMIT, host)
            self._end(REBALANCE, host)

    def note_point(self, point: str, host: Host) -> None:
        """Notes that a host has come to a point of its work."""
        if point in REBALANCE_ENDS:
            self._end(REBALANCE, host)
        if point in COMMIT_BEGINS:
            self._begin(COMMIT, host)
        elif point == "after_commit":
            self._end(COMMIT, host)
        elif point in REBALANCE_BEGINS:
            self._begin(REBALANCE, host)

    def list_met(self) -> set[str]:
        """Returns which groups met, each pair in the order of GROUPS."""
        # Commits are many, and two of them are no meeting of faults.
        others = [one for one in self._all if one.groups != COMMIT]
        commits = (one for one in self._all if one.groups == COMMIT)
        pairs = chain(combinations(others, 2), product(commits, others))
        met = (product(one.groups, other.groups) for one, other in pairs if one.meets(other))
        return {name_pair(*both) for both in chain.from_iterable(met)}

    def _happen(self, kind: str, for_s: float) -> None:
        now_s = self._clock()
        self.kinds.add(kind)
        self._all.append(Happening(GROUPS_OF.get(kind, (OTHER,)), now_s, now_s + for_s))

    def _begin(self, groups: Sequence[str], host: Host) -> None:
        self._end(groups, host)
        now_s = self._clock()
        self._at_work[groups, host] = Happening(groups, now_s, now_s + LONGEST_S)
        self._all.append(self._at_work[groups, host])

    def _end(self, groups: Sequence[str], host: Host) -> None:
        going_on = self._at_work.pop((groups, host), None)
        if going_on is not None:
            going_on.end_s = min(going_on.end_s, self._clock())


def name_pair(one: str, other: str) -> str:
    """Returns the name of a pair of groups, whichever comes first."""
    order = list(GROUPS)
    return "+".join(sorted((one, other), key=order.index))


def list_pairs() -> Iterator[tuple[str, str]]:
    """Yields all pairs of groups that can meet."""
    groups = list(GROUPS)
    for at, one in enumerate(groups):
        for other in groups[at:]:
            if (one, other) != ("commit", "commit"):
                yield one, other
