"""Measures along a path: where points and stops lie on a line on the ground, in metres from its start.

Letters: S segments of the path, M dense points of it, N stops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EARTH_M: Final = 6_371_008.8  # mean radius
OFF_M: Final = 60.0  # a vehicle farther from its path is not on it: more than a wide street and an error of GPS
APART_M: Final = 80.0  # two places on a path that are nearer to each other are one
SPACING_M: Final = 10.0  # of the dense points to which stops are matched
FAR_M: Final = 500.0  # a stop farther from its path costs no more: a wrong coordinate must not move all others


class Place(NamedTuple):
    """A place on a path near a point."""

    along_m: float
    off_m: float


class Path:
    """A line through at least one point. Knows metres; knows nothing of times."""

    def __init__(self, lat_deg: Sequence[float] | Floats, lon_deg: Sequence[float] | Floats) -> None:
        lat, lon = np.asarray(lat_deg, float), np.asarray(lon_deg, float)
        self._lat0, self._lon0 = float(lat.mean()), float(lon.mean())
        x, y = self._plane(lat, lon)
        moved = np.r_[True, np.hypot(np.diff(x), np.diff(y)) > 0.01]
        self._x, self._y = x[moved], y[moved]
        if len(self._x) == 1:
            self._x, self._y = np.r_[self._x, self._x + 0.1], np.r_[self._y, self._y]
        self._dx_S, self._dy_S = np.diff(self._x), np.diff(self._y)
        self._length_S = np.hypot(self._dx_S, self._dy_S)
        self._start_S = np.r_[0.0, np.cumsum(self._length_S)[:-1]]
        self.length_m = float(self._length_S.sum())

    def _plane(self, lat: Any, lon: Any) -> tuple[Any, Any]:
        m_per_deg = math.pi / 180 * EARTH_M
        return (lon - self._lon0) * m_per_deg * math.cos(math.radians(self._lat0)), (lat - self._lat0) * m_per_deg

    def _nearest_S(self, px: float, py: float) -> tuple[Floats, Floats]:
        """Returns for each segment its place nearest to the point: metres along the path, and off it."""
        along = (px - self._x[:-1]) * self._dx_S + (py - self._y[:-1]) * self._dy_S
        share = np.clip(along / (self._length_S * self._length_S), 0.0, 1.0)
        off = np.hypot(px - self._x[:-1] - share * self._dx_S, py - self._y[:-1] - share * self._dy_S)
        return self._start_S + share * self._length_S, off

    def off_m(self, lat_deg: float, lon_deg: float) -> float:
        """Returns how far a point is off the path."""
        return float(self._nearest_S(*self._plane(lat_deg, lon_deg))[1].min())

    def places(self, lat_deg: float, lon_deg: float, most: int = 8) -> list[Place]:
        """Returns the places where the path comes within OFF_M of a point, the nearest first, one for each passing."""
        along_S, off_S = self._nearest_S(*self._plane(lat_deg, lon_deg))
        near = np.flatnonzero(off_S <= OFF_M)
        found: list[Place] = []
        for at in near[np.argsort(off_S[near], kind="stable")]:
            if all(abs(along_S[at] - place.along_m) > APART_M for place in found):
                found.append(Place(float(along_S[at]), float(off_S[at])))
                if len(found) == most:
                    break
        return found

    def place_stops(self, lat_deg: Floats, lon_deg: Floats) -> tuple[Floats, Floats]:
        """Returns where stops lie along the path, never one before the last, and how far off it, by least squares."""
        parts = np.maximum(1, np.ceil(self._length_S / SPACING_M).astype(int))
        vertices = np.r_[self._start_S, self.length_m]
        pieces = [
            start + length * np.arange(n) / n
            for start, length, n in zip(self._start_S, self._length_S, parts, strict=True)
        ]
        dense_M: Floats = np.r_[np.concatenate(pieces), self.length_m]
        x_M: Floats = np.asarray(np.interp(dense_M, vertices, self._x))
        y_M: Floats = np.asarray(np.interp(dense_M, vertices, self._y))
        chosen = _monotone_choice(*self._plane(lat_deg, lon_deg), x_M, y_M)
        along_N, off_N = np.zeros(len(chosen)), np.zeros(len(chosen))
        for stop, (px, py) in enumerate(zip(*self._plane(lat_deg, lon_deg), strict=True)):
            along_S, off_S = self._nearest_S(px, py)
            close = np.flatnonzero(np.abs(along_S - dense_M[chosen[stop]]) <= SPACING_M)
            best = close[np.argmin(off_S[close])] if len(close) else None
            along_N[stop] = dense_M[chosen[stop]] if best is None else along_S[best]
            off_N[stop] = math.hypot(px - x_M[chosen[stop]], py - y_M[chosen[stop]]) if best is None else off_S[best]
        return np.maximum.accumulate(along_N), off_N


def _monotone_choice(x_N: Floats, y_N: Floats, x_M: Floats, y_M: Floats) -> list[int]:
    """Returns for each stop a dense point, never before the last stop's, with the least sum of squared distances."""
    cost = np.zeros(len(x_M))
    back = np.zeros((len(x_N), len(x_M)), np.int32)
    for stop in range(len(x_N)):
        best = np.minimum.accumulate(cost)
        back[stop] = np.maximum.accumulate(np.where(cost <= best, np.arange(len(x_M)), 0))
        cost = best + np.minimum((x_M - x_N[stop]) ** 2 + (y_M - y_N[stop]) ** 2, FAR_M**2)
    chosen = [int(np.argmin(cost))]
    for stop in range(len(x_N) - 1, 0, -1):
        chosen.append(int(back[stop][chosen[-1]]))
    return chosen[::-1]
