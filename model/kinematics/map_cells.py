"""Finds the map cells around a position: Web Mercator tiles of five sizes, each with an integer key. No torch.

Shapes: ... any batch, L levels, J = 4·L corners.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.kinematics.geo import F64

# cells of 2,400, 610, 305, 153 and 76 m at the equator; in Paris two thirds of that
ZOOMS: Final = (14, 16, 17, 18, 19)
CELL_DIM: Final = 16
CORNERS: Final = 4
MAX_LAT_DEG: Final = 85.0  # the limit of the Mercator map
Keys = NDArray[np.int64]


def corners(lat_deg: F64, lon_deg: F64) -> tuple[Keys, F64]:
    """Returns the keys and bilinear weights [..., J] of the four nearest cell centres at every level; for NaN the
    weights are 0.
    """
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
            column = (left.astype(np.int64) + dx) % 2**zoom  # columns continue across the date line
            keys.append((level << 60) | (column << 30) | (top.astype(np.int64) + dy))
            shares.append((across if dx else 1 - across) * (down if dy else 1 - down) * ~nowhere)
    return np.stack(keys, axis=-1), np.stack(shares, axis=-1)


def find(keys: Keys, lat_deg: F64, lon_deg: F64) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns the indices in `keys`, which are sorted, and the weights [..., J] of the cells around positions [...]. A
    weight is 0 where the cell is unknown, and where a position is NaN.
    """
    wanted, share = corners(lat_deg, lon_deg)
    row = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return row, np.where(keys[row] == wanted, share, 0.0).astype(np.float32)


def most_visited(lat_deg: F64, lon_deg: F64, most: int, visits: int) -> Keys:
    """Returns the sorted keys of the cells that at least `visits` of the positions (N,) touch: at most `most`, the
    busiest ones.
    """
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


_CHUNK: Final = 1 << 18  # positions per step: 20 int64 keys each, 42 MB
