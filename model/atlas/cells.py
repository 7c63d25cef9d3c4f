"""Finds the keys under which an atlas counts a ping: its map cell at five sizes, with the direction and the class of
its speed; and once more the smallest cell with the direction that the thing came from, because lines that share a
street part again.

    bits 60 to 62   the level, from the largest cells (0) to the smallest (4); 5 adds where from
    bits 40 to 59   the column of the cell, and bits 20 to 39 its row: Web Mercator tiles of the level's zoom
    bits 12 to 15   at level 5 the octant of the way that it came over the last few pings, or STILL; else 0
    bits  8 to 11   0
    bits  4 to  7   the octant of the heading, 0 (north) to 7 clockwise, or STILL
    bits  0 to  3   the class of the speed, by SPEEDS_MPS

Shapes: N pings, L = LEVELS.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.kinematics.answer_bounds import ATLAS_LEVELS
from model.kinematics.geo import E7, F64

# Cells of 2,446, 1,223, 611, 306 and 153 m at the equator; at 45 degrees of latitude 1,730 to 108 m.
ZOOMS: Final = (14, 15, 16, 17, 18, 18)
LEVELS: Final = ATLAS_LEVELS
assert len(ZOOMS) == LEVELS
FINEST: Final = 4  # the level of the smallest cells, without where from
LEVEL_SHIFT: Final = 60
CAME_SHIFT: Final = 12
STILL: Final = 8
CAME_M: Final = 60.0  # what came a shorter way came from nowhere
SPEEDS_MPS: Final = (0.5, 3.0, 8.0, 15.0)  # below the first, a thing is still and has no heading
MAX_LAT_DEG: Final = 85.0  # the limit of the Mercator map
_TILES: Final = 2**20 - 1
_CAME_BITS: Final = 15 << CAME_SHIFT
Keys = NDArray[np.int64]


def keys(lat_e7: NDArray[Any], lon_e7: NDArray[Any], velocity_mps: F64, came_m: F64) -> Keys:
    """Returns the keys [N, L] of pings at lat_e7, lon_e7 [N] that move with velocity_mps [N, 2] (east, north), and came
    there by the ways came_m [N, 2] (`outcomes.ways_m`).
    """
    lat = np.radians(np.clip(lat_e7 / E7, -MAX_LAT_DEG, MAX_LAT_DEG))
    turn_x, turn_y = lon_e7 / E7 / 360.0 + 0.5, 0.5 - np.arcsinh(np.tan(lat)) / (2 * np.pi)
    speed = np.hypot(velocity_mps[..., 0], velocity_mps[..., 1])
    kind = np.searchsorted(SPEEDS_MPS, speed, side="right")
    motion = (np.where(kind == 0, STILL, _octant(velocity_mps)) << 4) | kind
    came = np.where(np.hypot(came_m[..., 0], came_m[..., 1]) < CAME_M, STILL, _octant(came_m)) << CAME_SHIFT
    found = [
        (level << LEVEL_SHIFT) | (_tile(turn_x, zoom) << 40) | (_tile(turn_y, zoom) << 20) | motion
        for level, zoom in enumerate(ZOOMS)
    ]
    found[-1] |= came
    return np.stack(found, axis=-1)


def levels_of(smallest: Keys) -> list[Keys]:
    """Returns for each level the keys [N] of pings whose keys of the last level are given."""
    motion = smallest & 255
    found = []
    for level, zoom in enumerate(ZOOMS):
        above = ZOOMS[-1] - zoom
        column, row = (((smallest >> shift) & _TILES) >> above for shift in (40, 20))
        found.append(np.asarray((level << LEVEL_SHIFT) | (column << 40) | (row << 20) | motion))
    found[-1] |= smallest & _CAME_BITS
    return found


def _octant(vector: F64) -> NDArray[np.int64]:
    """Returns the octants [N] of vectors [N, 2] (east, north)."""
    turns = np.arctan2(vector[..., 0], vector[..., 1]) * (4 / np.pi)
    return np.asarray(np.floor(turns + 0.5).astype(np.int64) % 8)


def _tile(turn: F64, zoom: int) -> NDArray[np.int64]:
    return np.asarray(np.floor(turn * 2.0**zoom).astype(np.int64) % 2**zoom)
