"""Index RoPE: a query and a key meet at an angle that depends on how many pings lie between them, on nothing else.

Su et al., "RoFormer", 2021 (arXiv 2104.09864). A key is rotated once, by its own index, when it is written to the ring;
a query by its index when it asks. Frequencies are whole numbers of turns per PERIOD pings, so that the angle of index i
is that of i mod PERIOD, read from a table: exact for a track of any age, where float32(i) * frequency would drift.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

PERIOD: Final = 4096  # pings; far above any window, so that no two indices in a window share their angles
_FASTEST_TURNS: Final = 652  # per PERIOD: one radian per ping


def table(head_dim: int) -> Tensor:
    """Cosines and sines, float32 [PERIOD, 2, head_dim / 2]."""
    pairs = head_dim // 2
    exponents = [i / max(pairs - 1, 1) for i in range(pairs)]
    turns = torch.tensor([max(1, round(_FASTEST_TURNS ** (1 - x))) for x in exponents], dtype=torch.float64)
    index = torch.arange(PERIOD, dtype=torch.float64)[:, None]
    angle = 2 * math.pi * ((index * turns) % PERIOD) / PERIOD
    return torch.stack([angle.cos(), angle.sin()], dim=1).float()


def rotate(x: Tensor, cos_sin: Tensor) -> Tensor:
    """Rotate the halves of the last axis of x [..., D] by cos_sin [..., 2, D/2] (broadcast over leading axes)."""
    cos, sin = cos_sin[..., 0, :], cos_sin[..., 1, :]
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
