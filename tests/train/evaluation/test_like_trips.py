"""Like trips, in worlds where it is known what makes trips alike."""

from __future__ import annotations

import numpy as np

from model.kinematics.features import ABSENT, FIX
from train.evaluation.travel.like_trips import PARTS, LikeTrips
from train.evaluation.travel.travel_times import NearestTrips
from train.evaluation.travel.trips import Trips

START_MS = 1_211_155_200_000  # a Monday
HOUR_MS = 3_600_000


def world(count: int, seed: int) -> Trips:
    """Trips whose time depends on the hour alone, from anywhere to anywhere."""
    rng = np.random.default_rng(seed)
    origin = np.zeros(count, FIX)
    hours = rng.uniform(0, 24 * 30, count)
    origin["ts_ms"] = START_MS + (hours * HOUR_MS).astype(np.int64)
    origin["lat_e7"] = rng.integers(377_000_000, 378_000_000, count)
    origin["lon_e7"] = rng.integers(-10_000_000, 10_000_000, count)
    origin["speed_cms"] = origin["heading_cdeg"] = ABSENT
    lat, lon = rng.uniform(37.7, 37.8, count), rng.uniform(-1, 1, count)
    seconds = 3_600 * (1 + hours % 24 / 6) * np.exp(rng.normal(0, 0.1, count))
    return Trips(np.arange(count, dtype=np.int32) % 40, origin, lat, lon, seconds, rng.uniform(1e3, 1e5, count))


def test_it_finds_that_the_hour_makes_trips_alike() -> None:
    known, asked = world(1_500, 1), world(400, 2)
    fitted = LikeTrips.fitted(known)
    counts = dict(zip(PARTS, fitted.alike.counts, strict=True))
    assert counts["hour"] > 5 * max(counts["origin"], counts["destination"])
    like = fitted(asked.origin, asked.lat, asked.lon)
    table = NearestTrips.fitted(known)(asked.origin, asked.lat, asked.lon)
    errors = [np.abs(one.median_s - asked.seconds).mean() for one in (like, table)]
    assert errors[0] < 0.7 * errors[1]
    for low, high, share in ((like.low_s, like.high_s, 0.9), (like.low_80_s, like.high_80_s, 0.8)):
        held = ((low <= asked.seconds) & (asked.seconds <= high)).mean()
        assert abs(held - share) < 0.06
    assert (like.low_s <= like.low_80_s).all()
    assert (like.low_80_s <= like.high_80_s).all()
    assert (like.high_80_s <= like.high_s).all()


def test_the_same_trips_are_compared_in_the_same_way() -> None:
    known = world(300, 3)
    assert LikeTrips.fitted(known).alike == LikeTrips.fitted(known).alike


def test_two_trips_are_enough_to_be_compared() -> None:
    known = world(2, 4)
    answer = LikeTrips.fitted(known)(known.origin, known.lat, known.lon)
    assert np.isfinite(answer.median_s).all()
