"""Trips: tracks as cut for evaluation, of which the judge of travel times asks how long they take.

Letters: N trips.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.kinematics.features import week_phase_ms
from model.kinematics.geo import F64, displacement_m, haversine_m, to_e7
from train.data.corpus import Corpus

TRIP_M: Final = 1_000.0  # shorter ones start and end in one square, and their time is mostly waiting
TRIP_PINGS: Final = 9
KM_PER_HOUR_OF_DAY: Final = 1.0  # one hour of departure time counts as much as one kilometre


class Trips(NamedTuple):
    entity: NDArray[np.int32]  # (N,)
    origin: NDArray[Any]  # (N,) FIX: place and time of departure
    lat: F64  # (N,) degrees of the destination
    lon: F64
    seconds: F64  # (N,) duration of the trip
    distance_m: F64  # (N,) straight-line distance from origin to destination

    def where(self, chosen: NDArray[Any]) -> Trips:
        """Returns the trips of a mask (N,) or of indices."""
        return Trips(*(column[chosen] for column in self))


def long_enough(corpus: Corpus) -> Corpus:
    """Returns the tracks that are trips."""
    first, last = corpus.tracks[:, 0], corpus.tracks[:, 1] - 1
    far = haversine_m(corpus.lat[first], corpus.lon[first], corpus.lat[last], corpus.lon[last]) >= TRIP_M
    return corpus.select(far & (last - first + 1 >= TRIP_PINGS))


def trips(corpus: Corpus) -> Trips:
    """Returns the trips of a corpus whose tracks are trips."""
    first, last = corpus.tracks[:, 0], corpus.tracks[:, 1] - 1
    lat, lon = np.asarray(corpus.lat[last]), np.asarray(corpus.lon[last])
    distance = haversine_m(corpus.lat[first], corpus.lon[first], lat, lon)
    seconds = (corpus.ts_ms[last] - corpus.ts_ms[first]) / 1000.0
    return Trips(corpus.entity, corpus.fixes(first), lat, lon, seconds, distance)


def place_km(origin: NDArray[Any], lat: F64, lon: F64, known: Trips) -> F64:
    """Returns trips as points (N, 6) in kilometres: origin, destination, and the hour on a circle as long as the
    day.
    """
    lat0, lon0 = (np.full(len(lat), int(np.median(known.origin[name]))) for name in ("lat_e7", "lon_e7"))
    start = displacement_m(lat0, lon0, origin["lat_e7"], origin["lon_e7"]) / 1000
    end = displacement_m(lat0, lon0, to_e7(lat), to_e7(lon)) / 1000
    day_ms = 86_400_000
    angle = 2 * np.pi * (week_phase_ms(origin["ts_ms"], origin["lon_e7"]) % day_ms) / day_ms
    radius = KM_PER_HOUR_OF_DAY * 24 / (2 * np.pi)
    return np.concatenate([start, end, radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)], axis=1)
