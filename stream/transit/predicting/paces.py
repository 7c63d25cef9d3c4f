"""Remembers how long links take: of buses before, against their schedules, recent ones with more weight.

A link is a pair of stops that trips serve one after the other, so that routes which share a street share what is
known of it. For each link and each memory there are two sums that decay with time: seconds driven, and seconds that the
schedule had for them. Their quotient is a pace, and 1 is the schedule's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Pair = tuple[str, str]  # the stops of a link

MEMORIES_S: Final = (1_800.0, 7_200.0, 21 * 86_400.0)  # now, this part of the day, and other days
BUSES: Final = (1.0, 1.5, 1.5)  # how many buses of a memory weigh as much as the longer memory before it
SLOWEST: Final = 4.0  # times the schedule, and SLACK_S: longer stays are a bus out of service
SLACK_S: Final = 120.0
FLEET_LEANING_S: Final = 3_600.0  # seconds of driving as expected that all buses' difference leans on
LEAST_S: Final = 8.0  # of a link's schedule: whole minutes between near stops are often 0


class Difference:
    """How much slower all buses were lately than was expected of each, as a share of the time."""

    def __init__(self) -> None:
        self._driven_s = self._expected_s = self._at_s = 0.0

    def add(self, driven_s: float, expected_s: float, at_s: float) -> None:
        """Adds what one bus took, and what was expected."""
        fade = math.exp(-max(0.0, at_s - self._at_s) / MEMORIES_S[0])
        self._driven_s = self._driven_s * fade + driven_s
        self._expected_s = self._expected_s * fade + expected_s
        self._at_s = max(self._at_s, at_s)

    def difference(self, at_s: float) -> float:
        """Returns the share; 0.1 is ten in a hundred slower."""
        fade = math.exp(-max(0.0, at_s - self._at_s) / MEMORIES_S[0])
        return (self._driven_s - self._expected_s) * fade / (self._expected_s * fade + FLEET_LEANING_S)


def match_links(from_pairs: Sequence[Pair], pairs: Sequence[Pair]) -> tuple[Ints, Ints]:
    """Returns the numbers of the links that two feeds have both: in the second list, and in the first."""
    numbers = {pair: number for number, pair in enumerate(from_pairs)}
    theirs = np.array([numbers.get(pair, -1) for pair in pairs], np.int64)
    ours = np.flatnonzero(theirs >= 0)
    return ours, theirs[ours]


class Paces:
    """The paces of all links of one feed."""

    def __init__(self, n_links: int) -> None:
        shape = (n_links, len(MEMORIES_S))
        self._driven_s, self._scheduled_s, self._at_s = np.zeros(shape), np.zeros(shape), np.zeros(n_links)
        self.all_links = Difference()
        self._memory_s = np.array(MEMORIES_S)

    def add(self, links: Ints, driven_s: Floats, scheduled_s: Floats, at_s: float) -> None:
        """Adds what one bus took for links that follow one another; no link may occur twice."""
        fade = np.exp(-np.maximum(0.0, at_s - self._at_s[links])[:, None] / self._memory_s)
        driven_s = np.minimum(driven_s, SLOWEST * scheduled_s + SLACK_S)
        self._driven_s[links] = self._driven_s[links] * fade + driven_s[:, None]
        self._scheduled_s[links] = self._scheduled_s[links] * fade + scheduled_s[:, None]
        self._at_s[links] = np.maximum(self._at_s[links], at_s)

    def take_over(self, other: Paces, ours: Ints, theirs: Ints) -> None:
        """Takes over what another feed's paces have of the links that both have, by their numbers here and there."""
        for name in ("_driven_s", "_scheduled_s", "_at_s"):
            getattr(self, name)[ours] = getattr(other, name)[theirs]
        self.all_links = other.all_links

    def silence_s(self, link: int, at_s: float) -> float:
        """Returns how long ago the last bus passed a link; a large number if none did."""
        return float(at_s - self._at_s[link])

    def expected_s(self, links: Ints, scheduled_s: Floats, at_s: float) -> Floats:
        """Returns the seconds that each link takes, a row per memory: the shortest first, each leaning on the next."""
        fade = np.exp(-np.maximum(0.0, at_s - self._at_s[links])[:, None] / self._memory_s)
        driven, scheduled = (self._driven_s[links] * fade).T, (self._scheduled_s[links] * fade).T
        found = np.empty((len(MEMORIES_S), len(links)))
        pace: Floats = np.ones(len(links))
        for memory in reversed(range(len(MEMORIES_S))):
            leaning = BUSES[memory] * scheduled_s
            pace = (driven[memory] + leaning * pace) / (scheduled[memory] + leaning)
            found[memory] = pace * scheduled_s
        return found
