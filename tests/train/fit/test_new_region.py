"""Weights that go on with a new map: what it holds at first, and what stays known of elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fit_worlds import BATCH, TINY, Crash, assert_same, circling, crash_after, options
from train_worlds import MakeCorpus, lively, together, track

from model.api import Predictor
from model.kinematics.geo import F64
from model.network.checkpoint import save_pretrained, to_parameters
from model.network.places import UNUSED
from train.batches.options import FitOptions
from train.fit import run_state, trainer
from train.fit.first_map import build_first_table, find_known_cells
from train.fit.trainer import fit
from train.refresh import training

PLACED = replace(TINY, places=500)
HERE, ELSEWHERE = 30.0, 45.0  # degrees north: on the map of these circles, and far from it


@pytest.fixture
def weights(tmp_path: Path) -> str:
    save_pretrained(lively(TINY).net, tmp_path / "weights", "a card")
    return str(tmp_path / "weights")


def more(tmp_path: Path, weights: str, **changes: object) -> FitOptions:
    batch = replace(BATCH, drop_place=0.0)
    return options(tmp_path / "more", init=weights, batch=batch, weight_decay=0.0, **changes)


def asked(predictor: Predictor, lat_deg: float) -> F64:
    """Forecasts, degrees north of the last fix, of things that drive in circles there."""
    fixes = circling(6, 40, seed=1).fixes(np.arange(240).reshape(6, 40))
    fixes["lat_e7"] += round((lat_deg - 30.0) * 1e7)
    slots = predictor.acquire(len(fixes))
    for ping in range(fixes.shape[1]):
        predictor.advance(slots, np.array(fixes[:, ping]))
    return np.asarray(predictor.forecast(slots, (60.0, 300.0)).lat - fixes["lat_e7"][:, -1:] / 1e7)


def test_before_the_first_step_forecasts_are_those_of_the_weights_it_goes_on_from(tmp_path: Path, weights: str) -> None:
    run = run_state.begin_run(circling(), PLACED, more(tmp_path, weights), torch.device("cpu"))
    places = run.network.trunk.places
    assert places is not None
    assert (places.keys != UNUSED).sum() > 50  # there is a map, and it knows where the circles are
    new = Predictor(to_parameters(run.network.eval()), name="new", precision="float32")
    assert np.array_equal(asked(new, HERE), asked(Predictor.load(weights, precision="float32"), HERE))


def change(weights: str, network: torch.nn.Module, lat_deg: float) -> float:
    now = Predictor(to_parameters(network), name="now", precision="float32")  # type: ignore[arg-type]
    return float(np.abs(asked(now, lat_deg) - asked(Predictor.load(weights, precision="float32"), lat_deg)).mean())


@pytest.mark.slow
def test_retention_keeps_what_was_known_of_elsewhere(tmp_path: Path, weights: str) -> None:
    """All weights learn, and yet what changes elsewhere is a fraction of what changes without it."""
    free = fit(circling(), None, PLACED, more(tmp_path, weights, steps=60), resume=False).network
    how = more(tmp_path, weights, steps=60, retain=3.0, old_lr=0.5)
    kept = fit(circling(), None, PLACED, how, resume=False).network
    here, there = (change(weights, kept, lat_deg) for lat_deg in (HERE, ELSEWHERE))
    assert there < 0.5 * here
    assert there < 0.3 * change(weights, free, ELSEWHERE)


@pytest.mark.slow
def test_a_killed_run_that_keeps_what_it_knew_goes_on_to_the_bit(tmp_path: Path, weights: str) -> None:
    how = more(tmp_path, weights, steps=20, retain=1.0, old_lr=0.5)
    whole = fit(circling(), None, PLACED, replace(how, out=tmp_path / "whole"))
    with pytest.raises(Crash):
        fit(circling(), None, PLACED, how, watch=crash_after(13))
    assert_same(fit(circling(), None, PLACED, how), whole)


def test_weights_with_a_map_keep_it(tmp_path: Path, weights: str) -> None:
    first = fit(circling(), None, PLACED, more(tmp_path, weights, steps=3)).network
    again = replace(more(tmp_path, str(tmp_path / "more"), steps=3, retain=1.0), out=tmp_path / "again")
    second = fit(circling(seed=4), None, PLACED, again).network
    assert first.trunk.places is not None
    assert second.trunk.places is not None
    assert torch.equal(first.trunk.places.keys, second.trunk.places.keys)


def test_a_refresh_leaves_the_table_nearly_as_it_was_counted(tmp_path: Path, weights: str) -> None:
    """At the usual rate it learned by heart where each thing went that stood, and others that stand were told to go."""
    moved = []
    for table_lr in (4.0, training.training_options(tmp_path, weights, {}, minutes=None, steps=1, seed=0).table_lr):
        how = replace(more(tmp_path, weights, steps=12), out=tmp_path / str(table_lr), table_lr=table_lr)
        places = fit(circling(), None, PLACED, how).network.trunk.places
        assert places is not None
        counted = torch.from_numpy(
            build_first_table(circling(), find_known_cells(circling(), PLACED.places, how.visits))
        )
        moved.append(float((places.table[: len(counted)] - counted).abs().max()))
    assert moved[1] < 0.05 * moved[0]


def test_only_weights_that_exist_can_be_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="retain must be above 0, and is for init"):
        options(tmp_path, retain=1.0)


def test_a_new_map_knows_the_way_of_a_street(make_corpus: MakeCorpus) -> None:
    """All drive east at 10 m/s: the cosine of their steps is 1, the sine 0, none stands, and 60 s later they are 600 m
    on; a cell of few pings is drawn to 0."""
    times = np.arange(0, 3_000, 30.0)
    tracks = [track(f"v{i}", times.tolist(), (10.0 * times).tolist()) for i in range(20)]
    corpus = make_corpus(together(*tracks))
    keys = find_known_cells(corpus, 500, 4)
    table = build_first_table(corpus, keys)
    busy = table[table[:, -1] > np.quantile(table[:, -1], 0.5)]
    assert ((busy[:, 0] > 0.7) & (busy[:, 0] < 0.98)).all()  # of ten pings and more, with a prior of three
    assert np.abs(busy[:, 1]).max() < 1e-3
    assert np.abs(busy[:, 5]).max() == 0.0
    assert busy[:, 6].max() == pytest.approx(600 / 300, rel=0.15)
    assert 0 < find_known_cells(corpus, 500, 50).size < keys.size  # only large cells are visited so often
    assert build_first_table(corpus, keys[:0]).shape == (0, 16)


def cpu_of(seconds_per_step: float) -> Callable[[], float]:
    calls = iter(range(10**6))
    return lambda: seconds_per_step * trainer.TIMED_STEPS * next(calls)


def test_minutes_can_be_those_that_the_process_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that gives the process half of its time makes a run no shorter."""
    clock = SimpleNamespace(process_time=cpu_of(0.1), monotonic=lambda: 0.0)
    monkeypatch.setattr(trainer, "time", clock)
    how = options(tmp_path, steps=None, minutes=0.06, cpu_minutes=True)
    assert fit(circling(), None, TINY, how).steps == round(0.06 * 60 / 0.1)
