"""The trunk: pre-norm blocks with multi-query attention over a band of W pings. Knows tensors; knows no pings.

Two ways through the same weights that must agree to 1e-5 in float32:
`forward` takes whole sequences, a token seeing itself and the W-1 before it; `step` takes one ping per row and finds
the others in a ring (model.cache), where rows may have any ages.

Shapes: B sequences, N rows, T pings, F features, C = config.d, H heads, D = C / H, W = config.window.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from model import positions
from model.config import ModelConfig


class Rings(Protocol):
    """Where `step` keeps keys and values: one ring of W per row and block."""

    def append(self, block: int, k_ND: Tensor, v_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Write the newest key and value of each row, and return all of the rows' rings, [N, W, D] each."""


class Block(nn.Module):
    """Attention, then a two-layer perceptron, each on a normed copy and added back."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c, d = config.d, config.head_dim
        self.heads, self.head_dim = config.heads, d
        self.norm_attention = nn.LayerNorm(c)
        self.qkv = nn.Linear(c, c + 2 * d, bias=False)
        self.out = nn.Linear(c, c, bias=False)
        self.norm_mlp = nn.LayerNorm(c)
        self.up = nn.Linear(c, config.mlp_ratio * c)
        self.down = nn.Linear(config.mlp_ratio * c, c)

    def project(self, x: Tensor, cos_sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries [..., H, D] and key [..., D], and value [..., D], of x [..., C]; cos_sin [..., 2, D/2]."""
        q, k, v = self.qkv(self.norm_attention(x)).split([x.shape[-1], self.head_dim, self.head_dim], dim=-1)
        q = q.unflatten(-1, (self.heads, self.head_dim))
        return positions.rotate(q, cos_sin.unsqueeze(-3)), positions.rotate(k, cos_sin), v

    def mix(self, x: Tensor, attended: Tensor) -> Tensor:
        """The block's output from its input x and the heads' answers, [..., C] each."""
        x = x + self.out(attended)
        y: Tensor = x + self.down(fn.gelu(self.up(self.norm_mlp(x))))
        return y


class Trunk(nn.Module):
    """Features in, one hidden vector per ping out."""

    rope: Tensor

    def __init__(self, config: ModelConfig, features: int) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(features, config.d)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.d)
        self.register_buffer("rope", positions.table(config.head_dim), persistent=False)

    def forward(self, x_BTF: Tensor, *, start: int = 0) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Hidden vectors [B, T, C] and each block's rotated keys and values [B, T, D]; `start` is the first index."""
        steps = x_BTF.shape[1]
        index = (torch.arange(steps, device=x_BTF.device) + start % positions.PERIOD) % positions.PERIOD
        cos_sin = self.rope[index]  # T, 2, D/2
        band = self._band(steps, x_BTF).repeat_interleave(self.config.heads, dim=0)  # T·H, T
        x = self.embed(x_BTF)
        kept: list[tuple[Tensor, Tensor]] = []
        for block in self.blocks:
            assert isinstance(block, Block)
            q, k, v = block.project(x, cos_sin)
            kept.append((k, v))
            # The heads share their keys, so they are one long row of queries and two plain products: on CPUs in
            # bfloat16 their backward takes a quarter of scaled_dot_product_attention's.
            q = q.flatten(1, 2)  # B, T·H, D
            scores = torch.baddbmm(band.to(q.dtype), q, k.transpose(1, 2), alpha=block.head_dim**-0.5)
            x = block.mix(x, torch.bmm(scores.softmax(-1), v).view_as(x))
        return self.norm(x), kept

    def step(self, x_NF: Tensor, age_N: Tensor, rings: Rings) -> Tensor:
        """Hidden vectors [N, C] of one new ping per row; age_N counts the pings that a row has folded before."""
        cos_sin = self.rope[age_N % positions.PERIOD]  # N, 2, D/2
        # A ring slot is filled once the row is that old: order in the ring is no matter, keys carry their angle.
        empty = torch.arange(self.config.window, device=x_NF.device) > age_N.unsqueeze(1)  # N, W
        bias = torch.zeros_like(empty, dtype=x_NF.dtype).masked_fill_(empty, float("-inf")).unsqueeze(1)
        x = self.embed(x_NF)
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            q, k, v = block.project(x, cos_sin)
            k_NWD, v_NWD = rings.append(i, k, v)
            scores = torch.baddbmm(bias, q, k_NWD.transpose(1, 2), alpha=block.head_dim**-0.5)  # N, H, W
            x = block.mix(x, torch.bmm(scores.softmax(-1), v_NWD).flatten(-2))
        hidden: Tensor = self.norm(x)
        return hidden

    def _band(self, steps: int, like: Tensor) -> Tensor:
        """[T, T]: 0 where a token (row) sees another (column), -inf where it does not."""
        index = torch.arange(steps, device=like.device)
        back = index[:, None] - index[None, :]
        seen = (back >= 0) & (back < self.config.window)
        return torch.zeros_like(seen, dtype=like.dtype).masked_fill_(~seen, float("-inf"))
