"""Finds the keys under which an atlas counts a ping: its map cell at five sizes, with the direction and the class of
its speed.

    bits 60 to 62   the level, from the largest cells (0) to the smallest
    bits 40 to 59   the column of the cell, and bits 20 to 39 its row: Web Mercator tiles of the level's zoom
    bits  8 to 19   0
    bits  4 to  7   the octant of the heading, 0 (north) to 7 clockwise, or STILL
    bits  0 to  3   the class of the speed, by SPEEDS_MPS

Shapes: N pings, L = LEVELS.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.kinematics.geo import E7, F64

# Cells of 2,446, 1,223, 611, 306 and 153 m at the equator; at 45 degrees of latitude 1,730 to 108 m.
ZOOMS: Final = (14, 15, 16, 17, 18)
LEVELS: Final = len(ZOOMS)
LEVEL_SHIFT: Final = 60
STILL: Final = 8
SPEEDS_MPS: Final = (0.5, 3.0, 8.0, 15.0)  # below the first, a thing is still and has no heading
MAX_LAT_DEG: Final = 85.0  # the limit of the Mercator map
_TILES: Final = 2**20 - 1
Keys = NDArray[np.int64]


def keys(lat_e7: NDArray[Any], lon_e7: NDArray[Any], velocity_mps: F64) -> Keys:
    """Returns the keys [N, L] of pings at lat_e7, lon_e7 [N] that move with velocity_mps [N, 2] (east, north)."""
    lat = np.radians(np.clip(lat_e7 / E7, -MAX_LAT_DEG, MAX_LAT_DEG))
    turn_x, turn_y = lon_e7 / E7 / 360.0 + 0.5, 0.5 - np.arcsinh(np.tan(lat)) / (2 * np.pi)
    speed = np.hypot(velocity_mps[..., 0], velocity_mps[..., 1])
    kind = np.searchsorted(SPEEDS_MPS, speed, side="right")
    octant = np.floor(np.arctan2(velocity_mps[..., 0], velocity_mps[..., 1]) * (4 / np.pi) + 0.5).astype(np.int64) % 8
    motion = (np.where(kind == 0, STILL, octant) << 4) | kind
    found = [
        (level << LEVEL_SHIFT) | (_tile(turn_x, zoom) << 40) | (_tile(turn_y, zoom) << 20) | motion
        for level, zoom in enumerate(ZOOMS)
    ]
    return np.stack(found, axis=-1)


def levels_of(smallest: Keys) -> list[Keys]:
    """Returns for each level the keys [N] of pings whose keys of the smallest cells are given."""
    motion = smallest & 255
    found = []
    for level, zoom in enumerate(ZOOMS):
        above = ZOOMS[-1] - zoom
        column, row = (((smallest >> shift) & _TILES) >> above for shift in (40, 20))
        found.append(np.asarray((level << LEVEL_SHIFT) | (column << 40) | (row << 20) | motion))
    return found


def _tile(turn: F64, zoom: int) -> NDArray[np.int64]:
    return np.asarray(np.floor(turn * 2.0**zoom).astype(np.int64) % 2**zoom)
