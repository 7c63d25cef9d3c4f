"""Simulates a fleet on the streets of a city, quickly: to measure how large an atlas gets, and not how good it is.

Streets are a grid, which grows with the fleet. A vehicle drives along its street at that street's speed, goes straight
on at most crossings or turns, and stands now and then. All vehicles share the streets.

Shapes: V vehicles.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.api import FIX

BLOCK_M: Final = 200.0
ROOM: Final = 2.5  # blocks along a side, for the root of the number of vehicles: 56 for 500, 791 for 100,000
SLOWEST_MPS, FASTEST_MPS = 5.0, 15.0  # streets
STANDS: Final = 0.15  # of the pings
STRAIGHT_ON: Final = 0.7  # of the crossings
NOISE_M: Final = 5.0
LAT_DEG, LON_DEG = 48.0, 11.0
M_PER_DEG: Final = 111_195.0
BEGIN_MS: Final = 1_699_920_000_000  # a midnight
EAST: Final = np.array([0, 1, 0, -1])  # of the four directions, clockwise from north
NORTH: Final = np.array([1, 0, -1, 0])


class Fleet:
    """Vehicles, each of which reports once a round. The same numbers make the same pings."""

    def __init__(self, vehicles: int, every_s: float) -> None:
        self._rng = np.random.default_rng(0)
        self._every_s = every_s
        self._side = int(np.ceil(ROOM * np.sqrt(vehicles))) + 1
        self._speeds_mps = self._rng.uniform(SLOWEST_MPS, FASTEST_MPS, (2, self._side))  # of the streets north and east
        self._x, self._y = self._rng.integers(0, self._side, (2, vehicles))  # the crossing behind each
        self._towards = self._rng.integers(0, 4, vehicles)
        self._along_m = np.zeros(vehicles)
        self._phase_ms = self._rng.integers(0, int(1000 * every_s), vehicles)
        self._rounds = 0
        self._turn_back(np.arange(vehicles))

    def round(self) -> NDArray[Any]:
        """Returns the next ping of each vehicle, FIX [V]."""
        drives = self._rng.random(len(self._x)) >= STANDS
        streets = np.where(self._towards % 2 == 0, self._x, self._y)
        self._along_m += drives * self._speeds_mps[self._towards % 2, streets] * self._every_s
        while len(there := np.flatnonzero(self._along_m >= BLOCK_M)):
            self._cross(there)
        fixes = np.zeros(len(self._x), FIX)
        fixes["ts_ms"] = BEGIN_MS + self._phase_ms + int(1000 * self._every_s * self._rounds)
        noise_m = self._rng.normal(0.0, NOISE_M, (2, len(self._x)))
        east_m = BLOCK_M * self._x + EAST[self._towards] * self._along_m + noise_m[0]
        north_m = BLOCK_M * self._y + NORTH[self._towards] * self._along_m + noise_m[1]
        fixes["lat_e7"] = np.rint(1e7 * (LAT_DEG + north_m / M_PER_DEG))
        fixes["lon_e7"] = np.rint(1e7 * (LON_DEG + east_m / (M_PER_DEG * np.cos(np.radians(LAT_DEG)))))
        for name in ("speed_cms", "heading_cdeg"):
            fixes[name] = np.iinfo(fixes.dtype[name]).max  # not reported
        self._rounds += 1
        return fixes

    def _cross(self, there: NDArray[Any]) -> None:
        """Moves these vehicles over the next crossing."""
        self._along_m[there] -= BLOCK_M
        self._x[there] += EAST[self._towards[there]]
        self._y[there] += NORTH[self._towards[there]]
        turns = np.where(self._rng.random(len(there)) < STRAIGHT_ON, 0, self._rng.choice([1, 3], len(there)))
        self._towards[there] = (self._towards[there] + turns) % 4
        self._turn_back(there)

    def _turn_back(self, there: NDArray[Any]) -> None:
        """Turns those of these vehicles round that would leave the city."""
        for ahead in (self._x[there] + EAST[self._towards[there]], self._y[there] + NORTH[self._towards[there]]):
            out = there[(ahead < 0) | (ahead >= self._side)]
            self._towards[out] = (self._towards[out] + 2) % 4
