"""TensorBoard's files hold what the run told; without the package the error names the extra."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fit_worlds import TINY, Crash, circling, crash_after, options

from train.fit.loss import Losses
from train.fit.progress import Rate, write_events
from train.fit.trainer import Tick, fit


def read(directory: Path) -> dict[str, dict[int, float]]:
    """Scalars by tag and step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory))
    events.Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_the_event_file_holds_every_step_and_validation(tmp_path: Path) -> None:
    ticks: list[Tick] = []
    with write_events(tmp_path / "board") as watch:
        report = fit(
            circling(),
            circling(3, seed=1),
            TINY,
            options(tmp_path / "run", steps=6, validate_every=3),
            watch=lambda tick: (watch(tick), ticks.append(tick))[0],
        )
    found = read(tmp_path / "board")
    for name in Losses._fields:
        assert list(found[f"loss/{name}"]) == [1, 2, 3, 4, 5, 6]
        assert list(found[f"validation/{name}"]) == [3, 6]
    assert list(found["loss/total"].values()) == pytest.approx(report.losses)
    assert found["validation/total"][6] == pytest.approx(report.validations[-1][1]["total"])
    for name in ("lr", "gradient_norm"):
        assert list(found[f"step/{name}"].values()) == pytest.approx([getattr(tick, name) for tick in ticks])
    assert min(found["step/pings_per_s"].values()) > 0


def test_steps_that_are_done_again_are_shown_once(tmp_path: Path) -> None:
    run = options(tmp_path / "run", steps=8, validate_every=4)
    with write_events(tmp_path / "board") as watch, pytest.raises(Crash):
        fit(circling(), None, TINY, run, watch=lambda tick: (watch(tick), crash_after(7)(tick))[0])
    with write_events(tmp_path / "board") as watch:
        fit(circling(), None, TINY, run, watch=watch)
    assert list(read(tmp_path / "board")["loss/total"]) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_without_the_package_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(ValueError, match=r"--tensorboard needs the extra `train`: pip install 'pathcast\[train\]'"):
        write_events(tmp_path).__enter__()
    assert not list(tmp_path.iterdir())


def test_a_step_counts_the_pings_and_not_the_padding(tmp_path: Path) -> None:
    """Tracks of 10 pings in rows of 40 tokens: at most a quarter is real."""
    ticks: list[Tick] = []
    fit(circling(30, 10), None, TINY, options(tmp_path, steps=1), watch=ticks.append)
    assert 8 <= ticks[0].pings <= 8 * 10


def test_the_rate_is_that_of_the_last_steps() -> None:
    rate = Rate()
    slow = Tick(1, None, 0.0, {}, 0.0, 0.0, pings=100, seconds=1.0, validation=None)
    assert rate.observe(slow) == pytest.approx(100)
    for _ in range(200):
        shown = rate.observe(slow._replace(pings=300))
    assert shown == pytest.approx(300, rel=0.01)
