"""The training loop: it learns, it survives a kill to the bit, it stops when it diverges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fit_worlds import BATCH, SPOILT, TINY, Crash, assert_same, circling, crash_after, options

from model.api import Gap, Predictor
from model.network.checkpoint import from_pretrained
from model.network.network import build
from train.batches.batches import Batches
from train.batches.options import BatchOptions, FitOptions
from train.fit import loss
from train.fit.run_state import CHECKPOINT_FILE
from train.fit.trainer import Interrupted, Tick, TrainingDiverged, fit, learning_rate

RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "micro-batches of AdamW": {"accumulate": 2, "optimizer": "adamw"},
    "micro-batches of Muon": {"accumulate": 2, "optimizer": "muon"},
    "early stop": {"patience": 3, **SPOILT},
}


@pytest.mark.parametrize("how", RUNS.values(), ids=RUNS)
def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path: Path, how: dict[str, Any]) -> None:
    """To the bit, in losses, validations and weights, from the last checkpoint on, of which there is one in five."""
    train, val = circling(), circling(3, seed=1)
    straight, killed = fit(train, val, TINY, options(tmp_path / "straight", **how)), options(tmp_path / "killed", **how)
    with pytest.raises(Crash):
        fit(train, val, TINY, killed, watch=crash_after(straight.steps - 2))
    seen: list[int] = []
    lines: list[str] = []
    resumed = fit(train, val, TINY, killed, watch=lambda tick: seen.append(tick.step), say=lines.append)
    kept = (straight.steps - 2) // 5 * 5
    assert lines[0] == f"going on from step {kept} of {killed.steps}"
    assert seen == list(range(kept + 1, straight.steps + 1))
    assert_same(resumed, straight)
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
        before = loss.measure(build(TINY, 0), exam)
        after = loss.measure(from_pretrained(tmp_path), exam)
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


def test_gradients_are_clipped_to_what_is_asked_for(tmp_path: Path) -> None:
    """Steps of unlike norms weigh alike when all are clipped; neither optimiser minds the size of all of them."""
    losses = [fit(circling(), None, TINY, options(tmp_path, steps=6, clip=clip)).losses for clip in (1e9, 1e8, 0.01)]
    assert losses[0] == losses[1]
    assert losses[2][0] == losses[0][0]
    assert losses[2][-1] != losses[0][-1]


def test_mixed_precision_is_near_float32_and_is_not_it(tmp_path: Path) -> None:
    """Equal losses would mean that nothing was multiplied in bfloat16, and a GPU would be several times slower."""
    exact, mixed = (
        fit(circling(), None, TINY, options(tmp_path, steps=8, bfloat16=half)).losses for half in (False, True)
    )
    np.testing.assert_allclose(mixed, exact, rtol=0.02)
    # The first is of physics alone, and the next are nearly: what the network adds may round to the same.
    assert all(a != b for a, b in zip(exact[3:], mixed[3:], strict=True))


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
        fit(circling(), None, TINY, options(tmp_path), watch=crash_after(7))
    others = (circling(), {"lr": 1e-4}), (circling(), {"accumulate": 2}), (circling(seed=5), {})
    for train, changes in others:
        with pytest.raises(ValueError, match="other data, model or options"):
            fit(train, None, TINY, options(tmp_path, **changes))
    anew = fit(circling(), None, TINY, options(tmp_path, lr=1e-4, steps=2), resume=False)
    assert anew.steps == 2


def test_a_damaged_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        fit(circling(), None, TINY, options(tmp_path), watch=crash_after(7))
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


def test_minutes_of_a_run_killed_before_they_became_steps_are_as_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of before the kill were divided by the time since: killed at 28, a run of 60 s had 1,800 steps, not 62."""
    now_s = [0.0]
    monkeypatch.setattr("train.fit.trainer.time", SimpleNamespace(monotonic=lambda: now_s[0]))

    def run(name: str, *, killed_at: int = 0) -> list[Tick]:
        ticks: list[Tick] = []

        def watch(tick: Tick) -> None:
            now_s[0] += 1.0
            ticks.append(tick)
            crash_after(killed_at)(tick)

        more = {"steps": None, "minutes": 1.0, "checkpoint_every": 7, "batch": BatchOptions(rows=2, tokens=16)}
        fit(circling(), None, TINY, options(tmp_path / name, **more), watch=watch)
        return ticks

    unbroken = run("unbroken")
    with pytest.raises(Crash):
        run("killed", killed_at=28)
    resumed = run("killed")
    assert resumed[0].step == 29
    assert resumed[-1].total == unbroken[-1].total == 62  # 30 steps in the 29 s between them


def test_the_learning_rate_warms_up_and_comes_down() -> None:
    run = FitOptions(out=Path(), steps=100, warmup=10, lr=1.0, last_lr=0.1)
    rates = [learning_rate(step, 100, run) for step in range(100)]
    assert np.argmax(rates) in (9, 10)
    assert all(np.diff(rates[:10]) > 0)
    assert all(np.diff(rates[10:]) < 0)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_what_reports_teach_leaves_those_alone_that_report_nothing(tmp_path: Path) -> None:
    """To the bit, in forecasts and fills; and it does something where they do."""
    parts = ("trunk.report", "forecast.from_report", "forecast.beside", "gap.from_report")
    fit(circling(), None, TINY, options(tmp_path / "mute", steps=8))
    dense = replace(circling(), ts_ms=circling().ts_ms // 3)  # a ping every 3 s: each knows how fast it goes
    reported = replace(BATCH, reported=1.0, misreported=0.0, drop_reported=0.0)
    more = options(tmp_path / "reported", steps=8, init=str(tmp_path / "mute"), only=parts, batch=reported)
    fit(dense, None, TINY, more)

    def asked(weights: Path, fixes: np.ndarray) -> list[np.ndarray]:
        predictor = Predictor.load(weights, precision="float32")
        slots = predictor.acquire(len(fixes))
        for ping in range(fixes.shape[1]):
            predictor.advance(slots, np.array(fixes[:, ping]))
        ahead = predictor.forecast(slots, (60.0, 900.0))
        gaps = [Gap(row[-8:-5], row[-3:], np.array([row["ts_ms"][-4]])) for row in fixes]
        return [ahead.lat, ahead.cov_m2, *(fill.lat for fill in predictor.fill(slots, gaps))]

    mute = circling(4, 40, seed=1).fixes(np.arange(160).reshape(4, 40))
    telling = mute.copy()
    telling["speed_cms"], telling["heading_cdeg"] = 1_200, 4_500
    for fixes, same in ((mute, True), (telling, False)):
        for one, other in zip(asked(tmp_path / "mute", fixes), asked(tmp_path / "reported", fixes), strict=True):
            assert np.array_equal(one, other) == same


def test_only_the_named_parts_learn(tmp_path: Path) -> None:
    """Bit for bit: neither weight decay nor the average moves what is frozen."""
    fit(circling(), None, TINY, options(tmp_path / "all", steps=2))
    more = options(tmp_path / "gap", steps=3, init=str(tmp_path / "all"), only=("gap",))
    report = fit(circling(), None, TINY, more)
    before = dict(from_pretrained(tmp_path / "all").named_parameters())
    moved = {name for name, weight in report.network.named_parameters() if not torch.equal(weight, before[name])}
    taught = {name for name in before if name.startswith("gap.") and "from_place" not in name}
    assert moved == taught - {"gap.from_report.weight"}  # nothing is reported here


def test_a_part_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    fit(circling(), None, TINY, options(tmp_path / "all", steps=1))
    with pytest.raises(ValueError, match=r"no part gaps: a network has forecast, gap, interval"):
        fit(circling(), None, TINY, options(tmp_path / "gap", init=str(tmp_path / "all"), only=("gaps",)))


@pytest.mark.parametrize(
    "wrong", [{"steps": None}, {"minutes": 3.0}, {"steps": 0}, {"lr": 0.0}, {"ema": 1.0}, {"only": ("gap",)}]
)
def test_impossible_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"steps|lr|ema|only"):
        options(Path(), **wrong)


def test_a_training_that_is_told_to_end_leaves_a_checkpoint_of_its_last_step(tmp_path: Path) -> None:
    """A kill loses the steps since the last checkpoint, here three."""

    def end(tick: Tick) -> None:
        if tick.step == 8:
            raise Interrupted

    train = circling()
    said: list[str] = []
    straight = fit(train, None, TINY, options(tmp_path / "straight", steps=12))
    with pytest.raises(Interrupted):
        fit(train, None, TINY, options(tmp_path / "ended", steps=12), watch=end)
    again = fit(train, None, TINY, options(tmp_path / "ended", steps=12), say=said.append)
    assert said == ["going on from step 8 of 12"]
    assert again.losses == straight.losses
