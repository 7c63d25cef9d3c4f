"""Remembers by how much answers were wrong lately: of each link, route, vehicle and trip.

The corrections know what holds for all buses. What they leave over is not alike everywhere: a stop behind a long
traffic light, a driver who drives slowly, a route beside a closed road. So its mean is a number of the next answer,
which the corrections weigh.

A residual is the actual seconds less the answered ones, in parts of the square root of the lead, as errors grow so.
Letters: B answers, A stops ahead, M memories of a link, F numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEAREST_S: Final = 240.0  # a nearer stop says more of where the bus was than of its way
FARTHEST_S: Final = 1_000.0
USUAL_S: Final = 600.0  # the lead at which a residual is in seconds
MOST_S: Final = 300.0
LINK_S: Final = np.array([5_400.0, 21 * 86_400.0])  # the memories of a link: this part of the day, and other days
LINK_LEANING: Final = np.array([6.0, 10.0])  # how many answers of nothing wrong they lean on
ROUTE_S: Final = 2_400.0
VEHICLE_S: Final = 7_200.0
TRIP_S: Final = 1_500.0
LEANING: Final = 30.0  # of the three others
N_MEANS: Final = 5


@dataclass(slots=True)
class FadingMean:
    """A mean in which old values fade, and which leans on 0."""

    total: float = 0.0
    weight: float = 0.0
    at_s: float = 0.0

    def add(self, values: Floats, at_s: float, memory_s: float) -> None:
        """Adds values that became known at a moment."""
        fade = math.exp(-max(0.0, at_s - self.at_s) / memory_s)
        self.total = self.total * fade + float(values.sum())
        self.weight = self.weight * fade + len(values)
        self.at_s = max(self.at_s, at_s)

    def mean(self, at_s: float, memory_s: float) -> float:
        """Returns it as of a moment."""
        fade = math.exp(-max(0.0, at_s - self.at_s) / memory_s)
        return self.total * fade / (self.weight * fade + LEANING)


def select_telling(truth_B: Floats) -> NDArray[np.bool_]:
    """Returns of which answers a residual is worth remembering, by the seconds until the arrival."""
    return (truth_B > NEAREST_S) & (truth_B < FARTHEST_S)


class Residuals:
    """Remembers what answers left over. `add` changes it in place. The mean of a trip is kept with the trip."""

    def __init__(self, n_links: int) -> None:
        shape = (n_links, len(LINK_S))
        self._total, self._weight, self._at_s = np.zeros(shape), np.zeros(shape), np.zeros(n_links)
        self.routes: dict[str, FadingMean] = {}
        self.vehicles: dict[str, FadingMean] = {}

    def add(
        self,
        links_B: Ints,
        answered_B: Floats,
        truth_B: Floats,
        at_s: float,
        route: str,
        vehicle: str,
        trip: FadingMean,
    ) -> None:
        """Takes what one bus showed of the answers that `select_telling` chose, in seconds from when each was made."""
        values = np.clip(truth_B - answered_B, -MOST_S, MOST_S) / np.sqrt(truth_B / USUAL_S)
        each, of_each = np.unique(links_B, return_inverse=True)
        fade = np.exp(-np.maximum(0.0, at_s - self._at_s[each])[:, None] / LINK_S)
        self._total[each] = self._total[each] * fade + np.bincount(of_each, values)[:, None]
        self._weight[each] = self._weight[each] * fade + np.bincount(of_each)[:, None]
        self._at_s[each] = np.maximum(self._at_s[each], at_s)
        self.routes.setdefault(route, FadingMean()).add(values, at_s, ROUTE_S)
        self.vehicles.setdefault(vehicle, FadingMean()).add(values, at_s, VEHICLE_S)
        trip.add(values, at_s, TRIP_S)

    def means(self, links_A: Ints, now_s: float, route: str, vehicle: str, trip: FadingMean) -> Floats:
        """Returns what was left over lately, [A, N_MEANS] seconds: of the link to each stop lately and over weeks, of
        the route, the vehicle and the trip."""
        fade = np.exp(-np.maximum(0.0, now_s - self._at_s[links_A])[:, None] / LINK_S)
        means = np.empty((len(links_A), N_MEANS))
        means[:, :2] = self._total[links_A] * fade / (self._weight[links_A] * fade + LINK_LEANING)
        nothing = FadingMean()
        means[:, 2] = self.routes.get(route, nothing).mean(now_s, ROUTE_S)
        means[:, 3] = self.vehicles.get(vehicle, nothing).mean(now_s, VEHICLE_S)
        means[:, 4] = trip.mean(now_s, TRIP_S)
        return means

    def take_over(self, other: Residuals, ours: Ints, theirs: Ints) -> None:
        """Takes over what another feed's residuals have of the links that both have, by their numbers here and there.
        Both go on to learn of routes and vehicles together."""
        for name in ("_total", "_weight", "_at_s"):
            getattr(self, name)[ours] = getattr(other, name)[theirs]
        self.routes, self.vehicles = other.routes, other.vehicles
