"""Regions instead of metres: the discrete representation of positions, for the comparison with the continuous one.

The trainer numbers the config.cells regions of a vocabulary from 0 (model has no grid); the number after the last one
means "none of them". A ping is encoded as the vector of its region and as its time, without any metres, and the answer
is a distribution over the regions at an asked time. Regions that training never visited cannot be told apart and cannot
be predicted: this is the price of a vocabulary.

Shapes: ... any batch, Q queries per row, R = config.cells regions, C = config.d.
"""

from __future__ import annotations

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from model.config import ModelConfig


class Cells(nn.Module):
    """A learned vector per region, and one for all others."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.unknown = config.cells
        self.table = nn.Embedding(config.cells + 1, config.d)
        nn.init.normal_(self.table.weight, std=0.3)

    def forward(self, cell: Tensor) -> Tensor:
        """Returns the vectors [..., C] of numbers [...]. Raises ValueError for a number that is neither a region nor
        "none of them".
        """
        if cell.numel() and not 0 <= int(cell.min()) <= int(cell.max()) <= self.unknown:
            raise ValueError(f"cells are 0 to {self.unknown}, got {int(cell.min())} to {int(cell.max())}")
        y: Tensor = self.table(cell)
        return y


class CellHead(nn.Module):
    """Returns the logits of all regions, from a hidden vector and an asked time. Its last layer is the table of the
    regions.

    Regions that are alike as inputs should be alike as outputs (Press & Wolf, "Using the Output Embedding to Improve
    Language Models", 2017), and sharing the table saves its parameters once.
    """

    def __init__(self, config: ModelConfig, question: int) -> None:
        super().__init__()
        c = config.d
        self.from_hidden = nn.Linear(c, 2 * c)
        self.from_question = nn.Linear(question, 2 * c, bias=False)
        self.middle = nn.Linear(2 * c, c)
        self.norm = nn.LayerNorm(c)
        self.bias = nn.Parameter(torch.zeros(config.cells))

    def forward(self, h: Tensor, question: Tensor, cells: Cells) -> Tensor:
        """Maps h [..., C] and question [..., Q, E] to logits [..., Q, R]."""
        x = self.from_hidden(h).unsqueeze(-2) + self.from_question(question)
        y: Tensor = self.norm(self.middle(fn.gelu(x))) @ cells.table.weight[: cells.unknown].T + self.bias
        return y
