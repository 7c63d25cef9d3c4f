"""Tells how well the pings of a vehicle fit one path: forward along it, and near it.

The evidence of a track is a sum of logarithms: above 0, the vehicle is likelier on this path than anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from stream.transit.matching import ERROR_M, PER_M, way_cost
from stream.transit.schedule.paths import Path

HIT: Final = 1.2  # what a ping on the path is worth that moved forward; what it is off counts against it
MISS: Final = -1.5  # what one is worth that lies beside the path, or cannot be where the vehicle was before
MOST: Final = 5.0  # of the evidence: what was long ago does not count for ever
LEAST: Final = -6.0
MOVED_M: Final = 30.0  # a vehicle that stands tells nothing new
LOST_PINGS: Final = 3  # beside the path in a row: then the vehicle may come back to it anywhere


@dataclass(slots=True)
class Track:
    """A vehicle along one path, as if it was on it. `observe` changes it in place."""

    path: Path
    evidence: float = 0.0
    along_m: float = 0.0
    at_s: float | None = None  # of the newest ping on the path
    missed: int = 0  # pings in a row
    told_m: float = 0.0  # where the last ping that counted was
    beliefs: list[tuple[float, float]] = field(default_factory=list)  # metres along, cost

    def observe(self, t_s: float, lat_deg: float, lon_deg: float) -> None:
        """Takes a ping."""
        places = self.path.places(lat_deg, lon_deg)
        gap_s = t_s - self.at_s if self.at_s is not None else 0.0
        beliefs = []
        for along_m, off_m in places:
            way = min((cost + way_cost(along_m - at_m, gap_s) for at_m, cost in self.beliefs), default=PER_M * along_m)
            beliefs.append((along_m, way + 0.5 * (off_m / ERROR_M) ** 2))
        least = min((cost for _, cost in beliefs), default=float("inf"))
        if (self.beliefs and HIT - least < MISS) or not places:
            self._miss()
            return
        first = self.at_s is None
        if first:
            least = 0.5 * (min(place.off_m for place in places) / ERROR_M) ** 2
        self.beliefs = [(along_m, cost - min(cost for _, cost in beliefs)) for along_m, cost in beliefs]
        self.along_m = min(self.beliefs, key=lambda belief: belief[1])[0]
        self.at_s, self.missed = t_s, 0
        worth = max(MISS, HIT - least)
        if first or abs(self.along_m - self.told_m) >= MOVED_M or worth < 0:
            self.evidence = min(MOST, max(LEAST, self.evidence + worth))
            self.told_m = self.along_m

    def _miss(self) -> None:
        self.missed += 1
        self.evidence = max(LEAST, self.evidence + MISS)
        if self.missed >= LOST_PINGS:
            self.beliefs, self.at_s = [], None
