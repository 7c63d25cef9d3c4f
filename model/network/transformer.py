"""The trunk: pre-norm blocks whose attention window is the last W pings.

`forward` takes whole sequences, in which a token attends to itself and the W-1 tokens before it. Serving takes one ping
per row and finds the others in a key/value cache of ring buffers (model.serving.layers), where rows may have any ages;
the two must agree to 1e-5 in float32.

Shapes: B sequences, N rows, T pings, F features, C = config.d, H heads, D = C / H, W = config.window, P = config.patch
pings per token.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from model.config import MAX_LEARNED, ModelConfig
from model.kinematics.features import REPORTED
from model.kinematics.rotation import FASTEST_TURNS, PERIOD, PERIOD_MS, table, time_turns, turns, waves
from model.network.places import CellRows, Places


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


class Block(nn.Module):
    """Attention, then a two-layer perceptron. Each reads a normalised copy of the stream, and its output is added
    back.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c, self.head_dim = config.d, config.head_dim
        self.norm_attention = nn.LayerNorm(c)
        self.qkv = nn.Linear(c, c + 2 * config.head_dim, bias=False)
        self.out = nn.Linear(c, c, bias=False)
        self.norm_mlp = nn.LayerNorm(c)
        self.up = nn.Linear(c, config.mlp_ratio * c)
        self.down = nn.Linear(config.mlp_ratio * c, c)

    def project(self, x: Tensor, cos_sin: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries [..., H, D], keys and values [..., D] of x [..., C]; all heads share a key and a value.
        cos_sin [..., 2, D/2], if given, rotates queries and keys.
        """
        q, k, v = self.qkv(self.norm_attention(x)).split([x.shape[-1], self.head_dim, self.head_dim], dim=-1)
        q = q.view(*q.shape[:-1], -1, self.head_dim)
        if cos_sin is not None:
            q, k = rotate(q, cos_sin.unsqueeze(-3)), rotate(k, cos_sin)
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Returns the answers [B, T, C] to queries [B, T, H, D] from keys and values [B, S, D]; bias [B or 1, T, S] is
        0 or -inf.

        The heads form one long row of queries, in two plain products: on CPUs in bfloat16 their backward pass takes a
        quarter of the time of scaled_dot_product_attention's.
        """
        batch, steps, heads, _ = q.shape
        bias = bias.to(q.dtype).repeat_interleave(heads, dim=1)  # ..., T·H, S
        scores = torch.baddbmm(bias, q.reshape(batch, steps * heads, -1), k.transpose(1, 2), alpha=self.head_dim**-0.5)
        return torch.bmm(scores.softmax(-1), v).view(batch, steps, -1)

    def mix(self, x: Tensor, attended: Tensor) -> Tensor:
        """Returns the block's output from its input x and the heads' answers, [..., C] each."""
        x = x + self.out(attended)
        y: Tensor = x + self.down(fn.gelu(self.up(self.norm_mlp(x))))
        return y


class Trunk(nn.Module):
    """Maps features to one hidden vector per token; a token is a ping, or `patch` pings."""

    def __init__(self, config: ModelConfig, features: int) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear((features - REPORTED) * config.patch, config.d)
        # A separate layer, zero before training: what it learns from pings with reports changes no answer for other
        # pings.
        self.report = nn.Linear(REPORTED * config.patch, config.d, bias=False)
        nn.init.zeros_(self.report.weight)
        self.places = Places(config) if config.places else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.d)
        self.positions = Positions(config.positions, config.d, config.head_dim)

    def forward(
        self,
        x_BTF: Tensor,
        found: CellRows | None = None,
        time_ms: Tensor | None = None,
        *,
        start: int = 0,
        segment_BT: Tensor | None = None,
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Returns the hidden vectors [B, T/P, C] and each block's keys and values [B, T/P, D].

        `found` gives the places of the pings, `time_ms` int64 [B, T] their times; `start` is the index of the first
        ping. `segment_BT` int64 numbers the tracks that share a row, each contiguous; no track attends to another.
        """
        p = self.config.patch
        x, token_ms = self._enter(x_BTF, found), None if time_ms is None else time_ms[:, p - 1 :: p]
        return self.run_blocks(x, token_ms, start=start, segment_BT=segment_BT)

    def run_blocks(
        self, x_BTC: Tensor, time_ms: Tensor | None = None, *, start: int = 0, segment_BT: Tensor | None = None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """`forward` from the first vectors of tokens on; `time_ms` is that of each token."""
        x = x_BTC
        index = torch.arange(x.shape[1], device=x.device) + start
        if segment_BT is not None:
            index = index - _first_of_segment(segment_BT)
        x = self.positions.add(x, index)
        cos_sin = self.positions.angles(index, time_ms)
        band = self._band(x.shape[1], x).unsqueeze(0)
        if segment_BT is not None:
            band = band.masked_fill(segment_BT[:, :, None] != segment_BT[:, None, :], float("-inf"))
        kept: list[tuple[Tensor, Tensor]] = []
        for block in self.blocks:
            assert isinstance(block, Block)
            q, k, v = block.project(x, cos_sin)
            kept.append((k, v))
            x = block.mix(x, block.attend(q, k, v, band))
        return self.norm(x), kept

    def _enter(self, x: Tensor, found: CellRows | None) -> Tensor:
        """Returns the stream's first vectors [..., C] from the features [B, T, F] of tokens, or [N, F] where a token is
        a ping, and from the places of the pings, if known.
        """
        p = self.config.patch
        report, rest = x[..., :REPORTED], x[..., REPORTED:]
        if p > 1:
            report, rest = (part.reshape(len(x), -1, p * part.shape[2]) for part in (report, rest))
        y: Tensor = self.embed(rest) + self.report(report)
        if self.places is None or found is None:
            return y
        place: Tensor = self.places(found)
        return y + (place if p == 1 else place.view(place.shape[0], -1, p, place.shape[2]).mean(2))

    def _band(self, steps: int, like: Tensor) -> Tensor:
        """Returns [T, T]: 0 where a token (row) attends to another (column), -inf where it does not."""
        index = torch.arange(steps, device=like.device)
        back = index[:, None] - index[None, :]
        seen = (back >= 0) & (back < self.config.window)
        return torch.zeros_like(seen, dtype=like.dtype).masked_fill_(~seen, float("-inf"))


def _first_of_segment(segment_BT: Tensor) -> Tensor:
    """Returns the index [B, T] of the first token of each token's segment."""
    index = torch.arange(segment_BT.shape[1], device=segment_BT.device)
    new = torch.ones_like(segment_BT, dtype=torch.bool)
    new[:, 1:] = segment_BT[:, 1:] != segment_BT[:, :-1]
    return torch.where(new, index, 0).cummax(dim=1).values
