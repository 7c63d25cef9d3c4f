"""Where a ping lies, as learned vectors: one per map cell that training has visited, at five sizes of cell.

A network that only sees motion knows that things turn; one that knows the place knows where the street turns. Fourier
features of the position cannot draw a street within a continent in two blocks of width 128; a table can
(multi-resolution grids: Müller et al., "Instant Neural Graphics Primitives", 2022, section 3). It is not hashed: the
keys of the visited cells are kept and sought, so a place never seen is known to be unknown, contributes nothing, and
costs no accuracy elsewhere. Between cell centres the vectors are blended bilinearly, so that nothing jumps.

Cells are Web Mercator tiles. Shapes: ... any batch, L levels, P = config.places known cells, J = 4·L corners.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.config import ModelConfig
from model.kinematics.geo import F64

ZOOMS: Final = (14, 16, 17, 18, 19)  # cells of 2,400, 610, 305, 153 and 76 m at the equator; in Paris two thirds
CELL_DIM: Final = 16
CORNERS: Final = 4
MAX_LAT_DEG: Final = 85.0  # Mercator ends there
UNUSED: Final = np.iinfo(np.int64).max  # keys of a table that is not full

Keys = NDArray[np.int64]


class Found(NamedTuple):
    """Rows of the table and their shares, [..., J] each; a share is 0 where the cell is not known."""

    row: Tensor
    share: Tensor


class Places(nn.Module):
    """The table, and the layer that brings what it holds to the width of the trunk."""

    keys: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.register_buffer("keys", torch.full((config.places,), UNUSED))
        self.table = nn.Parameter(torch.empty(config.places, CELL_DIM))
        nn.init.normal_(self.table, std=0.1)
        self.out = nn.Linear(len(ZOOMS) * (CELL_DIM + 1), config.d)

    def know(self, keys: Keys) -> None:
        """Take sorted keys, at most P of them, as those of the table's first rows, in place."""
        self.keys.fill_(UNUSED)
        self.keys[: len(keys)] = torch.from_numpy(keys)

    def find(self, lat_deg: F64, lon_deg: F64) -> Found:
        """The cells around positions [...]; NaN is nowhere."""
        keys = self.keys.cpu().numpy()
        wanted, share = corners(lat_deg, lon_deg)
        row = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        share = np.where(keys[row] == wanted, share, 0.0)
        device = self.table.device
        return Found(torch.from_numpy(row).to(device), torch.from_numpy(share.astype(np.float32)).to(device))

    def forward(self, found: Found) -> Tensor:
        """[..., C]. The share of known corners goes along, so that "unknown" differs from "average"."""
        share = found.share.view(*found.share.shape[:-1], len(ZOOMS), CORNERS)
        bags = found.row.reshape(-1, CORNERS)
        vector = nn.functional.embedding_bag(
            bags, self.table, mode="sum", per_sample_weights=share.reshape(-1, CORNERS).to(self.table.dtype)
        )
        known = share.sum(-1, keepdim=True)
        y: Tensor = self.out(torch.cat([vector.view(*known.shape[:-1], CELL_DIM), known], dim=-1).flatten(-2))
        return y


def corners(lat_deg: F64, lon_deg: F64) -> tuple[Keys, F64]:
    """Keys and bilinear shares [..., J] of the four nearest cell centres at every level; NaN has shares of 0."""
    nowhere = ~(np.isfinite(lat_deg) & np.isfinite(lon_deg))
    lat = np.radians(np.clip(np.where(nowhere, 0.0, lat_deg), -MAX_LAT_DEG, MAX_LAT_DEG))
    turn_x = np.where(nowhere, 0.0, lon_deg) / 360.0 + 0.5
    turn_y = 0.5 - np.arcsinh(np.tan(lat)) / (2 * np.pi)
    keys, shares = [], []
    for level, zoom in enumerate(ZOOMS):
        x, y = turn_x * 2.0**zoom - 0.5, turn_y * 2.0**zoom - 0.5
        left, top = np.floor(x), np.floor(y)
        across, down = x - left, y - top
        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
            column = (left.astype(np.int64) + dx) % 2**zoom  # the date line is no edge
            keys.append((level << 60) | (column << 30) | (top.astype(np.int64) + dy))
            shares.append((across if dx else 1 - across) * (down if dy else 1 - down) * ~nowhere)
    return np.stack(keys, axis=-1), np.stack(shares, axis=-1)


def most_visited(lat_deg: F64, lon_deg: F64, most: int, visits: int) -> Keys:
    """Sorted keys of at most `most` cells that have at least `visits` of the positions (N,), the busiest first."""
    keys, count = np.empty(0, np.int64), np.empty(0, np.int64)
    for first in range(0, len(lat_deg), _CHUNK):
        part, seen = np.unique(
            corners(lat_deg[first : first + _CHUNK], lon_deg[first : first + _CHUNK])[0], return_counts=True
        )
        both = np.concatenate([keys, part])
        keys, of = np.unique(both, return_inverse=True)
        count = np.bincount(of, weights=np.concatenate([count, seen])).astype(np.int64)
    order = np.argsort(-count, kind="stable")[:most]
    return np.sort(keys[order[count[order] >= visits]])


_CHUNK: Final = 1 << 18  # positions at a time: 16 keys each stay within 34 MB
