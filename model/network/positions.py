"""Position encodings: how the position of a ping in its track enters the network. Five encodings behind one interface,
chosen by ModelConfig.positions.

    rope        rotates queries and keys, so that their angle depends on the number of pings between them (the default)
    time-rope   ... on the number of seconds between them
    sinusoidal  adds waves of the index to the input (Vaswani et al., 2017); a state that is rebuilt from its last
                pings would start at index 0 again, so no stream can be served
    learned     adds a learned vector per index to the input; there are MAX_LEARNED, so no stream can be served
    none        adds nothing: the displacements and intervals of the pings have to suffice

Rotations: Su et al., "RoFormer", 2021 (arXiv 2104.09864). A key is rotated once, when it is written to the ring buffer,
a query when it is used. Their angles are those of `model.kinematics.rotation`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from model.config import MAX_LEARNED
from model.kinematics.rotation import FASTEST_TURNS, PERIOD, PERIOD_MS, table, time_turns, turns, waves


class Positions(nn.Module):
    """Computes what the encoding `kind` adds to the input of the trunk, and the angles by which it rotates queries and
    keys.
    """

    table: Tensor
    time_turns: Tensor

    def __init__(self, kind: str, width: int, head_dim: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "learned":
            self.learned = nn.Embedding(MAX_LEARNED, width)
            nn.init.normal_(self.learned.weight, std=0.02)
        rows = waves(turns(width // 2, FASTEST_TURNS)) if kind == "sinusoidal" else table(head_dim)
        self.register_buffer("table", torch.from_numpy(rows), persistent=False)
        self.register_buffer("time_turns", torch.from_numpy(time_turns(head_dim)), persistent=False)

    def add(self, x: Tensor, index: Tensor) -> Tensor:
        """Returns x [..., C] plus the encoding of the index [...]. Raises ValueError for an index beyond the table of
        `learned`.
        """
        if self.kind == "sinusoidal":
            return x + self.table[index % PERIOD].flatten(-2)
        if self.kind == "learned":
            if int(index.max()) >= MAX_LEARNED:
                raise ValueError(f"learned positions end at {MAX_LEARNED} pings, got index {int(index.max())}")
            learned: Tensor = self.learned(index)
            return x + learned
        return x

    def angles(self, index: Tensor, time_ms: Tensor | None) -> Tensor | None:
        """Returns cosines and sines [..., 2, D/2] of indices [...] or times int64 [...]; None where the encoding does
        not rotate.
        """
        if self.kind == "rope":
            rows = fn.embedding(index & (PERIOD - 1), self.table.flatten(1))  # a third of the time of table[index]
            return rows.view(*index.shape, *self.table.shape[1:])
        if self.kind == "time-rope":
            if time_ms is None:
                raise ValueError("time-rope needs the pings' times")
            # Integers up to the last division: as float32, consecutive seconds since 1970 would be minutes apart.
            turned = (time_ms.unsqueeze(-1) % PERIOD_MS * self.time_turns) % PERIOD_MS
            angle = turned.double() * (2 * math.pi / PERIOD_MS)
            return torch.stack([angle.cos(), angle.sin()], dim=-2).float()
        return None


def rotate(x: Tensor, cos_sin: Tensor) -> Tensor:
    """Rotates the halves of the last axis of x [..., D] by cos_sin [..., 2, D/2], which is broadcast over leading
    axes.
    """
    cos, sin = cos_sin[..., 0, :], cos_sin[..., 1, :]
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
