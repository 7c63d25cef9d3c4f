"""The map: a learned vector for each map cell that training has visited, at five sizes of cell.

A network that sees only motion learns that things turn; a network that knows the place learns where the street turns.
Fourier features of the position cannot resolve a street within a continent in two blocks of width 128; a table can
(multi-resolution grids: Müller et al., "Instant Neural Graphics Primitives", 2022, section 3). The table is not hashed:
it stores the keys of the visited cells and searches them, so a place that was never visited is known to be unknown,
contributes nothing, and costs no accuracy elsewhere. Between cell centres the vectors are interpolated bilinearly, so
that nothing jumps.

Cells are Web Mercator tiles. Shapes: ... any batch, L levels, P = config.places known cells, J = 4·L corners.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.kinematics.geo import F64
from model.kinematics.map_cells import CELL_DIM, CORNERS, ZOOMS, Keys, find

UNUSED: Final = np.iinfo(np.int64).max  # fills the keys of a table that is not full


class CellRows(NamedTuple):
    """Rows of the table and their weights, [..., J] each; a weight is 0 where the cell is unknown."""

    row: Tensor
    share: Tensor


class Places(nn.Module):
    """The table, and the layer that projects its vectors to the width of the trunk."""

    keys: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.register_buffer("keys", torch.full((config.places,), UNUSED))
        self.table = nn.Parameter(torch.empty(config.places, CELL_DIM))
        nn.init.normal_(self.table, std=0.1)
        self.out = nn.Linear(len(ZOOMS) * (CELL_DIM + 1), config.d)

    def know(self, keys: Keys) -> None:
        """Stores sorted keys, at most P of them, as those of the table's first rows, in place."""
        self.keys.fill_(UNUSED)
        self.keys[: len(keys)] = torch.from_numpy(keys)

    def find(self, lat_deg: F64, lon_deg: F64) -> CellRows:
        """Finds the cells around positions [...]; NaN means no position."""
        row, share = find(self.keys.cpu().numpy(), lat_deg, lon_deg)
        return CellRows(*(torch.from_numpy(part).to(self.table.device) for part in (row, share)))

    def forward(self, found: CellRows) -> Tensor:
        """Returns [..., C]. The weight of the known corners is an input too, so that "unknown" differs from
        "average".
        """
        share = found.share.view(*found.share.shape[:-1], len(ZOOMS), CORNERS)
        bags = found.row.reshape(-1, CORNERS)
        vector = nn.functional.embedding_bag(
            bags, self.table, mode="sum", per_sample_weights=share.reshape(-1, CORNERS).to(self.table.dtype)
        )
        known = share.sum(-1, keepdim=True)
        y: Tensor = self.out(torch.cat([vector.view(*known.shape[:-1], CELL_DIM), known], dim=-1).flatten(-2))
        return y
