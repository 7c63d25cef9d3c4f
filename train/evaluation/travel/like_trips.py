"""Travel times by like trips of the fleet, where the fleet itself says what makes trips alike.

A trip is a point: where it begins and ends, when of the day, on a weekend or not, how far that is. The date is no
part of it: trips of the same hours are the nearest to a known one, and are not known of one to come. How much each of
these counts is found by a search on the known trips, each predicted by the others; so are how many neighbours count,
and how much sooner the nearest count. The answer is a weighted median of their times. The ends of intervals are
weighted quantiles, moved so that they hold what they should of the known trips.

Letters: N asked trips, T known trips, D numbers of a point, Q levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.kinematics.features import week_phase_ms
from model.kinematics.geo import E7, F64, haversine_m
from train.evaluation.travel.trips import Trips, place_km

LEVELS: Final = np.array([0.05, 0.1, 0.5, 0.9, 0.95])
MOST_KNOWN: Final = 20_000  # trips, evenly
TRIED_ON: Final = 600  # known trips, by which the search judges
KNOWN_TO_TRY: Final = 4_000
CALIBRATED_ON: Final = 2_000
ROUNDS: Final = 2
FACTORS: Final = (0.0, 0.3, 0.6, 1.6, 3.0)  # by which one part of a point is made to count
DAY_MS: Final = 86_400_000
HALF_SHARE: Final = 0.05  # of the farthest neighbour's squared distance: nearer than that counts alike
_CHUNK: Final = 256
# The columns of each part of a point.
PARTS: Final = {
    "origin": slice(0, 2),
    "destination": slice(2, 4),
    "hour": slice(4, 6),
    "distance": slice(6, 7),
    "weekend": slice(7, 8),
}


class Quantiles(NamedTuple):
    """Seconds (N,) of travel times: the median, and the ends of the 90 % and 80 % intervals."""

    median_s: F64
    low_s: F64
    high_s: F64
    low_80_s: F64
    high_80_s: F64


@dataclass(frozen=True)
class Alike:
    """How trips are compared."""

    counts: tuple[float, ...]  # of each of PARTS
    neighbours: int = 30
    power: float = 0.7  # by which weights fall with the squared distance

    @property
    def scale(self) -> F64:
        return np.concatenate(
            [
                np.full(columns.stop - columns.start, one)
                for columns, one in zip(PARTS.values(), self.counts, strict=True)
            ]
        )


@dataclass(frozen=True)
class LikeTrips:
    """The known trips, how they are compared, and how far the quantiles are moved."""

    known: Trips
    alike: Alike
    moved: F64  # (Q,) factors

    @classmethod
    def fitted(cls, known: Trips) -> LikeTrips:
        """Searches on known trips; the same trips give the same search."""
        known = _evenly(known, MOST_KNOWN)
        some = _evenly(known, KNOWN_TO_TRY)
        points, asked = points_of(some, some), np.unique(np.linspace(0, len(some.seconds) - 1, TRIED_ON).astype(int))

        def error(alike: Alike) -> float:
            median = _quantiles(points, some.seconds, points[asked], alike, np.array([0.5]), itself=asked)[:, 0]
            return float(np.abs(median - some.seconds[asked]).mean())

        best = Alike((1.0, 1.0, 1.0, 2.0, 1.0))
        least = error(best)
        for _ in range(ROUNDS):
            for number in range(len(PARTS) + 2):
                for other in _others(best, number):
                    if (found := error(other)) < least:
                        best, least = other, found
        return cls(known, best, _moves(known, best))

    def __call__(self, origin: NDArray[Any], lat: F64, lon: F64) -> Quantiles:
        metres = haversine_m(origin["lat_e7"] / E7, origin["lon_e7"] / E7, lat, lon)
        nobody = np.zeros(len(lat), np.int32)
        asked = points_of(Trips(nobody, origin, lat, lon, np.ones(len(lat)), metres), self.known)
        found = _quantiles(points_of(self.known, self.known), self.known.seconds, asked, self.alike, LEVELS)
        low, low_80, median, high_80, high = np.sort(found * self.moved, axis=1).T
        return Quantiles(median, low, high, low_80, high_80)


def points_of(trips: Trips, known: Trips) -> F64:
    """Returns trips as points (N, D): kilometres east and north of the known trips' middle, hours, and so on."""
    place = place_km(trips.origin, trips.lat, trips.lon, known)
    phase_ms = week_phase_ms(trips.origin["ts_ms"], trips.origin["lon_e7"])
    rest = [np.log(np.maximum(trips.distance_m, 1.0)), phase_ms // DAY_MS >= 5]
    return np.concatenate([place, np.stack(rest, axis=-1)], axis=1)


def _others(alike: Alike, number: int) -> Iterator[Alike]:
    """Yields what differs in one thing: a part of the points, how many neighbours count, or how."""
    if number < len(PARTS):
        for factor in FACTORS:
            counts = list(alike.counts)
            counts[number] = factor * counts[number] if counts[number] else factor
            yield replace(alike, counts=tuple(counts))
    elif number == len(PARTS):
        for factor in (0.5, 0.7, 1.5, 2.0):
            yield replace(alike, neighbours=max(5, round(factor * alike.neighbours)))
    else:
        for power in (0.0, 0.4, 1.0, 1.5):
            yield replace(alike, power=power)


def _moves(known: Trips, alike: Alike) -> F64:
    """Returns by what each quantile has to be multiplied to hold its share of the known trips."""
    points, asked = (
        points_of(known, known),
        np.unique(np.linspace(0, len(known.seconds) - 1, CALIBRATED_ON).astype(int)),
    )
    found = _quantiles(points, known.seconds, points[asked], alike, LEVELS, itself=asked)
    ratio = known.seconds[asked, None] / np.maximum(found, 1.0)
    moved = np.array([np.quantile(one, level) for one, level in zip(ratio.T, LEVELS, strict=True)])
    moved[LEVELS == 0.5] = 1.0  # the median of ratios is not what has the least error in seconds
    return moved


def _quantiles(
    points: F64, seconds: F64, asked: F64, alike: Alike, levels: F64, *, itself: NDArray[Any] | None = None
) -> F64:
    """Returns weighted quantiles (N, Q) of the neighbours' seconds. `itself` has for each asked trip the known one that
    is it, and is no neighbour.
    """
    points, asked = points * alike.scale, asked * alike.scale
    length = (points**2).sum(axis=1)
    count = min(alike.neighbours, len(points) - (itself is not None))
    out = np.empty((len(asked), len(levels)))
    for first in range(0, len(asked), _CHUNK):
        some = asked[first : first + _CHUNK]
        square = np.maximum(length - 2 * some @ points.T + (some**2).sum(axis=1)[:, None], 0.0)
        if itself is not None:
            square[np.arange(len(some)), itself[first : first + _CHUNK]] = np.inf
        near = np.argpartition(square, count - 1, axis=1)[:, :count]
        off = np.take_along_axis(square, near, axis=1)
        weight = (off / np.maximum(off.max(axis=1, keepdims=True), 1e-9) + HALF_SHARE) ** -alike.power
        taken = seconds[near]
        order = np.argsort(taken, axis=1)
        taken, weight = (np.take_along_axis(one, order, axis=1) for one in (taken, weight))
        share = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
        for column, level in enumerate(levels):
            at = np.minimum((share < level).sum(axis=1), count - 1)
            out[first : first + _CHUNK, column] = taken[np.arange(len(some)), at]
    return out


def _evenly(known: Trips, most: int) -> Trips:
    few = np.unique(np.linspace(0, len(known.seconds) - 1, min(most, len(known.seconds))).round().astype(int))
    return known.where(few)
