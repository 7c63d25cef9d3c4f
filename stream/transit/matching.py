"""Matches the pings of one vehicle to its progress along the path of its trip: forward, and by what was seen so far.

Where a path passes one street twice, several progresses are kept, each with its cost, until a ping tells which is
true. The model of costs: Newson and Krumm, Hidden Markov map matching, 2009, reduced to one line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from stream.transit.schedule.paths import Path

ERROR_M: Final = 15.0  # of GPS beside buildings
BACK_M: Final = 40.0  # a parked bus seems to move back that far, and no farther
FASTEST_MPS: Final = 35.0  # faster than any bus; with SLACK_M for the errors of both pings
SLACK_M: Final = 60.0
JUMP: Final = 40.0  # the cost of what cannot be
SKIP: Final = 12.0  # the cost of leaving one ping out: four in a row cost more than a jump, so a wrong start is left
AWAY_M: Final = 200.0  # off its path, and no error of GPS: a detour
STRAYED_PINGS: Final = 3  # in a row: then nobody can tell when it reaches its stops
MOST_STRAYED: Final = 4  # so that two pings on the path are enough to be back
PER_M: Final = 0.0004  # of way forward: the nearer of two places is likelier


@dataclass(slots=True)
class Progress:
    """How far one vehicle is on its path. `observe` changes it in place."""

    path: Path
    at_s: float | None = None  # of the newest ping that lay on the path
    along_m: float = 0.0
    off_path: int = 0  # pings in a row that lay beside the path
    strayed: int = 0  # grows with each ping far from the path, or back along it, and shrinks with each that fits
    _beliefs: list[tuple[float, float]] = field(default_factory=list)  # (metres along, cost), as of `at_s`

    def observe(self, t_s: float, lat_deg: float, lon_deg: float) -> bool:
        """Takes a ping. Returns whether it lies on the path and fits what was seen before; if not, nothing moves."""
        if self.at_s is not None and t_s <= self.at_s:
            return False
        places = self.path.places(lat_deg, lon_deg)
        if not places:
            self.off_path += 1
            self._stray(self.path.off_m(lat_deg, lon_deg) > AWAY_M)
            return False
        gap_s = t_s - self.at_s if self.at_s is not None else 0.0
        beliefs = []
        for along_m, off_m in places:
            error = 0.5 * (off_m / ERROR_M) ** 2
            way = min(
                (cost + way_cost(along_m - before, gap_s) for before, cost in self._beliefs), default=PER_M * along_m
            )
            beliefs.append((along_m, way + error))
        least = min(cost for _, cost in beliefs)
        if self._beliefs and least >= JUMP:  # costs are kept relative to the least, so this ping fits nothing
            self._beliefs = [(along_m, cost - SKIP) for along_m, cost in self._beliefs]
            self.off_path += 1
            self._stray(True)
            return False
        self._beliefs = [(along_m, cost - least) for along_m, cost in beliefs]
        self.along_m = min(self._beliefs, key=lambda belief: belief[1])[0]
        self.at_s, self.off_path, self.strayed = t_s, 0, max(0, self.strayed - 1)
        return True

    @property
    def is_lost(self) -> bool:
        """Returns whether the vehicle is on a detour, or has turned back: until two pings fit the path again."""
        return self.strayed >= STRAYED_PINGS

    def _stray(self, far: bool) -> None:
        if far:
            self.strayed = min(MOST_STRAYED, self.strayed + 1)


def way_cost(way_m: float, gap_s: float) -> float:
    """Returns what it costs to believe that a vehicle went so far forward along its path in that time."""
    if way_m < 0:
        return -way_m / ERROR_M + (JUMP if way_m < -BACK_M else 0.0)
    return PER_M * way_m + (JUMP if way_m > FASTEST_MPS * max(1.0, gap_s) + SLACK_M else 0.0)
