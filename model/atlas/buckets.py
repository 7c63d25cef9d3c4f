"""Finds the bucket of a ping: its map cell, and the octant in which it travels.

    bits 24 to 40   the column of the cell, and bits 4 to 20 its row: Web Mercator tiles of zoom ZOOM
    bits  0 to  3   the octant of the way that the thing came, 0 (north) to 7 clockwise, or STILL

Shapes: N pings.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.kinematics.geo import E7, F64

# Cells of 306 m at the equator, 265 in Austin, 188 in Warsaw. In half of that, too few vehicles pass in a day to be
# published.
ZOOM: Final = 17
STILL: Final = 8
CAME_M: Final = 60.0  # a thing that came a shorter way is still, and has no octant
MAX_LAT_DEG: Final = 85.0  # the limit of the Mercator map
NOWHERE: Final = -1  # in place of a bucket that is asked once already
_TILES: Final = 1 << ZOOM
OCTANT_BITS: Final = 4  # a bucket without these is its cell
COLUMN: Final = 24  # bits below the column
Keys = NDArray[np.int64]


def buckets(lat_e7: NDArray[Any], lon_e7: NDArray[Any], came_m: F64) -> Keys:
    """Returns the buckets [N] of pings at lat_e7, lon_e7 [N] that came there by came_m [N, 2] (east, north)."""
    column, row = (np.floor(turn).astype(np.int64) for turn in _tiles(lat_e7, lon_e7))
    octant, _ = _octants(came_m)
    return _key(column, row, octant)


def around(lat_e7: NDArray[Any], lon_e7: NDArray[Any], came_m: F64) -> Keys:
    """Returns the buckets [N, 8] that pings ask: of their own cell and the three nearest ones, each with their own
    octant and the nearest other one. A still thing asks the four cells once.
    """
    column, row = _tiles(lat_e7, lon_e7)
    octant, other = _octants(came_m)
    found = []
    for right in (False, True):
        for down in (False, True):
            x, y = (np.floor(turn).astype(np.int64) for turn in (column, row))
            x = x + np.where(column - x < 0.5, -1, 1) if right else x
            y = y + np.where(row - y < 0.5, -1, 1) if down else y
            found += [_key(x, y, octant), np.where(other == octant, NOWHERE, _key(x, y, other))]
    return np.stack(found, axis=-1)


def tiles(lat_e7: NDArray[Any], lon_e7: NDArray[Any], zoom: int) -> tuple[Keys, Keys]:
    """Returns the columns and rows [...] of the Web Mercator tiles of a zoom that positions are in."""
    found = _tiles(lat_e7, lon_e7)
    column, row = (np.floor(turn * 2.0 ** (zoom - ZOOM)).astype(np.int64) for turn in found)
    return column % (1 << zoom), row % (1 << zoom)


def _tiles(lat_e7: NDArray[Any], lon_e7: NDArray[Any]) -> tuple[F64, F64]:
    """Returns the columns and rows [N] of tiles; their fractions say where in the tile."""
    lat = np.radians(np.clip(lat_e7 / E7, -MAX_LAT_DEG, MAX_LAT_DEG))
    return (lon_e7 / E7 / 360.0 + 0.5) * _TILES, (0.5 - np.arcsinh(np.tan(lat)) / (2 * np.pi)) * _TILES


def _octants(came_m: F64) -> tuple[Keys, Keys]:
    """Returns the octants [N] of ways, and the nearest other ones; of what is still, STILL twice."""
    turns = np.arctan2(came_m[..., 0], came_m[..., 1]) * (4 / np.pi) + 0.5
    octant = np.floor(turns).astype(np.int64)
    other = octant + np.where(turns - octant < 0.5, -1, 1)
    still = np.hypot(came_m[..., 0], came_m[..., 1]) < CAME_M
    return np.where(still, STILL, octant % 8), np.where(still, STILL, other % 8)


def _key(column: Keys, row: Keys, octant: Keys) -> Keys:
    return np.asarray((column % _TILES) << COLUMN | (row % _TILES) << OCTANT_BITS | octant)
