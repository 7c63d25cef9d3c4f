"""Fitting: the search on a bowl, the noise of a world whose noise is known, and that nothing judged is seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_worlds import MakeCorpus, WriteFile, together, track, wander

from model.config import SMALL
from model.kinematics.filters import FITTED, FittedKalman, Follower
from model.kinematics.imm import Imm
from train.data.anchors import keep_long
from train.data.cutting import EVALUATION
from train.evaluation.baselines import fitted_filters as fitting
from train.evaluation.baselines.fitted_filters import Windows, fit_followers, fit_smoother, search
from train.evaluation.forecasts import open_samples
from train.evaluation.metrics import energy_score

pytestmark = pytest.mark.slow


def test_the_search_comes_to_the_bottom_of_a_bowl() -> None:
    def bowl(values: dict[str, float]) -> float:
        x, y = np.log(values["x"] / 3.0), np.log(values["y"] / 500.0)
        return float(x * x + y * y + x * y)

    found, loss, tries = search(bowl, {"x": 100.0, "y": 1.0})
    assert loss == bowl(found) < 0.05
    assert found["x"] == pytest.approx(3.0, rel=0.3)
    assert found["y"] == pytest.approx(500.0, rel=0.3)
    assert tries < 100


def ornstein_uhlenbeck(entity: str, seed: int, psd: float, tau_s: float, sigma_m: float) -> dict[str, list[object]]:
    """A ping every 20 s of what the filter takes things for, in steps of 1 s."""
    rng = np.random.default_rng(seed)
    carry = np.exp(-1 / tau_s)
    v = np.zeros((1201, 2))
    for t in range(1200):
        v[t + 1] = carry * v[t] + rng.normal(0, np.sqrt(psd), 2)
    seen = np.cumsum(v, axis=0)[::20] + rng.normal(0, sigma_m, (61, 2))
    return track(entity, [20.0 * i for i in range(61)], seen[:, 0].tolist(), seen[:, 1].tolist())


@pytest.mark.usefixtures("few_for_the_imm")
def test_the_noise_of_a_known_world_is_found(make_corpus: MakeCorpus) -> None:
    worlds = (ornstein_uhlenbeck(f"v{i}", i, psd=0.05, tau_s=100.0, sigma_m=40.0) for i in range(20))
    corpus = make_corpus(together(*worlds), cut=EVALUATION)
    fitted = fit_followers(corpus, SMALL).report
    assert fitted is not None
    assert fitted[FITTED]["fix_sigma_m"] == pytest.approx(40, rel=0.5)
    assert 0.02 < fitted[FITTED]["accel_psd"] < 0.12  # from 0.6
    smoother = fit_smoother(corpus, SMALL)
    assert smoother is not None
    assert 0.02 < smoother[1]["accel_psd"] < 0.12
    assert smoother[0].accel_psd == smoother[1]["accel_psd"]


def ship(entity: str, seed: int) -> dict[str, list[object]]:
    """14 pings, a minute apart: one ship in five goes at some 7 m/s, the others lie and stir by centimetres."""
    going = seed % 5 == 0
    jitter_mps = np.random.default_rng(seed).normal(0, 0.5 if going else 0.003, 14)
    east_m = np.cumsum(60 * ((7.0 if going else 0.0) + np.cumsum(jitter_mps)))
    return track(entity, [60.0 * i for i in range(14)], east_m.tolist())


@pytest.mark.usefixtures("few_for_the_imm")
def test_a_horizon_that_hardly_anyone_reaches_does_not_decide_the_fit(make_corpus: MakeCorpus) -> None:
    """Of 2,000 anchors of US ships two reached 900 s, of a ship that lay still, and had the weight of all others: the
    filter was fitted to stay where it is and be sure of it, and its 90 % regions held 3 %. Here one ship's do."""
    minutes = [60.0 * i for i in range(25)]
    ships = [ship(f"v{i:02}", i) for i in range(40)]
    moored = track("moored", minutes, [0.0] * 25)
    corpus = make_corpus(together(*ships, moored), cut=EVALUATION)
    alone = make_corpus(together(*ships), cut=EVALUATION, name="ships.parquet")
    fitted = fit_followers(corpus, SMALL).report
    assert fitted is not None
    assert fitted[FITTED]["damping_s"] > 60  # it was 0.012
    with_moored, without = fit_smoother(corpus, SMALL), fit_smoother(alone, SMALL)
    assert with_moored is not None
    assert without is not None
    assert with_moored[1]["damping_s"] == pytest.approx(without[1]["damping_s"], rel=0.5)  # it was a sixtieth


def test_of_several_starts_the_best_is_taken() -> None:
    def valleys(values: dict[str, float]) -> float:
        x = np.log(values["x"])
        return float(min(abs(x - 1.0) + 0.5, abs(x - 9.0)))

    found, loss, tries = fitting._search_all(valleys, {"x": 2.0}, {"x": 9_000.0})
    assert np.log(found["x"]) == pytest.approx(9.0, abs=0.3)
    assert loss == valleys(found)
    assert tries == sum(search(valleys, {"x": x})[2] for x in (2.0, 9_000.0))


def test_each_filter_is_fitted_to_what_it_is_judged_by(
    make_corpus: MakeCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a few cars and of ships that lie still: no step of a search, up or down, makes any of the three better."""
    cars = (ornstein_uhlenbeck(f"c{i}", i, psd=3.0, tau_s=40.0, sigma_m=3.0) for i in range(3))
    corpus = make_corpus(together(*(ship(f"v{i:02}", i) for i in range(40)), *cars), cut=EVALUATION)
    starts: list[tuple[Mapping[str, float], ...]] = []
    least = fitting._search_all
    monkeypatch.setattr(fitting, "IMM_ANCHORS", 200)  # of 600, which take three times as long
    monkeypatch.setattr(fitting, "_search_all", lambda loss, *several: starts.append(several) or least(loss, *several))
    kalman, nearest, imm = fit_followers(corpus, SMALL).followers
    windows, fewer = (fitting._windows(keep_long(corpus), most) for most in (fitting.ANCHORS, fitting.IMM_ANCHORS))

    def crps(follower: Follower, over: Windows = windows) -> float:
        return fitting._loss(follower, over, energy_score)

    def error(follower: Follower) -> float:
        return fitting._loss(follower, windows, fitting._error_m)

    assert crps(kalman) <= crps(nearest)
    assert error(nearest) <= error(kalman)
    assert isinstance(nearest, FittedKalman)
    numbers = {name: getattr(nearest.config, name) for name in fitting.PHYSICS}
    for name in fitting.PHYSICS:
        for by in (1 / 1.4, 1.4):
            step = replace(nearest, config=fitting._with_values(SMALL, numbers | {name: by * numbers[name]}))
            assert error(step) > error(nearest) - 2e-4, f"{name} by {by}"
    for by in (0.5, 2.0):
        other = replace(
            nearest, config=fitting._with_values(SMALL, fitting._rescale(numbers, by * numbers["fix_sigma_m"]))
        )
        assert crps(nearest) < crps(other)
        assert error(nearest) == pytest.approx(error(other), rel=1e-3)
    assert isinstance(imm, Imm)
    assert isinstance(kalman, FittedKalman)
    for start, config in zip(starts[-1], (SMALL, kalman.config), strict=True):
        assert {name: start[name] for name in fitting.PHYSICS} == {
            name: getattr(config, name) for name in fitting.PHYSICS
        }
    assert abs(imm.shares[0] - 0.3) > 0.1, "the share of stops is fitted, too"
    assert sum(imm.shares) == pytest.approx(1.0)
    for other in (Imm.around(SMALL), Imm.around(kalman.config)):
        assert crps(imm, fewer) < crps(other, fewer)


def test_tracks_too_short_to_hide_a_block_in_fit_no_smoother(make_corpus: MakeCorpus) -> None:
    assert fit_smoother(make_corpus(wander("a", 10, 0), cut=EVALUATION), SMALL) is None


def test_what_is_judged_is_never_what_is_fitted_to(write_file: WriteFile, tmp_path: Path) -> None:
    path = write_file(together(*(wander(f"v{i:02}", 60, i) for i in range(40))))
    other = write_file(together(*(wander(f"w{i:02}", 60, i) for i in range(40))), "other.parquet")
    for part in ("val", "test"):
        (sample,) = open_samples([path], part, cache_dir=tmp_path / "cache")
        assert sample.train is not None
        judged = {row for first, last in sample.corpus.tracks for row in range(first, last)}
        assert not judged & {row for first, last in sample.train.tracks for row in range(first, last)}
    for part in ("train", "all"):
        (sample,) = open_samples([path], part, cache_dir=tmp_path / "cache")
        assert sample.train is None
        (sample,) = open_samples([path], "test", cache_dir=tmp_path / "cache", fit_on=[path])
        assert sample.train is not None
        judged = {row for first, last in sample.corpus.tracks for row in range(first, last)}
        assert not judged & {row for first, last in sample.train.tracks for row in range(first, last)}
    (sample,) = open_samples([path], "all", cache_dir=tmp_path / "cache", fit_on=[other])
    assert sample.train is not None
    assert sample.train.files == ("other.parquet",)
    with pytest.raises(ValueError, match="cannot be fitted to a file that is judged with split all"):
        open_samples([path], "all", cache_dir=tmp_path / "cache", fit_on=[path])
