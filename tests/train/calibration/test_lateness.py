"""How early and how late the next ping may be: learned from pings that come as the world says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fit_lateness import fit, main
from train_worlds import MakeSample, lively, together, track

from model.api import ModelConfig
from model.kinematics import lateness
from train.data import anchors as anchoring
from train.evaluation.rollout import roll_along

TINY = ModelConfig(d=16, heads=2, window=16)


def uneven(entity: str, seed: int, spread: float) -> dict[str, list[object]]:
    """A thing whose intervals are 30 s, more or less."""
    rng = np.random.default_rng(seed)
    times_s = np.cumsum(30.0 * np.exp(rng.normal(0, spread, 120)))
    return track(entity, times_s.tolist(), [5.0 * t for t in times_s])


def test_nine_in_ten_pings_come_between_the_fitted_ends(
    make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks = [uneven(f"v{i}", i, spread=0.02 if i % 2 else 0.4) for i in range(40)]
    sample, predictor = make_sample(together(*tracks)), lively(TINY)
    corpus, (early, late) = sample.corpus, fit([sample], predictor)
    monkeypatch.setattr(lateness, "EARLY", early)
    monkeypatch.setattr(lateness, "LATE", late)
    anchors = anchoring.find_anchors(corpus)
    walked = roll_along(corpus, anchors, [], predictor, recorded=True)
    assert walked.recorded is not None
    came = anchors.dt_s[:, 0]
    assert (came >= walked.recorded.early_s).mean() == pytest.approx(0.95, abs=0.02)
    assert (came <= walked.recorded.late_s).mean() == pytest.approx(0.95, abs=0.02)
    log_width = np.log(walked.recorded.late_s / walked.recorded.early_s)
    steady = np.array([int(corpus.names[one][1:]) % 2 for one in corpus.entity[anchors.track]], bool)
    assert log_width[steady].mean() < 0.8 * log_width[~steady].mean()


def test_it_is_run_on_validation_tracks(capsys: pytest.CaptureFixture[str], write_file: object, tmp_path: Path) -> None:
    path = write_file(together(*(uneven(f"v{i}", i, 0.2) for i in range(60))))  # type: ignore[operator]
    main("small", str(path))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ", 1)[0] for line in lines] == ["EARLY", "LATE"]
    assert all(line.count(",") == lateness.TERMS - 1 for line in lines)
