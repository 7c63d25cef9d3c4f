"""Shrinkage: forecasts between the network's and damped velocity's, as far as tracks ask for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from train_worlds import MakeCorpus, MakeSample, fleet, lively, together, track

from model.api import ModelConfig, Predictor
from model.kinematics.answer_bounds import MAX_LEAN, OUT
from model.network.checkpoint import from_pretrained, to_parameters
from model.network.network import Network, build
from train.calibration.shrinkage import fit_share, shrink
from train.evaluation.forecasts import Sample, roll_out
from train.evaluation.rollout import Answers

TINY = ModelConfig(d=16, heads=2, window=16)


@pytest.fixture
def sample(make_sample: MakeSample) -> Sample:
    return make_sample(fleet(12, 90))


def answers(sample: Sample, network: Network) -> dict[str, Answers]:
    return roll_out(sample, Predictor(to_parameters(network), name="x")).answers


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("weights", ["random", "small"])
def test_forecasts_lie_that_far_on_the_way_to_damped_velocity(sample: Sample, weights: str, share: float) -> None:
    """At each horizon, within `combine`'s bounds, which trained weights do reach here and there."""
    network = lively(TINY).net if weights == "random" else from_pretrained(weights)
    was = answers(sample, network)
    shrink(network, share)
    now = answers(sample, network)["model"]
    model, damped = was["model"], was["damped_velocity"]
    asked = np.isfinite(model.lat).all(axis=1)
    for axis in ("lat", "lon"):
        start, end, got = (getattr(one, axis)[asked] for one in (model, damped, now))
        way = np.abs(end - start).mean(axis=0)
        assert (way > 1e-5).all()  # a metre: there is a way to go
        assert (np.abs(got - (start + share * (end - start))).mean(axis=0) < 0.05 * way).all()
    assert model.cov_m2 is not None
    np.testing.assert_array_equal(now.cov_m2, model.cov_m2)


def test_what_reports_a_velocity_is_shrunk_as_far(make_corpus: MakeCorpus) -> None:
    """Cars that go east and say north-east: by a network that follows them, until it is not followed."""
    times_s = [30.0 * i for i in range(40)]
    said = {"speed_mps": [9.0] * 40, "heading_deg": [45.0] * 40}
    corpus = make_corpus(together(*(track(f"c{i}", times_s, [9 * t for t in times_s]) | said for i in range(3))))
    network = build(TINY, 0)
    with torch.no_grad():
        network.forecast.beside.last.bias[-1] = MAX_LEAN * math.atanh(1 / MAX_LEAN)
    sample = Sample("cars", "all", "-", corpus, len(corpus), 1)
    before = answers(sample, network)
    assert np.nanmin(before["model"].lat - before["damped_velocity"].lat) > 1e-3
    shrink(network, 1.0)
    after = answers(sample, network)
    np.testing.assert_allclose(after["model"].lat, after["damped_velocity"].lat, atol=1e-6)


def test_a_network_that_errs_is_shrunk_all_the_way(sample: Sample) -> None:
    wild = lively(TINY).net
    with torch.no_grad():
        wild.forecast.last.bias[0] += 3.0  # reaches to the east of where anything goes
    assert fit_share([(wild, sample)]) == 1.0


@pytest.mark.parametrize(("lean", "share"), [(1.0, 0.0), (1.6, 0.4)])
def test_errors_to_both_sides_are_weighed_against_each_other(
    make_sample: MakeSample, lean: float, share: float
) -> None:
    """Ships that go straight on. Damped velocity falls short of where they get; a network that leans to undamped
    velocity is there, and one that leans 1.6 times as far is 0.6 of that beyond: they are 0.6 / 1.6 of the way back, so
    0.4 on the grid."""
    times_s = [30.0 * i for i in range(60)]
    ships = (track(f"s{i}", times_s, [(5.0 + i) * t for t in times_s]) for i in range(4))
    network = build(TINY, 0)
    with torch.no_grad():
        network.forecast.last.bias[OUT + 1] = MAX_LEAN * math.atanh(lean / MAX_LEAN)
    assert fit_share([(network, make_sample(together(*ships)))]) == share


def test_what_does_not_stand_on_physics_is_refused() -> None:
    with pytest.raises(ValueError, match="its target is 'delta'"):
        shrink(build(replace(TINY, target="delta"), 0), 0.5)
    with pytest.raises(ValueError, match="its target is 'delta'"):
        fit_share([(build(replace(TINY, target="delta"), 0), Sample("none", "all", "-", None, 0, 1))])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 1\\.5"):
        shrink(build(TINY, 0), 1.5)
