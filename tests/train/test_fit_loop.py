"""The training loop: it learns, it survives a kill to the bit, it stops when it diverges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.api import Predictor
from model.checkpoint import from_pretrained
from model.config import ModelConfig
from train import objective
from train.batches import Batches, BatchOptions
from train.data import Corpus
from train.fit import CHECKPOINT_FILE, FitOptions, Tick, TrainingDiverged, fit, learning_rate

TINY = ModelConfig(name="tiny", d=32, blocks=2, heads=2, window=16)
BATCH = BatchOptions(rows=8, tokens=40)


class Crash(Exception):
    """A kill, as far as the loop can tell: control is lost between two steps."""


def circling(tracks: int = 12, pings: int = 150, *, seed: int = 0) -> Corpus:
    """Things that drive in circles of their own size: constant velocity is wrong in a way that can be learned."""
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.integers(8, 13, (tracks, pings)), axis=1)
    radius, speed = rng.uniform(300, 900, (tracks, 1)), rng.uniform(8, 15, (tracks, 1))
    angle = t * speed / radius + rng.uniform(0, 6, (tracks, 1))
    rows = tracks * pings
    start = np.arange(tracks, dtype=np.int64) * pings
    return Corpus(
        ts_ms=(1_480_000_000_000 + 1000 * t).reshape(rows).astype(np.int64),
        lat=(30 + radius * np.sin(angle) / 111_195).reshape(rows),
        lon=(-97 + radius * np.cos(angle) / 96_300).reshape(rows),
        speed_mps=np.full(rows, np.nan, np.float32),
        heading_deg=np.full(rows, np.nan, np.float32),
        tracks=np.stack([start, start + pings], axis=1),
        entity=np.arange(tracks, dtype=np.int32),
        file=np.zeros(tracks, np.int32),
        mode=np.full(tracks, -1, np.int32),
        file_start=np.array([0, rows], dtype=np.int64),
        names=tuple(f"car-{i}" for i in range(tracks)),
        files=("circles.parquet",),
        modes=(),
        fingerprint=f"circles-{seed}",
        dropped={},
    )


def options(out: Path, **changes: object) -> FitOptions:
    plain = FitOptions(out=out, steps=20, warmup=5, checkpoint_every=5, validate_every=8, threads=1, batch=BATCH)
    return replace(plain, **changes)  # type: ignore[arg-type]


def crash_after(step: int) -> object:
    def watch(tick: Tick) -> None:
        if tick.step == step:
            raise Crash

    return watch


def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    """Ten steps, a crash in the middle between two checkpoints, and on: the losses the weights of twenty."""
    train, val = circling(), circling(3, seed=1)
    straight = fit(train, val, TINY, options(tmp_path / "straight"))
    with pytest.raises(Crash):
        fit(train, val, TINY, options(tmp_path / "killed"), watch=crash_after(13))  # type: ignore[arg-type]
    seen: list[int] = []
    resumed = fit(train, val, TINY, options(tmp_path / "killed"), watch=lambda tick: seen.append(tick.step))
    assert seen == list(range(11, 21))
    assert resumed.losses == straight.losses
    assert resumed.validations == straight.validations
    for a, b in zip(straight.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not (tmp_path / "killed" / CHECKPOINT_FILE).exists()


def test_a_run_is_a_function_of_its_seed(tmp_path: Path) -> None:
    train = circling()
    first = fit(train, None, TINY, options(tmp_path / "a", steps=4))
    again = fit(train, None, TINY, options(tmp_path / "b", steps=4))
    other = fit(train, None, TINY, options(tmp_path / "c", steps=4, seed=1))
    assert first.losses == again.losses != other.losses


def test_training_beats_the_physics_that_it_starts_from(tmp_path: Path) -> None:
    train, val = circling(), circling(4, seed=1)
    seen: list[dict[str, float]] = []
    fit(
        train,
        val,
        TINY,
        options(tmp_path, steps=150, lr=5e-3, validate_every=150),
        watch=lambda tick: seen.append(tick.validation or {}),
    )
    exam = Batches(val, TINY, BATCH, 7).draw(0)
    with torch.inference_mode():
        before = objective.measure(Predictor.untrained(TINY, capacity=1)._net, exam)
        after = objective.measure(from_pretrained(tmp_path), exam)
    assert after.next_m < 0.9 * before.next_m
    assert after.far_m < 0.9 * before.far_m
    assert after.likelihood < before.likelihood - 0.3
    assert seen[-1]["total"] < 5


def test_what_was_trained_can_be_served(tmp_path: Path) -> None:
    report = fit(circling(), None, TINY, options(tmp_path, steps=3))
    predictor = Predictor.load(tmp_path, capacity=2)
    assert predictor.name == "tiny"
    slots = predictor.acquire(1)
    predictor.rebuild(slots, [circling().fixes(np.arange(30))])
    assert not predictor.forecast(slots, [60.0]).fallback.any()
    assert report.steps == 3
    assert "circles.parquet" in (tmp_path / "README.md").read_text()


def test_divergence_names_the_step_the_rate_and_the_last_good_checkpoint(tmp_path: Path) -> None:
    """A step of 10^37 leaves weights that are finite, and products of them that are not."""
    wild = options(tmp_path, lr=1e37)
    with pytest.raises(TrainingDiverged, match=r"at step 1, learning rate 4e\+36.*there is no checkpoint yet"):
        fit(circling(), None, TINY, wild)
    with pytest.raises(TrainingDiverged, match=r"at step 1, .*the last good checkpoint is .*checkpoint\.pt"):
        fit(circling(), None, TINY, replace(wild, checkpoint_every=1))
    saved = torch.load(tmp_path / CHECKPOINT_FILE, weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in saved["network"].values())


def test_another_run_s_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        fit(circling(), None, TINY, options(tmp_path), watch=crash_after(7))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="other data, model or options"):
        fit(circling(), None, TINY, options(tmp_path, lr=1e-4))
    with pytest.raises(ValueError, match="other data, model or options"):
        fit(circling(seed=5), None, TINY, options(tmp_path))
    anew = fit(circling(), None, TINY, options(tmp_path, lr=1e-4, steps=2), resume=False)
    assert anew.steps == 2


def test_a_damaged_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        fit(circling(), None, TINY, options(tmp_path), watch=crash_after(7))  # type: ignore[arg-type]
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged"):
        fit(circling(), None, TINY, options(tmp_path))


def test_minutes_become_steps_once_and_are_kept(tmp_path: Path) -> None:
    ticks: list[Tick] = []
    quick = options(tmp_path, steps=None, minutes=1e-4, batch=BatchOptions(rows=2, tokens=16))
    report = fit(circling(), None, TINY, quick, watch=ticks.append)
    assert report.steps == 30  # the measurement itself: a hundredth of a second has no room for more
    assert ticks[0].total is None
    assert ticks[-1].total == 30


def test_the_learning_rate_warms_up_and_comes_down() -> None:
    run = FitOptions(out=Path(), steps=100, warmup=10, lr=1.0, last_lr=0.1)
    rates = [learning_rate(step, 100, run) for step in range(100)]
    assert np.argmax(rates) in (9, 10)
    assert all(np.diff(rates[:10]) > 0)
    assert all(np.diff(rates[10:]) < 0)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("wrong", [{"steps": None}, {"minutes": 3.0}, {"steps": 0}, {"lr": 0.0}, {"ema": 1.0}])
def test_impossible_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"steps|lr"):
        options(Path(), **wrong)
