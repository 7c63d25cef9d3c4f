"""The head of gap fills. It reads the map at both ends, gives a first answer, and reads the map again at that answer.

The physics puts a point beside the street more often than on it, so the map there describes another street. The first
answer is nearer. Without a map there is nothing to read, and the first answer is final.

Shapes as in model.network.heads; P places.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as fn
from torch import Tensor, nn

from model.config import ModelConfig
from model.kinematics.answer_bounds import OUT
from model.network.heads import Asked, QueryHead, Spread, combine

# Returns the map's vectors [..., P, C] at positions [..., P, 2], in metres from the fix before the gap.
Look = Callable[[Tensor], Tensor]


class GapHead(QueryHead):
    """head(h, question, look) -> Spread. Before training it is the distribution of the physics."""

    def __init__(self, config: ModelConfig, question: int, reported: int, others: int) -> None:
        super().__init__(config, question, reported, others)
        c, placed = config.d, config.places > 0
        self.from_place = nn.Linear(c, 2 * c, bias=False) if placed else None
        self.from_ends = nn.Linear(2 * c, 2 * c, bias=False) if placed else None
        self.second = SecondLook(config, OUT + others) if placed else None

    def fill(self, h: Tensor, asked: Asked, ends_en: Tensor, look: Look) -> Spread:
        """Returns the distributions at the asked times, from h [..., C], asked [..., Q] and the two fixes beside the
        gap [..., 2, 2].
        """
        return combine(self.numbers(h, asked, ends_en, look), asked)

    def numbers(self, h: Tensor, asked: Asked, ends_en: Tensor, look: Look) -> Tensor:
        """Returns the numbers [..., Q, OUT + A] from which `combine` builds the distribution."""
        x = self.projected(h, asked.features)
        if self.from_place is None or self.from_ends is None or self.second is None:
            return self.out(x)
        x = x + self.from_ends(look(ends_en).flatten(-2)).unsqueeze(-2)
        raw = self.out(x + self.from_place(look(asked.base_en)))
        there = combine(raw, asked).mean_en.detach()
        more: Tensor = self.second(x, raw, look(there))
        return raw + more


class SecondLook(nn.Module):
    """Returns what is added to the first answer [..., OUT + A], given the map's vector there. It is zero before
    training.
    """

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
        """x [..., Q, 2C] are the inputs of the first answer; place [..., Q, C] are the map's vectors at that answer."""
        y = x + self.from_place(place) + self.from_answer(answer)
        more: Tensor = self.last(fn.gelu(self.middle(fn.gelu(y))))
        return more
