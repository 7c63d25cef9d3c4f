"""Travel times: the score by hand, the baselines in worlds where the time is known, and what the model is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from train_worlds import MakeCorpus, WriteFile, together, track

from model.api import ModelConfig, Predictor, TravelTimes
from model.kinematics.geo import F64
from model.parameters.untrained import untrained
from train.data.cutting import EVALUATION
from train.evaluation.forecasts import open_samples
from train.evaluation.metrics import score_times
from train.evaluation.travel import travel_times
from train.evaluation.travel.travel_times import (
    DistancePower,
    MedianSpeed,
    NearestTrips,
    judge_travel_times,
    of_predictor,
)
from train.evaluation.travel.trips import long_enough, trips

CONFIG = ModelConfig(d=16, heads=2, window=16)
DAY_MS = 86_400_000
START_MS = 1_211_018_404_000


def test_errors_of_times_worked_by_hand() -> None:
    true, answered = np.array([100.0, 200.0, 400.0, 1_000.0]), np.array([110.0, 180.0, 400.0, 700.0])
    result = score_times(true, answered, answered - 50, answered + 50, np.array([1, 1, 2, 2]))
    assert (result.n, result.entities) == (4, 2)
    assert result.mae_s == (10 + 20 + 0 + 300) / 4
    assert result.median_ae_s == 15.0
    assert result.mape == pytest.approx((0.1 + 0.1 + 0 + 0.3) / 4)
    assert result.bias_s == (10 - 20 - 300) / 4
    assert (result.coverage_90, result.width_s) == (0.75, 100.0)
    assert result.mae_low_s == 15.0  # one entity drawn twice
    with pytest.raises(ValueError, match="nothing to score"):
        score_times(*[np.empty(0)] * 4, np.empty(0, int))
    with pytest.raises(ValueError, match="not finite"):
        score_times(true, true, true, true * np.nan, np.zeros(4, int))


def drive(
    entity: str, speed_mps: float, *, pings: int = 20, north_m: float = 0.0, **place: Any
) -> dict[str, list[Any]]:
    minutes = [60.0 * i for i in range(pings)]
    return track(entity, minutes, [speed_mps * t for t in minutes], [north_m] * pings, **place)


def test_a_trip_has_nine_pings_and_a_kilometre(make_corpus: MakeCorpus) -> None:
    both = together(drive("far", 2.0), drive("near", 0.8), drive("eight", 9.0, pings=8), drive("nine", 9.0, pings=9))
    corpus = long_enough(make_corpus(both, cut=EVALUATION))
    assert [corpus.names[code] for code in corpus.entity] == ["far", "nine"]
    found = trips(corpus)
    np.testing.assert_allclose(found.seconds, [19 * 60, 8 * 60])
    np.testing.assert_allclose(found.distance_m, [2.0 * 19 * 60, 9.0 * 8 * 60], rtol=1e-3)


def test_median_speed_is_exact_where_all_go_alike_and_its_interval_is_that_of_the_quotients(
    make_corpus: MakeCorpus,
) -> None:
    alike = trips(make_corpus(together(*(drive(f"v{i}", 10.0, pings=10 + i) for i in range(5))), cut=EVALUATION))
    answer = MedianSpeed.fitted(alike)(alike.origin, alike.lat, alike.lon)
    np.testing.assert_allclose(answer.median_s, alike.seconds, rtol=1e-3)
    speeds = (5.0, 8.0, 10.0, 12.5, 20.0)
    mixed = trips(make_corpus(together(*(drive(f"v{v}", v) for v in speeds)), cut=EVALUATION, name="mixed.csv"))
    fitted = MedianSpeed.fitted(mixed)
    assert fitted.speed_mps == pytest.approx(10.0, rel=1e-3)
    quotients = [np.median([other for other in speeds if other != v]) / v for v in speeds]  # each by the others' speed
    assert (fitted.low, fitted.high) == pytest.approx(tuple(np.quantile(quotients, (0.05, 0.95))), rel=1e-3)


def test_nearest_trips_know_the_slow_town_from_the_fast_one(make_corpus: MakeCorpus) -> None:
    fast = [drive(f"f{i}", 15.0, pings=10 + i, north_m=10.0 * i) for i in range(20)]
    slow = [drive(f"s{i}", 3.0, pings=10 + i, north_m=30_000.0 + 10.0 * i) for i in range(20)]
    known = trips(make_corpus(together(*fast, *slow), cut=EVALUATION))
    both = together(drive("a", 15.0, pings=12), drive("b", 3.0, north_m=30_000.0))
    asked = trips(make_corpus(both, name="asked.csv"))
    answer = NearestTrips.fitted(known)(asked.origin, asked.lat, asked.lon)
    np.testing.assert_allclose(answer.median_s, asked.seconds, rtol=0.01)
    blind = MedianSpeed.fitted(known)(asked.origin, asked.lat, asked.lon)
    assert np.abs(blind.median_s - asked.seconds).max() > 200


def test_trips_that_all_take_a_day_are_told_by_their_time(make_corpus: MakeCorpus) -> None:
    """A bus's day ends near where it began or far from there: by the pace of its likes it was off by 100 % and more."""
    known = trips(make_corpus(together(*(drive(f"v{i:02}", 2.0 + i) for i in range(30))), cut=EVALUATION))
    asked = trips(make_corpus(together(drive("near", 2.5), drive("far", 33.0)), name="asked.csv"))
    for way in (NearestTrips.fitted(known), DistancePower.fitted(known)):
        np.testing.assert_allclose(way(asked.origin, asked.lat, asked.lon).median_s, asked.seconds, rtol=0.02)
    assert (
        np.abs(MedianSpeed.fitted(known)(asked.origin, asked.lat, asked.lon).median_s / asked.seconds - 1).min() > 0.5
    )


def test_a_power_of_the_way_is_found_and_its_interval_is_that_of_the_quotients(make_corpus: MakeCorpus) -> None:
    """The time is the square root of the way, and somewhat less or more."""
    pings = [n for n in range(10, 130, 3) for _ in range(2)]
    later = (0.8, 0.95, 1.05, 1.3)
    drives = (drive(f"v{i}", 0.5 * n / later[i % 4] ** 2, pings=n + 1) for i, n in enumerate(pings))
    known = trips(make_corpus(together(*drives), cut=EVALUATION))
    fitted = DistancePower.fitted(known)
    assert fitted.power == pytest.approx(0.5, abs=0.02)
    answer = fitted(known.origin, known.lat, known.lon)
    assert np.mean(known.seconds <= answer.median_s) == pytest.approx(0.5, abs=0.1)
    assert 0.7 < fitted.low < 0.9 < 1.1 < fitted.high < 1.4
    np.testing.assert_allclose(answer.high_s, fitted.high * answer.median_s)
    here = known.where(slice(0, 1))
    at_once = fitted(here.origin, here.origin["lat_e7"] / 1e7, here.origin["lon_e7"] / 1e7)
    assert at_once.median_s == pytest.approx(np.exp(fitted.log_s)), "who is there already goes a metre"


def test_intervals_are_of_trips_that_were_not_fitted_to(make_corpus: MakeCorpus) -> None:
    """Of two trips a line through both answers each exactly, and held neither of those to come."""
    known = trips(make_corpus(together(drive("a", 5.0), drive("b", 11.0, pings=15)), cut=EVALUATION))
    for fitted in (DistancePower.fitted(known), MedianSpeed.fitted(known)):
        assert fitted.low < 0.8 < 1.2 < fitted.high


def test_nearest_trips_of_one_place_go_by_the_hour(make_corpus: MakeCorpus) -> None:
    night = [drive(f"n{i}", 20.0, start_ms=START_MS + i * DAY_MS) for i in range(16)]
    noon = [drive(f"d{i}", 5.0, pings=77, start_ms=START_MS + i * DAY_MS + DAY_MS // 2) for i in range(16)]
    known = trips(make_corpus(together(*night, *noon), cut=EVALUATION))
    asked = trips(make_corpus(drive("a", 20.0, start_ms=START_MS + 20 * DAY_MS), name="asked.csv"))
    answer = NearestTrips.fitted(known)(asked.origin, asked.lat, asked.lon)
    np.testing.assert_allclose(answer.median_s, asked.seconds, rtol=0.01)


def test_a_trip_does_not_count_among_its_own_neighbours(make_corpus: MakeCorpus) -> None:
    """Two trips: each is answered by the other, so that the interval holds the quotients of their times."""
    both = together(drive("a", 5.0), drive("b", 10.0, pings=39))
    fitted = NearestTrips.fitted(trips(make_corpus(both, cut=EVALUATION)))
    assert (fitted.low, fitted.high) == pytest.approx((0.5 + 0.05 * 1.5, 2.0 - 0.05 * 1.5), rel=1e-3)


def test_a_trip_is_left_out_wherever_among_the_known_it_stands(
    make_corpus: MakeCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = (5.0, 10.0, 10.0, 20.0, 25.0)
    known = trips(
        make_corpus(together(*(drive(f"v{i}", mps, pings=15 + 5 * i) for i, mps in enumerate(speeds))), cut=EVALUATION)
    )
    at_once = NearestTrips.fitted(known)
    monkeypatch.setattr(travel_times, "_CHUNK", 2)
    in_pieces = NearestTrips.fitted(known)
    assert (in_pieces.low, in_pieces.high) == (at_once.low, at_once.high)


def test_the_interval_is_of_true_over_answered_time(make_corpus: MakeCorpus) -> None:
    """Of a slow trip and two fast ones, the slow one takes twice its answer, the fast ones two thirds of theirs."""
    three = together(drive("slow", 5.0, pings=39), drive("a", 10.0), drive("b", 10.0))
    fitted = NearestTrips.fitted(trips(make_corpus(three, cut=EVALUATION)))
    assert (fitted.low, fitted.high) == pytest.approx((2 / 3, 2 - 0.1 * 4 / 3), rel=1e-3)


@pytest.mark.parametrize("turned", [False, True])
def test_nearest_trips_know_both_ends(make_corpus: MakeCorpus, turned: bool) -> None:
    """From one place it is slow to the east and fast to the west; or to one place, from there."""

    def trip(entity: str, mps: float, after_ms: int) -> dict[str, list[Any]]:
        minutes = [60.0 * i for i in range(40 if mps > 0 else 14)]
        east_m = [mps * t for t in minutes]
        way = [east - east_m[-1] for east in east_m] if turned else east_m
        return track(entity, minutes, way, start_ms=START_MS + after_ms)

    # the other kind departs nearer to the hour of those who ask
    some = [trip(f"{mps:+}-{i}", mps, ms) for mps, ms in ((5.0, 0), (-15.0, 600_000)) for i in range(16)]
    known = trips(make_corpus(together(*some), cut=EVALUATION))
    asked = trips(make_corpus(together(trip("slow", 5.0, 600_000), trip("fast", -15.0, 0)), name="asked.csv"))
    answer = NearestTrips.fitted(known)(asked.origin, asked.lat, asked.lon)
    np.testing.assert_allclose(answer.median_s, asked.seconds, rtol=0.01)


def test_of_many_known_trips_some_of_all_are_taken(make_corpus: MakeCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    known = trips(make_corpus(together(*(drive(f"v{i:02}", 5.0) for i in range(20))), cut=EVALUATION))
    monkeypatch.setattr(travel_times, "TRAIN_TRIPS", 4)
    assert travel_times._evenly(known).entity.tolist() == [0, 6, 13, 19]


def test_a_model_that_was_asked_has_its_slots_back(make_corpus: MakeCorpus) -> None:
    asked = trips(make_corpus(together(*(drive(f"v{i}", 5.0) for i in range(3))), cut=EVALUATION))
    predictor = Predictor.untrained(CONFIG, capacity=4)
    of_predictor(predictor)(asked.origin, asked.lat, asked.lon)
    assert len(predictor.acquire(4)) == predictor.capacity == 4


class TenMetresASecond(Predictor):
    """One that answers from the fix that it was given, at a speed of its own."""

    def travel_time(self, slots: NDArray[np.int64], lat_deg: F64, lon_deg: F64) -> TravelTimes:
        assert lat_deg.shape == lon_deg.shape == slots.shape
        last = self._pool.last[slots]
        metres = np.abs(lon_deg - last["lon_e7"] / 1e7) * 111_195 * np.cos(np.radians(37.75))
        return TravelTimes(metres / 10, metres / 12, metres / 8)


def test_without_a_model_the_baselines_are_judged_alone(write_file: WriteFile, tmp_path: Path) -> None:
    path = write_file(together(*(drive(f"v{i:02}", 5.0 + i % 7, pings=30, north_m=9.0 * i) for i in range(40))))
    (sample,) = open_samples([path], "test", cache_dir=tmp_path / "cache", long_enough=long_enough)
    report = judge_travel_times(sample, None)
    assert list(report["predictors"]) == ["median_speed", "distance_power", "nearest_trips", "like_trips"]
    assert sum(band["median_speed"]["n"] for band in report["bands"].values()) == report["trips"]
    (whole,) = open_samples([path], "all", cache_dir=tmp_path / "cache", long_enough=long_enough)
    with pytest.raises(ValueError, match="no two trips to fit the baselines to"):
        judge_travel_times(whole, None)


def test_a_model_is_asked_from_the_first_fix_alone(write_file: WriteFile, tmp_path: Path) -> None:
    path = write_file(together(*(drive(f"v{i:02}", 10.0, pings=30, north_m=9.0 * i) for i in range(40))))
    (sample,) = open_samples([path], "test", cache_dir=tmp_path / "cache", long_enough=long_enough)
    report = judge_travel_times(sample, TenMetresASecond(untrained(CONFIG, 0), name="ten", capacity=4))
    assert report["predictors"]["model"]["mae_s"] < 2
    assert report["predictors"]["model"]["coverage_90"] == 1.0
