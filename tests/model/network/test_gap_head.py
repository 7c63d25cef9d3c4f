"""The head of gap fills: the physics before training, and a second look where the first answer is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from model.config import ModelConfig
from model.kinematics import queries
from model.kinematics.queries import GapEnds
from model.network import network
from model.network.heads import GapHead, QuestionTensors

PLACED = ModelConfig(d=16, heads=2, window=16, places=50)
ENDS = torch.tensor([[[0.0, 0.0], [900.0, 100.0]]], dtype=torch.float64)


def question() -> QuestionTensors:
    one = np.ones(1)
    chord, mps = ENDS[:, 1].numpy(), np.array([[9.0, -4.0]])
    ends = GapEnds(chord, 120.0 * one, mps, mps, one, one, 0 * one, 0 * one)
    return network.to_tensors(queries.gap(ends, np.array([[30.0, 60.0, 90.0]]), one, 9.0 * one, PLACED), torch.float64)


def head(*, trained: bool) -> GapHead:
    gap = network.build(PLACED, 0).gap
    if trained:
        assert gap.second is not None
        for last in (gap.last, gap.second.last):
            torch.nn.init.normal_(last.weight, std=0.3, generator=torch.Generator().manual_seed(1))
    return gap


class Map:
    """Says where it was asked, and remembers it."""

    def __init__(self) -> None:
        self.looks: list[Tensor] = []

    def __call__(self, en: Tensor) -> Tensor:
        self.looks.append(en)
        return (en.float() / 500.0).repeat_interleave(PLACED.d // 2, dim=-1)


def test_untrained_is_the_physics_whatever_the_map_says() -> None:
    asked, h = question(), torch.randn(1, PLACED.d, generator=torch.Generator().manual_seed(2))
    spread = head(trained=False).fill(h, asked, ENDS, Map())
    assert torch.equal(spread.mean_en, asked.base_en)


def test_the_map_is_seen_at_the_ends_on_the_curve_and_where_the_first_answer_is() -> None:
    asked, h, seen = question(), torch.randn(1, PLACED.d, generator=torch.Generator().manual_seed(2)), Map()
    gap = head(trained=True)
    spread = gap.fill(h, asked, ENDS, seen)
    ends, curve, answer = seen.looks
    assert torch.equal(ends, ENDS)
    assert torch.equal(curve, asked.base_en)
    assert gap.second is not None
    torch.nn.init.zeros_(gap.second.last.weight)
    assert torch.equal(answer, gap.fill(h, asked, ENDS, Map()).mean_en)  # of the first look alone
    assert (answer - asked.base_en).abs().min() > 1e-3
    assert (spread.mean_en - answer).abs().min() > 1e-3


def test_a_model_without_a_map_does_not_look() -> None:
    def look(en: Tensor) -> Tensor:
        raise AssertionError("there is nothing to look at")

    gap = network.build(replace(PLACED, places=0), 0).gap
    asked = question()
    assert torch.equal(gap.fill(torch.zeros(1, PLACED.d), asked, ENDS, look).mean_en, asked.base_en)
