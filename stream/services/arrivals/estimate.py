"""One estimate, from one forecast: when its entity arrives, and how likely it is in an area. Pure functions.

This is what `pathcast beside arrivals` publishes, and what any program may ask that has a forecast's record:

    estimated = estimate(forecast, Circle(lat, lon, radius_m), fleet)  # Fleet.of(Passages(...)) of its tracks, or None
    estimated.in_s, estimated.interval_s(0.9), estimated.chance_by(deadline_ts)
    Area.of(geofence).chance_at(forecast, ts_ms)

Times are in ms UTC, and seconds are from the forecast's anchor on, whenever it is asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrivals.believing import Fleet
from model.arrivals.regions import circle_chance, in_polygon, polygon_chance
from model.arrivals.times import LEVELS, MEDIAN, PRIOR, Times, arrive, path_s
from stream.wire.arrivals import Circle, Destination, Geofence
from stream.wire.positions import COV_OF_SCALE, EARTH_RADIUS_M, FREEDOM, Ahead, covariance, offset_en_m, position, turn

F64 = NDArray[np.float64]

AHEAD_S: Final = 60.0  # for which passages are compared with the forecast, as model.arrivals.passages.AHEAD_S
LEAST_CHANCE: Final = 0.001  # below, a geofence is not spoken of


@dataclass(frozen=True)
class Estimate:
    """When one entity is at one destination, provided that it goes there."""

    anchor_ts: int
    distance_m: float  # from the anchor to the edge, in a straight line; 0 inside
    times: Times  # of one question
    passages: int  # that it rests on

    @property
    def in_s(self) -> float:
        """Seconds after the anchor, before which it has arrived half of the times."""
        return float(self.times.seconds[0, MEDIAN])

    def interval_s(self, share: float) -> tuple[float, float]:
        """Returns the seconds between which it arrives in that share of the times: 0.9, 0.8 or 0.5.

        Raises ValueError for another share.
        """
        ends = np.flatnonzero(np.isclose(LEVELS, (1 - share) / 2)), np.flatnonzero(np.isclose(LEVELS, (1 + share) / 2))
        if not all(len(end) for end in ends):
            raise ValueError(f"intervals hold 0.9, 0.8 or 0.5 of the times, not {share}")
        low, high = (float(self.times.seconds[0, end[0]]) for end in ends)
        return low, high

    def chance_by(self, ts_ms: int) -> float:
        """Returns the chance of having arrived by a time (ms UTC): 1 for who is there, else 0 before the anchor."""
        if self.distance_m <= 0:
            return 1.0
        seconds = (ts_ms - self.anchor_ts) / 1000
        return float(self.times.chance_by(np.array([seconds]))[0]) if seconds > 0 else 0.0


def estimate(forecast: Ahead, place: Circle | Destination, fleet: Fleet | None = None) -> Estimate:
    """Returns when the entity of a forecast is within `place.radius_m` of a place, provided that it goes there.

    Args:
        fleet: how its earlier entities went, and how far that is believed; None: the forecast alone tells, less well.
    """
    anchor = forecast.anchor
    knots_s = np.array([0.0, *(horizon.h_s for horizon in sorted(forecast.horizons, key=lambda one: one.h_s))])
    if len(knots_s) == 1:  # a worker without horizons: the next step is all that there is
        knots_s = np.array([0.0, forecast.next.dt_s])
    way = [position(forecast, float(s)) for s in knots_s[1:]]
    path = np.array([(0.0, 0.0), *(offset_en_m(anchor.lat, anchor.lon, *at, anchor.lat) for at in way)])
    there = np.array(offset_en_m(anchor.lat, anchor.lon, place.lat, place.lon, anchor.lat))
    away = np.linalg.norm(path - there, axis=-1) - place.radius_m
    if away[0] <= 0:
        return Estimate(anchor.ts, 0.0, Times(np.zeros((1, len(LEVELS)))), 0)
    like = None
    if fleet is not None and len(fleet.passages):
        passages = fleet.passages
        ahead_s = min(AHEAD_S, float(knots_s[-1]))
        velocity = np.array([np.interp(ahead_s, knots_s, path[:, axis]) for axis in (0, 1)]) / ahead_s
        start, end = passages.metres(anchor.lat, anchor.lon), passages.metres(place.lat, place.lon)
        like = passages.between(start, end, place.radius_m, velocity, anchor.ts)
    times = arrive(away[:1], path_s(knots_s, away[None]), [like], PRIOR if fleet is None else fleet.belief)
    return Estimate(anchor.ts, float(away[0]), times, 0 if like is None else max(1, round(like.passages)))


class Box(NamedTuple):
    """A circle around an area."""

    lat: float
    lon: float
    radius_m: float


@dataclass(frozen=True)
class Area:
    """A geofence, ready to be asked."""

    geofence_id: str
    box: Box
    circle: Circle | None
    # (V, 2) longitude, less that of the first corner, and latitude in degrees; none of a circle. So an outline over the
    # date line is in one piece.
    rings: tuple[F64, ...]
    lon: float  # of the first corner

    @classmethod
    def of(cls, fence: Geofence) -> Area:
        if fence.circle is not None:
            one = fence.circle
            return cls(fence.geofence_id, Box(one.lat, one.lon, one.radius_m), one, (), 0.0)
        assert fence.polygon is not None  # else it has a circle
        lon = fence.polygon[0][0][0]
        rings = tuple(np.array([(turn(east - lon), north) for east, north in ring]) for ring in fence.polygon)
        middle = rings[0].mean(axis=0)
        box = Box(float(middle[1]), turn(lon + float(middle[0])), 0.0)
        area = cls(fence.geofence_id, box, None, rings, lon)
        reach = max(float(np.linalg.norm(ring, axis=-1).max()) for ring in area._metres(box.lat, box.lon))
        return replace(area, box=box._replace(radius_m=reach))

    def chance_at(self, forecast: Ahead, ts_ms: int) -> float:
        """Returns the chance that the entity is inside at a time (ms UTC), not before the forecast's anchor.

        Raises ValueError for an earlier time.
        """
        ahead_s = (ts_ms - forecast.anchor.ts) / 1000
        if ahead_s < 0:
            raise ValueError(f"a forecast from {forecast.anchor.ts} says nothing of an earlier time, {ts_ms}")
        return float(self.chances(forecast, [ahead_s])[0])

    def chances(self, forecast: Ahead, ahead_s: list[float]) -> F64:
        """Returns the chances [H] of being inside so many seconds after the anchor: of the Student's t that the
        forecast's covariance stands for (stream/wire/README.md, "The spread").
        """
        if not ahead_s:
            return np.empty(0)
        anchor = forecast.anchor
        places = [position(forecast, seconds) for seconds in ahead_s]
        mean = np.array([offset_en_m(anchor.lat, anchor.lon, *place, anchor.lat) for place in places])
        cov = np.array([covariance(forecast, seconds) for seconds in ahead_s])
        if self.circle is not None:
            middle = offset_en_m(anchor.lat, anchor.lon, self.circle.lat, self.circle.lon, anchor.lat)
            return circle_chance(np.array(middle), self.circle.radius_m, mean, cov)
        return polygon_chance(self._metres(anchor.lat, anchor.lon), mean, cov)

    def holds(self, lat: float, lon: float) -> bool:
        """Returns whether a place is inside."""
        if self.circle is not None:
            off = offset_en_m(lat, lon, self.circle.lat, self.circle.lon, lat)
            return math.hypot(*off) <= self.circle.radius_m
        return in_polygon(self._metres(lat, lon), np.zeros(2))

    def may_matter(self, forecast: Ahead) -> bool:
        """Returns False if the entity is outside, and at no horizon inside with LEAST_CHANCE or more: a bound, which is
        quick. Of the t, no more than (1 + x²/4)^-2 is farther off than x of its largest deviations.
        """
        anchor, box = forecast.anchor, self.box
        for place, cov in [((anchor.lat, anchor.lon), None), *(((h.lat, h.lon), h.cov_m2) for h in forecast.horizons)]:
            far_m = math.hypot(*offset_en_m(*place, box.lat, box.lon, anchor.lat)) - box.radius_m
            if far_m <= 0:
                return True
            if cov is not None:
                scale_m2 = (cov[0] + cov[2]) / COV_OF_SCALE  # the trace is no less than the largest eigenvalue
                if (1 + far_m * far_m / max(scale_m2, 1e-9) / FREEDOM) ** (-FREEDOM / 2) >= LEAST_CHANCE:
                    return True
        return False

    def _metres(self, lat: float, lon: float) -> list[F64]:
        """Returns the rings in metres east and north of a place, in the frame of the covariances there."""
        metres = math.radians(1.0) * EARTH_RADIUS_M
        scale = np.array([metres * math.cos(math.radians(lat)), metres])
        shift = np.array([turn(self.lon - lon), -lat])
        return [(ring + shift) * scale for ring in self.rings]
