"""Weights on disk: what was saved comes back, anything else is one clear line."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from model.api import FIX, Predictor, WeightsError
from model.config import SMALL, ModelConfig
from model.network.checkpoint import from_pretrained, save_pretrained, to_parameters
from model.network.network import Network, build
from model.parameters.reading import BUNDLED, WEIGHTS_FILE
from model.parameters.writing import HALVED

TINY = ModelConfig(name="tiny", d=16, blocks=1, heads=2, window=8)


@pytest.fixture
def saved(tmp_path: Path, unsettled: Callable[..., Network]) -> Path:
    save_pretrained(unsettled(TINY), tmp_path / "tiny", "# card\n")
    return tmp_path / "tiny"


def test_what_was_saved_comes_back(saved: Path, unsettled: Callable[..., Network]) -> None:
    loaded, original = from_pretrained(saved), unsettled(TINY)
    assert loaded.config == TINY
    assert not loaded.training
    for name, tensor in original.state_dict().items():
        kept = tensor.half().float() if name.startswith(HALVED) else tensor
        assert torch.equal(loaded.state_dict()[name], kept)
    save_pretrained(loaded, saved, "card")
    assert to_parameters(from_pretrained(saved)).fingerprint() == to_parameters(loaded).fingerprint()
    assert sorted(p.name for p in saved.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_a_predictor_says_what_it_runs(saved: Path) -> None:
    predictor = Predictor.load(saved, capacity=1)
    assert predictor.name == "tiny"
    assert predictor.version == predictor.fingerprint.hex()
    assert len(predictor.fingerprint) == 8


def test_a_full_disk_is_told_with_the_file_and_leaves_the_old_one(
    saved: Path, unsettled: Callable[..., Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{saved / WEIGHTS_FILE}'"):
        save_pretrained(unsettled(SMALL), saved, "a card")
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_the_fingerprint_changes_with_any_weight_and_any_constant(unsettled: Callable[..., Network]) -> None:
    net = unsettled(TINY)
    before = to_parameters(net).fingerprint()
    with torch.no_grad():
        net.gap.last.bias[3] += 1e-6
    assert to_parameters(net).fingerprint() != before
    assert (
        to_parameters(build(ModelConfig(damping_s=201.0), 0)).fingerprint()
        != to_parameters(build(SMALL, 0)).fingerprint()
    )


def test_every_truncation_of_the_weights_is_refused(saved: Path) -> None:
    path = saved / WEIGHTS_FILE
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError):
            from_pretrained(saved)


def test_a_head_that_atlases_had_changes_nothing(saved: Path) -> None:
    path, before = saved / WEIGHTS_FILE, to_parameters(from_pretrained(saved)).fingerprint()
    good = safetensors.torch.load_file(path)
    safetensors.torch.save_file({**good, "atlas.first.weight": torch.ones(32, 38)}, path)
    assert (
        to_parameters(from_pretrained(saved)).fingerprint() == Predictor.load(saved, capacity=1).fingerprint == before
    )
    safetensors.torch.save_file({**good, "elsewhere": torch.ones(3)}, path)
    with pytest.raises(WeightsError, match="elsewhere"):
        from_pretrained(saved)


def test_the_head_of_travel_times_counts_in_the_version_and_in_no_answer(saved: Path, tmp_path: Path) -> None:
    """States and forecasts of a deployment name the version, and weights of earlier releases have that head."""
    path, without = saved / WEIGHTS_FILE, Predictor.load(saved, capacity=1)
    good = safetensors.torch.load_file(path)
    head = {"travel.last.bias": torch.ones(2), "calibration.travel": torch.zeros(3)}
    safetensors.torch.save_file({**good, **head}, path)
    with_it = Predictor.load(saved, capacity=1)
    assert with_it.version != without.version
    fixes = np.zeros(1, FIX)
    said = []
    for predictor in (without, with_it):
        slots = predictor.acquire(1)
        predictor.advance(slots, fixes)
        said.append(predictor.forecast(slots, (60.0,)))
    np.testing.assert_array_equal(said[0].cov_m2, said[1].cov_m2)
    save_pretrained(from_pretrained(saved), tmp_path / "again", "card")
    assert not head.keys() & safetensors.torch.load_file(tmp_path / "again" / WEIGHTS_FILE).keys()
    safetensors.torch.save_file({**good, **head, "travel.last.weight": torch.full((2,), float("nan"))}, path)
    with pytest.raises(WeightsError, match="not finite"):
        from_pretrained(saved)


@pytest.mark.parametrize("weights", ["no-such-model", "../weights", "", "/", "/no/such/directory"])
def test_missing_weights_are_refused(weights: str) -> None:
    with pytest.raises(WeightsError, match="no weights at"):
        from_pretrained(weights)


@pytest.mark.parametrize("name", ["small"])
def test_bundled_weights_load_and_bring_their_card(name: str) -> None:
    assert (BUNDLED / name / "README.md").stat().st_size > 0
    assert Predictor.load(name, capacity=1).name == name


def test_a_config_survives_its_round_trip() -> None:
    assert ModelConfig.loads(TINY.dumps()) == TINY
    assert TINY.fingerprint() != SMALL.fingerprint()
