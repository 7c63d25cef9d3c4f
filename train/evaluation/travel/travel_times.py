"""Evaluates travel times: origin, destination and departure are given. Prints nothing.

A trip (`train.evaluation.travel.trips`) is a track as cut for evaluation, which ends at silences and at a new
trajectory id, with at least 9 pings and TRIP_M metres from its first ping to its last. A predictor knows the first fix
and the last place, nothing between.

The baselines are fitted to the train split, and so are their 90 % intervals: to the ratios of true to predicted time of
the train split's own trips, each predicted by a fit to other trips. The time of a trip need not grow with the distance:
a bus drives all day and ends near where it began.

Letters: N trips, T trips of the train split, K nearest of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from model.api import Predictor, TravelTimes
from model.kinematics.geo import E7, F64, haversine_m
from model.quantile_regression import fit_line
from train.evaluation.forecasts import Sample, about
from train.evaluation.metrics import score_times
from train.evaluation.rollout import MODEL
from train.evaluation.travel.like_trips import LikeTrips, Quantiles
from train.evaluation.travel.trips import Trips, long_enough, place_km, trips

LIKE: Final = "like_trips"  # fitted to all known trips; the others to TRAIN_TRIPS
BANDS_KM: Final = ((1.0, 3.0), (3.0, 10.0), (10.0, np.inf))
NEAREST: Final = 15  # trips; enough for a stable median, few enough to be near
TRAIN_TRIPS: Final = 4_000  # each evaluated trip is compared with all of them
INTERVAL: Final = (0.05, 0.95)
FOLDS: Final = 10  # cross-validation of known trips: each fold is predicted by a fit to the others
_CHUNK: Final = 256


class TravelTime(Protocol):
    def __call__(self, origin: NDArray[Any], lat: F64, lon: F64) -> TravelTimes | Quantiles:
        """Predicts travel times from FIX records (N,) to places (N,) in degrees."""
        ...


def judge_travel_times(sample: Sample, predictor: Predictor | None) -> dict[str, Any]:
    """Returns scores as plain data for JSON: `predictors.<name>`, and `bands.<km>.<name>` by distance.

    Raises ValueError where there is no train split to fit the baselines to.
    """
    train = None if sample.train is None else long_enough(sample.train)
    if train is None or len(train) < 2:  # a single trip would be predicted from itself
        raise ValueError(f"{sample.file}: no two trips to fit the baselines to apart from what is judged; try --fit-on")
    every = trips(train)
    known = _evenly(every)
    asked = trips(sample.corpus)
    everyone = {**_everyone(known, predictor), LIKE: LikeTrips.fitted(every)}
    answers = {name: one(asked.origin, asked.lat, asked.lon) for name, one in everyone.items()}
    everything = np.ones(len(asked.seconds), bool)
    bands = {_band(low, high): _between(asked, low, high) for low, high in BANDS_KM}
    return {
        **about(sample),
        "trips": len(asked.seconds),
        "trips_fitted_to": len(known.seconds),
        "predictors": _scores(asked, answers, everything),
        "bands": {name: _scores(asked, answers, mask) for name, mask in bands.items() if mask.any()},
    }


def of_predictor(predictor: Predictor) -> TravelTime:
    """Returns the model's predictor of travel times, which uses the first fix alone."""

    def travel_time(origin: NDArray[Any], lat: F64, lon: F64) -> TravelTimes:
        slots = predictor.acquire(len(origin))
        try:
            predictor.advance(slots, origin)
            return predictor.travel_time(slots, lat, lon)
        finally:
            predictor.release(slots)

    return travel_time


@dataclass(frozen=True)
class MedianSpeed:
    """The straight-line distance at one speed: the median of the train split's trips."""

    speed_mps: float
    low: float  # ratio of true to predicted time
    high: float

    @classmethod
    def fitted(cls, known: Trips) -> MedianSpeed:
        def speed_mps(trips: Trips) -> float:
            return float(np.median(trips.distance_m / trips.seconds))

        quotients = _quotients(known, lambda others, asked: asked.distance_m / speed_mps(others))
        return cls(speed_mps(known), *_between_quantiles(quotients))

    def __call__(self, origin: NDArray[Any], lat: F64, lon: F64) -> TravelTimes:
        median = haversine_m(origin["lat_e7"] / E7, origin["lon_e7"] / E7, lat, lon) / self.speed_mps
        return TravelTimes(median, self.low * median, self.high * median)


@dataclass(frozen=True)
class DistancePower:
    """A power of the straight-line distance with the lowest mean absolute error of the logarithm: with power 1 all
    trips have one speed, with power 0 one duration.
    """

    log_s: float  # log of the time for one metre
    power: float
    low: float
    high: float

    @classmethod
    def fitted(cls, known: Trips) -> DistancePower:
        def line(trips: Trips) -> F64:
            x, y = np.log(trips.distance_m), np.log(trips.seconds)
            return fit_line(np.stack([np.ones_like(x), x], axis=1), y, 0.5, np.ones_like(x))

        def answer(others: Trips, asked: Trips) -> F64:
            log_s, power = line(others)
            return np.asarray(np.exp(log_s + power * np.log(asked.distance_m)))

        log_s, power = line(known)
        return cls(float(log_s), float(power), *_between_quantiles(_quotients(known, answer)))

    def __call__(self, origin: NDArray[Any], lat: F64, lon: F64) -> TravelTimes:
        metres = haversine_m(origin["lat_e7"] / E7, origin["lon_e7"] / E7, lat, lon)
        median = np.exp(self.log_s + self.power * np.log(np.maximum(metres, 1.0)))
        return TravelTimes(median, self.low * median, self.high * median)


@dataclass(frozen=True)
class NearestTrips:
    """The median time of the most similar trips, by origin, destination and hour of departure; or their median pace,
    where its error on the known trips is lower: a similar trip that went twice as far may have taken twice as long, or
    as long.
    """

    known: Trips
    by_pace: bool
    low: float
    high: float

    @classmethod
    def fitted(cls, known: Trips) -> NearestTrips:
        place = place_km(known.origin, known.lat, known.lon, known)
        answers = [_nearest(known, place, way, itself=True) * way for way in _ways(known.distance_m)]
        errors = [float(np.abs(answer - known.seconds).mean()) for answer in answers]
        by_pace = errors[1] < errors[0]
        return cls(known, by_pace, *_between_quantiles(known.seconds / answers[by_pace]))

    def __call__(self, origin: NDArray[Any], lat: F64, lon: F64) -> TravelTimes:
        place = place_km(origin, lat, lon, self.known)
        metres = haversine_m(origin["lat_e7"] / E7, origin["lon_e7"] / E7, lat, lon)
        of_known, of_asked = (_ways(one)[self.by_pace] for one in (self.known.distance_m, metres))
        median = _nearest(self.known, place, of_known, itself=False) * of_asked
        return TravelTimes(median, self.low * median, self.high * median)


def _everyone(known: Trips, predictor: Predictor | None) -> dict[str, TravelTime]:
    out: dict[str, TravelTime] = {} if predictor is None else {MODEL: of_predictor(predictor)}
    out["median_speed"] = MedianSpeed.fitted(known)
    out["distance_power"] = DistancePower.fitted(known)
    out["nearest_trips"] = NearestTrips.fitted(known)
    return out


def _scores(asked: Trips, answers: dict[str, TravelTimes | Quantiles], mask: NDArray[np.bool_]) -> dict[str, Any]:
    found = {}
    for name, answer in answers.items():
        true = asked.seconds[mask]
        median, low, high = (one[mask] for one in answer[:3])
        found[name] = score_times(true, median, low, high, asked.entity[mask])._asdict()
        if isinstance(answer, Quantiles):
            inside = (answer.low_80_s[mask] <= true) & (true <= answer.high_80_s[mask])
            found[name]["coverage_80"] = float(inside.mean())
    return found


def _band(low_km: float, high_km: float) -> str:
    return f"{low_km:g}-{high_km:g} km" if high_km < np.inf else f"over {low_km:g} km"


def _between(asked: Trips, low_km: float, high_km: float) -> NDArray[np.bool_]:
    return np.asarray((asked.distance_m >= 1000 * low_km) & (asked.distance_m < 1000 * high_km))


def _evenly(known: Trips) -> Trips:
    few = np.unique(np.linspace(0, len(known.seconds) - 1, min(TRAIN_TRIPS, len(known.seconds))).round().astype(int))
    return known.where(few)


def _quotients(known: Trips, answer: Callable[[Trips, Trips], F64]) -> F64:
    """Returns the ratio of true to predicted time (N,) of known trips; `answer` is fitted to its first argument and
    predicts its second.
    """
    fold = np.arange(len(known.seconds)) % FOLDS
    out = np.empty(len(fold))
    for mine in (fold == one for one in np.unique(fold)):
        out[mine] = known.seconds[mine] / answer(known.where(~mine), known.where(mine))
    return out


def _between_quantiles(quotients: F64) -> tuple[float, float]:
    low, high = np.quantile(quotients, INTERVAL)
    return float(low), float(high)


def _ways(distance_m: F64) -> tuple[F64, F64]:
    """Returns the two units of a trip's time (N,): per trip, or per metre."""
    return np.ones_like(distance_m), distance_m


def _nearest(known: Trips, place: F64, way: F64, *, itself: bool) -> F64:
    """Returns the median time per unit (N,) of the nearest known trips, given the units `way` of these (T,). With
    `itself`, the asked trips are the known ones, and none is its own neighbour.
    """
    there, pace = place_km(known.origin, known.lat, known.lon, known), known.seconds / way
    nearest = min(NEAREST, len(pace) - itself)
    if nearest < 1:
        return np.full(len(place), np.median(pace))
    out = np.empty(len(place))
    for first in range(0, len(place), _CHUNK):
        rows = slice(first, first + _CHUNK)
        square = ((place[rows, None] - there) ** 2).sum(axis=-1)
        if itself:
            square[np.arange(len(square)), first + np.arange(len(square))] = np.inf
        out[rows] = np.median(pace[np.argpartition(square, nearest - 1, axis=1)[:, :nearest]], axis=1)
    return out
