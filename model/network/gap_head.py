"""The head of gap fills: it sees the map at both ends, answers, and looks again where it has answered.

The physics puts a point beside the street more often than on it, so what the map says there is of another street. The
first answer is nearer. Without a map there is nothing to look at, and the first answer stands.

Knows tensors; knows no slots and no degrees. Shapes as in model.network.heads; P places.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as fn
from torch import Tensor, nn

from model.config import ModelConfig
from model.kinematics.answer_bounds import OUT
from model.network.heads import Asked, QueryHead, Spread, combine

# What the map knows [..., P, C] at positions [..., P, 2], metres from the fix before the gap.
Look = Callable[[Tensor], Tensor]


class GapHead(QueryHead):
    """head(h, question, look) -> Spread, that of the physics before training."""

    def __init__(self, config: ModelConfig, question: int, reported: int, others: int) -> None:
        super().__init__(config, question, reported, others)
        c, placed = config.d, config.places > 0
        self.from_place = nn.Linear(c, 2 * c, bias=False) if placed else None
        self.from_ends = nn.Linear(2 * c, 2 * c, bias=False) if placed else None
        self.second = SecondLook(config, OUT + others) if placed else None

    def fill(self, h: Tensor, asked: Asked, ends_en: Tensor, look: Look) -> Spread:
        """Where at the asked times: h [..., C], asked [..., Q], and the two fixes beside the gap [..., 2, 2]."""
        return combine(self.numbers(h, asked, ends_en, look), asked)

    def numbers(self, h: Tensor, asked: Asked, ends_en: Tensor, look: Look) -> Tensor:
        """What `combine` makes the answer of, [..., Q, OUT + A]."""
        x = self.heard(h, asked.features)
        if self.from_place is None or self.from_ends is None or self.second is None:
            return self.out(x)
        x = x + self.from_ends(look(ends_en).flatten(-2)).unsqueeze(-2)
        raw = self.out(x + self.from_place(look(asked.base_en)))
        there = combine(raw, asked).mean_en.detach()
        more: Tensor = self.second(x, raw, look(there))
        return raw + more


class SecondLook(nn.Module):
    """What to add to the first answer [..., OUT + A], given what the map knows there; zero before training."""

    def __init__(self, config: ModelConfig, out: int) -> None:
        super().__init__()
        c = config.d
        self.from_place = nn.Linear(c, 2 * c, bias=False)
        self.from_answer = nn.Linear(out, 2 * c, bias=False)
        self.middle = nn.Linear(2 * c, c)
        self.last = nn.Linear(c, out)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, answer: Tensor, place: Tensor) -> Tensor:
        """x [..., Q, 2C] is what the first answer came from, place [..., Q, C] of the map where that is."""
        y = x + self.from_place(place) + self.from_answer(answer)
        more: Tensor = self.last(fn.gelu(self.middle(fn.gelu(y))))
        return more
