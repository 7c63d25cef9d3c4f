"""Vehicles that drive on one road, to and fro, so that an atlas knows something of where each of them is."""

from __future__ import annotations

from typing import Final

from feeder import GAP_MS, STEP_MS, Feeder, Vehicle

BEGIN_DEG: Final = 30.0
LONG_DEG: Final = 4e-3  # the road goes so far to the north: some 440 m, which are done in two minutes of their clock
STEP_DEG: Final = 4e-4
WIDE_DEG: Final = 1e-5


class RoadFeeder(Feeder):
    """Makes the pings of a world whose vehicles share a road."""

    def _drive(self, one: Vehicle, *, far: bool) -> None:
        """Goes on for a step; `far`, for as long as a gap in which the vehicle was silent."""
        done_deg = self._done_deg.get(one.entity_id, 0.0)
        done_deg += self._chance.uniform(0.5, 1.0) * STEP_DEG * (GAP_MS // STEP_MS if far else 1)
        self._done_deg[one.entity_id] = done_deg
        within_deg = done_deg % (2 * LONG_DEG)
        one.lat = BEGIN_DEG + min(within_deg, 2 * LONG_DEG - within_deg)
        one.lon = -97.0 + self._chance.uniform(-WIDE_DEG, WIDE_DEG)
