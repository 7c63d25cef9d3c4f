"""What makes a challenger unfit before anything is judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from train_worlds import WriteFile, together, track

from model.api import ModelConfig
from model.network.checkpoint import save_pretrained
from model.network.network import Network, build
from model.parameters.reading import WEIGHTS_FILE, from_pretrained
from stream.adapters.sources import parse
from train.refresh import statement
from train.refresh.parts import JudgedHours, split_parts
from train.refresh.statement import Statement, TrainedSpan, find_faults

TINY = ModelConfig(name="tiny", d=16, heads=2, window=16)
HOURS = [JudgedHours("taxis.parquet", 2_000_000, 3_000_000)]
BEFORE = TrainedSpan("taxis.parquet", 0, 1_999_999)


def saved(at: Path, network: Network | None = None, *trained: TrainedSpan) -> Path:
    """Writes weights with a statement that is theirs."""
    save_pretrained(network or build(TINY, 0), at, "a card")
    version = from_pretrained(at).fingerprint().hex()
    statement.write_statement(
        Statement(version, "", "pathcast train refresh", 0, 10, "0.1.0", trained or (BEFORE,)), at
    )
    return at


def test_what_trained_before_the_judged_hours_has_no_fault(tmp_path: Path) -> None:
    assert find_faults(TINY, saved(tmp_path), HOURS) == []


def test_a_map_and_a_name_may_differ(tmp_path: Path) -> None:
    assert find_faults(TINY, saved(tmp_path, build(replace(TINY, name="other", places=30), 0)), HOURS) == []


def test_weights_that_are_no_numbers_are_a_fault(tmp_path: Path) -> None:
    network = build(TINY, 0)
    with torch.no_grad():
        network.trunk.blocks[0].up.weight[0, 0] = float("nan")
    save_pretrained(network, tmp_path, "a card")
    (fault,) = find_faults(TINY, tmp_path, HOURS)
    assert "trunk.blocks.0.up.weight has values that are not finite numbers" in fault


def test_weights_of_another_shape_are_a_fault(tmp_path: Path) -> None:
    tensors = safetensors.numpy.load_file(saved(tmp_path) / WEIGHTS_FILE)
    tensors["trunk.norm.bias"] = np.zeros(17, np.float32)
    safetensors.numpy.save_file(tensors, tmp_path / WEIGHTS_FILE)
    (fault,) = find_faults(TINY, tmp_path, HOURS)
    assert "trunk.norm.bias has shape [17], config needs [16]" in fault


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"absolute": True}, "absolute=True instead of False"),
        ({"damping_s": 100.0}, "damping_s=100.0 instead of 200.0"),
        ({"window": 32}, "window=32 instead of 16"),
    ],
)
def test_other_features_or_sizes_are_a_fault(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    network = build(replace(TINY, **changes), 0)  # type: ignore[arg-type]
    assert find_faults(TINY, saved(tmp_path, network), HOURS) == [f"other features or sizes: {said}"]


def test_a_missing_statement_is_a_fault(tmp_path: Path) -> None:
    save_pretrained(build(TINY, 0), tmp_path, "a card")
    (fault,) = find_faults(TINY, tmp_path, HOURS)
    assert fault.startswith("it does not state what it was trained on")


def test_the_statement_of_other_weights_is_a_fault(tmp_path: Path) -> None:
    said = statement.read_statement(saved(tmp_path / "good"))
    assert said is not None
    save_pretrained(build(TINY, 1), tmp_path / "other", "a card")
    statement.write_statement(said, tmp_path / "other")
    (fault,) = find_faults(TINY, tmp_path / "other", HOURS)
    assert "is of other weights" in fault


def test_training_on_the_judged_hours_is_a_fault(tmp_path: Path) -> None:
    (fault,) = find_faults(TINY, saved(tmp_path, None, TrainedSpan("taxis.parquet", 0, 2_000_000)), HOURS)
    assert fault == (
        "trained on the judged hours: taxis.parquet until 1970-01-01 00:33 UTC, and taxis.parquet is judged from "
        "1970-01-01 00:33 UTC on"
    )


def test_later_pings_of_the_same_file_are_a_fault_even_after_the_judged_hours(tmp_path: Path) -> None:
    assert find_faults(TINY, saved(tmp_path, None, TrainedSpan("taxis.parquet", 4_000_000, 5_000_000)), HOURS)


@pytest.mark.parametrize(("span", "count"), [((0, 2_500_000), 1), ((0, 1_000_000), 0), ((4_000_000, 5_000_000), 0)])
def test_another_file_may_hold_the_same_pings_under_another_name(
    tmp_path: Path, span: tuple[int, int], count: int
) -> None:
    assert len(find_faults(TINY, saved(tmp_path, None, BEFORE, TrainedSpan("copy.parquet", *span)), HOURS)) == count


@pytest.mark.parametrize("text", ["", "[]", '{"weights": 1}', '{"files": [{"file": "a"}]}'])
def test_a_damaged_statement_is_a_fault(tmp_path: Path, text: str) -> None:
    (saved(tmp_path) / statement.STATEMENT_FILE).write_text(text)
    (fault,) = find_faults(TINY, tmp_path, HOURS)
    assert fault.startswith("no statement of what weights were trained on")


def test_a_statement_becomes_one_entry_per_file() -> None:
    both = [TrainedSpan("b", 5, 6), TrainedSpan("a", 3, 4), TrainedSpan("b", 1, 2)]
    assert statement.join_spans(both) == (TrainedSpan("a", 3, 4), TrainedSpan("b", 1, 6))


def test_the_newest_hours_alone_are_judged_also_of_things_that_never_train(write_file: WriteFile) -> None:
    """All that some things ever did is kept from training, and only their newest hours are judged."""
    steps = np.arange(60)
    cars = [
        track(f"car-{car:02}", trip * 7_200 + 30.0 * steps, 9.0 * car * steps, 500.0 * trip + 0 * steps)
        for car in range(40)
        for trip in range(10)
    ]
    parts = split_parts([parse(write_file(together(*cars), "cars.parquet"))])
    (hours,), (sample,) = parts.hours, parts.judged
    judged_ms = sample.corpus.ts_ms[sample.corpus.tracks[:, 0]]
    assert len(judged_ms) >= 40
    assert judged_ms.min() >= hours.from_ms
    assert parts.train.ts_ms[parts.train.tracks[:, 1] - 1].max() < hours.from_ms
