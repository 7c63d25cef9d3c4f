"""Early stop: when nothing is gained any more, and with the weights of when something was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fit_worlds import SPOILT, TINY, Crash, circling, crash_after, options

from model.network.checkpoint import from_pretrained
from model.network.network import build
from model.parameters.writing import HALVED
from train.fit.run_state import CHECKPOINT_FILE, Best
from train.fit.trainer import Report, fit


def totals(report: Report) -> list[float]:
    return [found["total"] for _, found in report.validations]


def test_a_run_that_gains_nothing_stops_and_keeps_its_best_weights(tmp_path: Path) -> None:
    train, val = circling(), circling(3, seed=1)
    stopped = fit(train, val, TINY, options(tmp_path / "patient", patience=3, **SPOILT))
    assert stopped.steps < 60
    losses = totals(stopped)
    best = losses.index(min(losses))
    assert best == len(losses) - 4, losses  # three in vain after it
    # The same run as far as its best step: those averaged weights, and no later ones, are what was written.
    step = stopped.validations[best][0]
    with pytest.raises(Crash):
        fit(train, val, TINY, options(tmp_path / "again", checkpoint_every=step, **SPOILT), watch=crash_after(step))
    wanted = torch.load(tmp_path / "again" / CHECKPOINT_FILE, weights_only=True)["average"]
    written = from_pretrained(tmp_path / "patient").state_dict()
    for name, tensor in wanted.items():
        kept = tensor.half().float() if name.startswith(HALVED) else tensor
        assert torch.equal(written[name], kept), name


def test_without_patience_a_run_has_its_length(tmp_path: Path) -> None:
    report = fit(circling(), circling(3, seed=1), TINY, options(tmp_path, **SPOILT | {"steps": 30}))
    assert report.steps == 30


def test_small_gains_move_the_best_but_not_the_patience() -> None:
    """Below the minimum the lowest is still kept; many small gains together are one that counts."""
    best, network = Best(), build(TINY, 0)
    waits = []
    for step, loss in enumerate([5.0, 4.95, 4.92, 4.85, 4.86]):
        best.observe(loss, step, network, min_gain=0.1)
        waits.append(best.waited)
    assert waits == [0, 1, 2, 0, 1]
    assert (best.loss, best.step) == (4.85, 3)


def test_patience_without_tracks_to_validate_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="patience needs tracks to validate on"):
        fit(circling(), None, TINY, options(tmp_path, patience=2))
