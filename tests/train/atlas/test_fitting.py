"""The head learns when to believe what a fleet has shown: in worlds where one is right, and the other is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.atlas import head
from model.kinematics.answer_bounds import ATLAS_FEATURES, ATLAS_LEVELS
from train.atlas import fitting
from train.atlas.examples import Examples

K = 2_000
FAR_M = 300.0


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "BATCH", 256)


def world(right: str) -> Examples:
    """Questions where the atlas lies FAR_M beside the model, and the thing was where one of them said. `mixed`: the
    atlas is right where it has seen much.
    """
    rng = np.random.default_rng(1)
    features = np.zeros((K, ATLAS_FEATURES), np.float32)
    much = rng.random(K) < 0.5
    features[:, head.OF_QUESTION :: head.OF_LEVEL] = much[:, None]
    of_atlas = {"model": np.zeros(K), "atlas": np.ones(K), "mixed": much * 1.0}[right]
    apart = np.tile(np.array([FAR_M, 0.0]), (K, ATLAS_LEVELS, 1))
    noise = rng.normal(0, 20, (K, 2))
    off = noise - of_atlas[:, None] * np.array([FAR_M, 0.0])  # from where it was to the model's forecast
    cov = np.tile([FAR_M**2, 0.0, FAR_M**2], (K, 1))
    columns = features, apart, np.full(K, 0.5), np.zeros(K), off, cov, np.full(K, FAR_M)
    return Examples._make([*(one.astype(np.float32) for one in columns), np.full(K, 1 / K)])


@pytest.mark.parametrize(("right", "at_most"), [("model", 0.12), ("atlas", 0.12), ("mixed", 0.15)])
def test_it_learns_whom_to_believe(right: str, at_most: float) -> None:
    fitted = fitting.fit([world(right)], 300)
    assert fitted.before == pytest.approx(0.5, abs=0.05), "by their variances, halfway"
    assert fitted.after < at_most


def test_regions_that_should_hold_nine_in_ten_do() -> None:
    part = world("atlas")
    fitted = fitting.fit([part], 600)
    with torch.no_grad():
        answer = fitting._answer(fitted.head, part)
    size = FAR_M**2 * np.exp(answer.log_width.numpy())
    inside = (answer.off_m.numpy() ** 2).sum(1) / size < fitting.NINE_IN_TEN
    assert inside.mean() == pytest.approx(0.9, abs=0.03)


def test_the_same_seed_gives_the_same_head_and_no_other_random_number_is_touched() -> None:
    state = torch.random.get_rng_state()
    one, two, other = (fitting.fit([world("mixed")], 20, seed).head.state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_the_answer_that_is_trained_is_the_one_that_is_served() -> None:
    part = world("mixed")
    made = fitting.fit([part], 20).head
    with torch.no_grad():
        answer = fitting._answer(made, part)
        raw = made(torch.from_numpy(part.features)).numpy()
    asked = head.Inputs(
        part.features[None], part.apart_m[None].astype(float), part.share[None].astype(float),
        part.log_width[None].astype(float), np.ones(1, np.int64),
    )  # fmt: skip
    moved, width = head.combine(raw[None], asked)
    assert np.allclose(answer.off_m.numpy(), part.off_m + moved[0], rtol=0, atol=1e-2)
    assert np.allclose(np.exp(answer.log_width.numpy()), width[0], rtol=1e-4)
