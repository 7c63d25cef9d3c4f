"""Tests how far a forecast is moved, and that a fleet finds out by itself how far it should be."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.atlas import believing
from model.atlas.asking import Estimate
from model.atlas.believing import CHI2, HORIZONS_S, NOTHING, UNFITTED, Belief, Forecast, combine, fit

N, B = 6_000, len(HORIZONS_S)
DT_S = np.tile(HORIZONS_S, (N, 1))


def isotropic(sigma_m: NDArray[np.float64]) -> NDArray[np.float64]:
    zero = np.zeros_like(sigma_m)
    return np.stack([sigma_m**2, zero, sigma_m**2], axis=-1)


def world(seed: int, model_m: float, passages_m: float) -> tuple[Forecast, Estimate, NDArray[np.float64]]:
    """Returns what happened, and forecasts and passages that are off by so much and say so."""
    rng = np.random.default_rng(seed)
    happened = rng.normal(0, 1_000, (N, B, 2))
    wide = np.full((N, B), model_m), np.full((N, B), passages_m)
    means = (happened + one[..., None] * rng.normal(0, 1, (N, B, 2)) for one in wide)
    model, near = next(means), next(means)
    return Forecast(model, isotropic(wide[0])), Estimate(near, isotropic(wide[1]), np.full((N, B), 9.0)), happened


def off_m(forecast: Forecast, happened: NDArray[np.float64]) -> float:
    return float(np.hypot(*np.moveaxis(forecast.mean_m - happened, -1, 0)).mean())


def held(forecast: Forecast, happened: NDArray[np.float64]) -> float:
    return float((believing._mahalanobis2(forecast, happened) <= CHI2).mean())


def test_where_there_is_no_evidence_a_forecast_keeps_its_bits() -> None:
    model, near, _ = world(0, 300.0, 100.0)
    none = near._replace(n=np.where(np.arange(N) % 2, near.n.T, 0.0).T)
    for belief in (UNFITTED, Belief(np.array([0.25, 1.0, 8.0]), np.array([1.0, -1.0, 2.0]))):
        found = combine(model, none, DT_S, belief)
        for after, before in zip(found, model, strict=True):
            assert (after[::2] == before[::2]).all()
            assert (after[1::2] != before[1::2]).any()


def test_two_that_know_something_are_nearer_together_and_hold_what_they_should() -> None:
    belief = fit(*world(1, 300.0, 200.0))
    model, near, happened = world(2, 300.0, 200.0)
    found = combine(model, near, DT_S, belief)
    assert off_m(found, happened) < 0.98 * min(off_m(model, happened), off_m(Forecast(*near[:2]), happened))
    assert held(found, happened) == pytest.approx(0.9, abs=0.015)


def test_passages_that_say_less_than_they_seem_are_believed_less() -> None:
    """They seem to agree within 20 m, and are 900 m off."""
    model, near, happened = world(3, 300.0, 900.0)
    sure = near._replace(cov_m2=isotropic(np.full((N, B), 20.0)))
    believed = combine(model, sure, DT_S, UNFITTED)
    fitted = combine(model, sure, DT_S, fit(model, sure, happened))
    assert off_m(believed, happened) > 2 * off_m(model, happened)
    assert off_m(fitted, happened) <= 1.005 * off_m(model, happened)


def test_a_fleet_whose_passages_tell_nothing_has_the_forecasts_of_its_model() -> None:
    model, near, happened = world(4, 100.0, 100.0)
    elsewhere = near._replace(mean_m=near.mean_m[::-1], cov_m2=isotropic(np.full((N, B), 1_500.0)))
    belief = fit(model, elsewhere, happened)
    assert (belief.scale == NOTHING).all()
    found = combine(model, elsewhere, DT_S, belief)
    assert (found.mean_m == model.mean_m).all()
    assert (found.cov_m2 == model.cov_m2).all()


def test_nobody_knows_what_happened_and_nothing_is_believed() -> None:
    model, near, happened = world(5, 300.0, 100.0)
    happened[:, 1] = np.nan
    belief = fit(model, near, happened)
    assert belief.scale[1] == NOTHING
    assert (belief.scale[[0, 2]] < NOTHING).all()
