"""Runs worlds by their seeds, in several processes, and makes what fails smaller."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from plan_kinds import draw_plan
from plans import Plan
from play import Outcome, play

CHUNK: Final = 4  # seeds that a process is given at a time
SHRUNK_IN: Final = 250  # worlds at most, to make one that fails smaller


@dataclass
class Tally:
    """What many worlds came to."""

    worlds: int = 0
    found: list[tuple[int, list[str]]] = field(default_factory=list)  # seeds, and what is wrong
    events: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)  # how many worlds had each, by its kind
    met: Counter[str] = field(default_factory=Counter)  # in how many worlds two groups of `meetings` met
    virtual_s: float = 0.0
    requests: int = 0
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        self.worlds += 1
        self.virtual_s += outcome.lasted_s
        self.requests += outcome.requests
        self.events.update(outcome.events)
        self.faults.update(outcome.faults)
        self.met.update(outcome.met)
        if not outcome.is_sound:
            self.found.append((outcome.plan.seed, outcome.findings))


def fix_hashes() -> None:
    """Starts this program again if the hashes of texts differ from run to run: they decide the order of sets."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})


def play_seed(seed: int) -> Outcome:
    return play(draw_plan(seed))


def play_all(seeds: Iterable[int], processes: int) -> Iterator[Outcome]:
    """Yields the outcome of each seed, in their order: whoever stops can go on with the next."""
    if processes == 1:
        yield from map(play_seed, seeds)
        return
    play_seed(0)  # loads all kernels before the processes part
    with multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=200) as pool:
        yield from pool.imap(play_seed, seeds, CHUNK)


def try_all(
    seeds: Iterable[int],
    processes: int,
    *,
    until_s: float = float("inf"),
    until_found: bool = False,
    show: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Plays worlds until all seeds are through, a time is over or, if asked for, one is found wrong."""
    tally, began_s = Tally(), time.monotonic()
    for outcome in play_all(seeds, processes):
        tally.add(outcome)
        tally.seconds = time.monotonic() - began_s
        show(tally)
        if tally.seconds > until_s or (until_found and tally.found):
            break
    return tally


def kinds_of(findings: Iterable[str]) -> set[str]:
    """Returns of which kinds findings are, by their first words."""
    return {one.partition(":")[0] for one in findings}


def shrink(plan: Plan, show: Callable[[str], None] = lambda _: None) -> Plan:
    """Returns a plan with fewer events in which the same kind of thing is wrong: it leaves out halves, quarters and so
    on, as long as that goes on to fail (delta debugging)."""
    wanted = kinds_of(play(plan).findings)
    left, size = SHRUNK_IN, max(1, len(plan.events) // 2)
    while size:
        at = 0
        while at < len(plan.events) and left:
            smaller = plan.without(set(range(at, at + size)))
            left -= 1
            if wanted & kinds_of(play(smaller).findings):
                plan = smaller
                show(f"{len(plan.events)} events left")
            else:
                at += size
        size = size // 2 if left else 0
    return plan
