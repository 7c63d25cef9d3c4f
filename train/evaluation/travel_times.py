"""Evaluates travel times: origin, destination and departure are given. Prints nothing.

A trip is a track as cut for evaluation, which ends at silences and at a new trajectory id, with at least 9 pings and
TRIP_M metres from its first ping to its last. A predictor knows the first fix and the last place, nothing between.

The baselines are fitted to the train split, and so are their 90 % intervals: to the ratios of true to predicted time of
the train split's own trips, each predicted by a fit to other trips. The time of a trip need not grow with the distance:
a bus drives all day and ends near where it began.

Letters: N trips, T trips of the train split, K nearest of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model.api import Predictor, TravelTimes
from model.kinematics.features import week_phase_ms
from model.kinematics.geo import E7, F64, displacement_m, haversine_m
from train.data.corpus import Corpus
from train.evaluation.forecasts import Sample, about
from train.evaluation.metrics import score_times
from train.evaluation.rollout import MODEL
from train.quantile_regression import fit_line

TRIP_M: Final = 1_000.0  # shorter ones start and end in one square, and their time is mostly waiting
TRIP_PINGS: Final = 9
BANDS_KM: Final = ((1.0, 3.0), (3.0, 10.0), (10.0, np.inf))
NEAREST: Final = 15  # trips; enough for a stable median, few enough to be near
TRAIN_TRIPS: Final = 4_000  # each evaluated trip is compared with all of them
KM_PER_HOUR_OF_DAY: Final = 1.0  # one hour of departure time counts as much as one kilometre
INTERVAL: Final = (0.05, 0.95)
FOLDS: Final = 10  # cross-validation of known trips: each fold is predicted by a fit to the others
_CHUNK: Final = 256


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


class TravelTime(Protocol):
    def __call__(self, origin: NDArray[Any], lat: F64, lon: F64) -> TravelTimes:
        """Predicts travel times from FIX records (N,) to places (N,) in degrees."""
        ...


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


def judge_travel_times(sample: Sample, predictor: Predictor | None) -> dict[str, Any]:
    """Returns scores as plain data for JSON: `predictors.<name>`, and `bands.<km>.<name>` by distance.

    Raises ValueError where there is no train split to fit the baselines to.
    """
    train = None if sample.train is None else long_enough(sample.train)
    if train is None or len(train) < 2:  # a single trip would be predicted from itself
        raise ValueError(f"{sample.file}: no two trips to fit the baselines to apart from what is judged; try --fit-on")
    known = _evenly(trips(train))
    asked = trips(sample.corpus)
    answers = {name: one(asked.origin, asked.lat, asked.lon) for name, one in _everyone(known, predictor).items()}
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


def _scores(asked: Trips, answers: dict[str, TravelTimes], mask: NDArray[np.bool_]) -> dict[str, Any]:
    return {
        name: score_times(asked.seconds[mask], median[mask], low[mask], high[mask], asked.entity[mask])._asdict()
        for name, (median, low, high) in answers.items()
    }


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


def place_km(origin: NDArray[Any], lat: F64, lon: F64, known: Trips) -> F64:
    """Returns trips as points (N, 6) in kilometres: origin, destination, and the hour on a circle as long as the
    day.
    """
    lat0, lon0 = (np.full(len(lat), int(np.median(known.origin[name]))) for name in ("lat_e7", "lon_e7"))
    lat1, lon1 = (np.rint(degrees * E7).astype(np.int64) for degrees in (lat, lon))
    start = displacement_m(lat0, lon0, origin["lat_e7"], origin["lon_e7"]) / 1000
    end = displacement_m(lat0, lon0, lat1, lon1) / 1000
    day_ms = 86_400_000
    angle = 2 * np.pi * (week_phase_ms(origin["ts_ms"], origin["lon_e7"]) % day_ms) / day_ms
    radius = KM_PER_HOUR_OF_DAY * 24 / (2 * np.pi)
    return np.concatenate([start, end, radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)], axis=1)


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
