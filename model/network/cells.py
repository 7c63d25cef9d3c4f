"""Regions instead of metres: the discrete way of seeing where things are, for the comparison with the continuous one.

A vocabulary of config.cells regions is numbered from 0 by whoever trains (model knows no grid); the number after the
last stands for "none of them". A ping enters as its region's vector and as when it was, without any metres, and the
answer is a distribution over the regions at a time asked for. A region that no training has visited can neither be told
from another nor be answered: that is what a vocabulary means.

Shapes: ... any batch, Q queries per row, R = config.cells regions, C = config.d.
"""

from __future__ import annotations

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from model.config import ModelConfig


class Cells(nn.Module):
    """A vector per region, and one for all others."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.unknown = config.cells
        self.table = nn.Embedding(config.cells + 1, config.d)
        nn.init.normal_(self.table.weight, std=0.3)

    def forward(self, cell: Tensor) -> Tensor:
        """Vectors [..., C] of numbers [...]. Raises ValueError for one that is no region and not "none of them"."""
        if cell.numel() and not 0 <= int(cell.min()) <= int(cell.max()) <= self.unknown:
            raise ValueError(f"cells are 0 to {self.unknown}, got {int(cell.min())} to {int(cell.max())}")
        y: Tensor = self.table(cell)
        return y


class CellHead(nn.Module):
    """Logits of all regions, from a hidden vector and a time asked for. Its last layer is the table of the regions.

    A region that looks like another to whoever has been there should look so to whoever goes there (Press & Wolf,
    "Using the Output Embedding to Improve Language Models", 2017), and its parameters are paid for once.
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
        """h [..., C] and question [..., Q, E] to logits [..., Q, R]."""
        x = self.from_hidden(h).unsqueeze(-2) + self.from_question(question)
        y: Tensor = self.norm(self.middle(fn.gelu(x))) @ cells.table.weight[: cells.unknown].T + self.bias
        return y
