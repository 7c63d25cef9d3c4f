"""What reads an atlas in serving is its definition: keys, estimates, the head and its inputs, what it moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from atlas_worlds import atlas_of
from numpy.typing import NDArray

from model.api import FIX, Atlas, Guide, Predictor
from model.atlas import head, outcomes
from model.atlas.cells import keys
from model.config import SMALL
from model.kinematics import motion
from model.network.atlas_head import AtlasHead
from model.parameters.reading import Parameters
from model.parameters.untrained import untrained
from model.serving import atlas_compiled

HORIZONS_S = (1.0, 30.0, 60.0, 200.0, 300.0, 900.0, 2_000.0)
ENTITIES, PINGS = 12, 60
CONTAINS = {"from_ms": -40_000_000, "to_ms": 30_000 * PINGS // 4}  # some of the pings are before its cut-off


@pytest.fixture(scope="module")
def fixes() -> NDArray[np.void]:
    """Tracks [ENTITIES, PINGS] of vehicles that go back and forth on two crossing streets, a ping every 30 s."""
    rng = np.random.default_rng(2)
    found = np.zeros((ENTITIES, PINGS), FIX)
    for entity, track in enumerate(found):
        gone = (9.0 * 30 * np.arange(PINGS) + rng.uniform(0, 8_000)) % 8_000
        way = np.where(gone < 4_000, gone, 8_000 - gone) - 2_000
        track["ts_ms"] = 30_000 * np.arange(PINGS) + entity
        along, across = ("lat_e7", "lon_e7") if entity % 2 else ("lon_e7", "lat_e7")
        track[along] = (way * 90 + rng.normal(0, 300, PINGS)).astype(np.int64) + 400_000_000
        track[across] = rng.normal(0, 300, PINGS).astype(np.int64) + 400_000_000
    return found


@pytest.fixture(scope="module")
def atlas(fixes: NDArray[np.void]) -> Atlas:
    return atlas_of(fixes, CONTAINS)


@pytest.fixture(scope="module")
def weights() -> Parameters:
    """Weights whose head of the atlas says something else about each question."""
    made, rng = untrained(SMALL, 3), np.random.default_rng(5)
    last = {
        name: rng.normal(0, 0.3, made[name].shape).astype(np.float32)
        for name in ("atlas.last.weight", "atlas.last.bias")
    }
    return replace(made, tensors={**made.tensors, **last})


def definition(
    weights: Parameters, atlas: Atlas, last: NDArray[np.void], kin: NDArray[np.float64], dt_s: NDArray[np.float64],
    mean: NDArray[np.float64], cov: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:  # fmt: skip
    made = AtlasHead()
    made.load_state_dict({name: torch.from_numpy(weights[f"atlas.{name}"]) for name in made.state_dict()})
    here = keys(last["lat_e7"], last["lon_e7"], head.last_mps(kin), kin[:, [motion.W_E, motion.W_N]])
    version = head.version_features(atlas.span, last["ts_ms"])
    asked = head.inputs(atlas.sums, here, version, kin, dt_s, mean, cov[..., [0, 2]].mean(-1))
    with torch.no_grad():
        raw = made(torch.from_numpy(asked.features)).numpy()
    moved, width = head.combine(raw, asked)
    return mean + moved, cov * width[..., None], asked.pings


def test_the_compiled_reading_is_the_definition(fixes: NDArray[np.void], atlas: Atlas, weights: Parameters) -> None:
    predictor, rng = Predictor(weights, name="t", precision="float32"), np.random.default_rng(8)
    slots = predictor.acquire(ENTITIES)
    for column in range(20):
        predictor.advance(slots, fixes[:, column].copy())
    kin, last = predictor.moment(slots).kin, predictor.last(slots)
    dt_s = np.tile(HORIZONS_S, (ENTITIES, 1)) * rng.uniform(0.8, 1.2, (ENTITIES, len(HORIZONS_S)))
    mean = rng.normal(0, 500, (*dt_s.shape, 2))
    size = rng.uniform(100, 10_000, dt_s.shape)
    cov = np.stack([size, 0.3 * size, 2 * size], axis=-1)
    expected = definition(weights, atlas, last, kin, dt_s, mean, cov)
    assert (expected[2] > 0).mean() > 0.5, "most ask where something is known"
    assert np.abs(expected[0] - mean).max() > 50
    none = np.zeros(ENTITIES, np.int64)
    pings = atlas_compiled.move(mean, cov, none == 0, kin, last, dt_s, [atlas], none, predictor.atlas_head)
    assert np.array_equal(pings, expected[2])
    assert np.allclose(mean, expected[0], rtol=0, atol=1e-3)
    assert np.allclose(cov, expected[1], rtol=1e-5)


def test_forecasts_from_a_stream_are_the_definition_on_the_model_s_own(
    fixes: NDArray[np.void], atlas: Atlas, weights: Parameters
) -> None:
    """Also where the rows of a batch ask different versions; and what asks none keeps each bit."""
    predictor = Predictor(weights, name="t", precision="float32")
    slots = predictor.acquire(ENTITIES)
    counts = np.full(ENTITIES, PINGS)
    rows = fixes.reshape(-1).copy()
    half = atlas.sums.at(np.arange(0, len(atlas.sums), 2))
    other = Atlas(half, {"from_ms": 0, "to_ms": CONTAINS["to_ms"] - 90_000_000}, "w")
    which = np.arange(len(rows)) % 3 - 1
    said, moment = predictor.answer(slots, rows, counts, HORIZONS_S, Guide([atlas, other], which))
    predictor.reset(slots)
    plain, _ = predictor.answer(slots, rows, counts, HORIZONS_S)
    alone = said.atlas_pings == 0
    assert (alone == (which == -1))[which == -1].all()
    assert 0.3 < alone.mean() < 0.8
    for name in plain._fields:
        one, two = getattr(said, name), getattr(plain, name)
        assert np.array_equal(one[alone], two[alone]), name
    dt_s = np.concatenate([plain.next_dt_s[:, None], np.tile(HORIZONS_S, (len(rows), 1))], axis=1)
    for number, version in enumerate((atlas, other)):
        some = (which == number) & ~alone
        mean, cov = _metres(rows[some], plain, some)
        moved, width, _ = definition(weights, version, rows[some], moment.kin[some], dt_s[some], mean, cov)
        got, got_cov = _metres(rows[some], said, some)
        assert np.allclose(got, moved, rtol=0, atol=2e-2)
        assert np.allclose(got_cov, width, rtol=1e-4)
        assert np.abs(moved - mean).max() > 20


def _metres(
    last: NDArray[np.void], said: object, some: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Forecasts as metres from the last fixes, the next ping's first."""
    north = (said.lat[some] - last["lat_e7"][:, None] / 1e7) * 111_195.0797  # type: ignore[attr-defined]
    east = (
        (said.lon[some] - last["lon_e7"][:, None] / 1e7)
        * 111_195.0797
        * np.cos(np.radians(last["lat_e7"] / 1e7))[:, None]
    )  # type: ignore[attr-defined]
    mean = np.concatenate([said.next_en_m[some][:, None], np.stack([east, north], axis=-1)], axis=1)  # type: ignore[attr-defined]
    cov = np.concatenate([said.next_cov_m2[some][:, None], said.cov_m2[some]], axis=1)  # type: ignore[attr-defined]
    return mean, cov


@pytest.mark.parametrize("step_s", [0.2, 700.0])
def test_after_a_short_step_or_a_long_silence_the_compiled_reading_is_the_definition(
    fixes: NDArray[np.void], atlas: Atlas, weights: Parameters, step_s: float
) -> None:
    """Over less than a second an error looks like a speed; after a silence nobody knows one, and nothing moves."""
    predictor = Predictor(weights, name="t", precision="float32")
    slots = predictor.acquire(ENTITIES)
    for column in range(20):
        predictor.advance(slots, fixes[:, column].copy())
    after = fixes[:, 19].copy()
    after["ts_ms"] += int(1000 * step_s)
    after["lat_e7"] += 40
    predictor.advance(slots, after)
    kin, last = predictor.moment(slots).kin, predictor.last(slots)
    dt_s, none = np.full((ENTITIES, 1), 60.0), np.zeros(ENTITIES, np.int64)
    mean, cov = np.zeros((ENTITIES, 1, 2)), np.ones((ENTITIES, 1, 3)) * [100.0, 0.0, 100.0]
    expected = definition(weights, atlas, last, kin, dt_s, mean, cov)
    pings = atlas_compiled.move(mean, cov, none == 0, kin, last, dt_s, [atlas], none, predictor.atlas_head)
    assert np.array_equal(pings, expected[2])
    assert np.allclose(mean, expected[0], rtol=0, atol=1e-3)
    assert pings.any() == (step_s < 1)
    if step_s < 1:
        velocity = outcomes.velocities(last, fixes[:, 19])
        assert np.allclose(head.last_mps(kin), velocity, rtol=0.01, atol=0.01), "as it was counted"


def test_what_is_not_sound_is_not_moved(fixes: NDArray[np.void], atlas: Atlas, weights: Parameters) -> None:
    """A row that damped velocity replaced is published as that, and says so."""
    predictor = Predictor(weights, name="t", precision="float32")
    slots = predictor.acquire(ENTITIES)
    predictor.answer(slots, fixes[:, :20].reshape(-1).copy(), np.full(ENTITIES, 20), HORIZONS_S)
    kin, last, none = predictor.moment(slots).kin, predictor.last(slots), np.zeros(ENTITIES, np.int64)
    mean, cov = np.zeros((ENTITIES, 1, 2)), np.ones((ENTITIES, 1, 3)) * [100.0, 0.0, 100.0]
    question = kin, last, np.full((ENTITIES, 1), 60.0), [atlas], none
    assert not atlas_compiled.move(mean, cov, none > 0, *question, predictor.atlas_head).any()
    assert not mean.any()
    assert atlas_compiled.move(mean, cov, none == 0, *question, predictor.atlas_head).any()
    assert mean.any()


def test_how_old_a_version_is_and_for_how_long_it_has_seen_the_fleet_moves_a_forecast(
    fixes: NDArray[np.void], atlas: Atlas, weights: Parameters
) -> None:
    """By the time of the ping: the same ping and version give the same forecast whenever they are asked."""
    predictor = Predictor(weights, name="t", precision="float32")
    slots = predictor.acquire(ENTITIES)
    predictor.answer(slots, fixes[:, :20].reshape(-1).copy(), np.full(ENTITIES, 20), HORIZONS_S)
    kin, last, none = predictor.moment(slots).kin, predictor.last(slots), np.zeros(ENTITIES, np.int64)
    now_ms, hour_ms = int(last["ts_ms"].max()), 3_600_000

    def moved(from_ms: int, to_ms: int) -> NDArray[np.float64]:
        mean, cov = np.zeros((ENTITIES, 1, 2)), np.ones((ENTITIES, 1, 3)) * [100.0, 0.0, 100.0]
        version = replace(atlas, contains={"from_ms": from_ms, "to_ms": to_ms})
        question = kin, last, np.full((ENTITIES, 1), 60.0), [version], none
        atlas_compiled.move(mean, cov, none == 0, *question, predictor.atlas_head)
        return mean

    fresh = moved(now_ms - 9 * hour_ms, now_ms)
    assert np.array_equal(fresh, moved(now_ms - 9 * hour_ms, now_ms))
    assert not np.array_equal(fresh, moved(now_ms - 14 * hour_ms, now_ms - 5 * hour_ms)), "as long, and older"
    assert not np.array_equal(fresh, moved(now_ms - 3 * hour_ms, now_ms)), "as old, and shorter"
