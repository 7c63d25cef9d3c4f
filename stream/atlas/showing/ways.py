"""Draws the passages of an atlas as ways: short straight stretches, which together look like the streets that were
driven.

A passage says where a thing was 15 s later, 30 s later, ..., on the straight lines between its pings: where these are
far apart, such a line cuts a corner. Of the stretches from one of these places to the next that begin in the same small
tile and lead into the same octant, the mean is drawn. It begins in that tile in every version.

Shapes: P passages, S stretches, N ways.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from model.atlas.buckets import tiles
from model.atlas.published import Published
from model.atlas.ways import ON_M, ON_S
from model.kinematics.geo import E7, F64, move_deg, to_e7

ZOOM: Final = 19  # tiles of 66 m in Austin: in larger ones, two streets that are side by side become one between them
UNTIL_S: Final = 60.0  # of a passage's way; of what comes later, other passages know that are nearer
SHORTEST_M: Final = 20.0  # in 15 s: what is slower stands at a light, or a receiver's error moves it
REACH_M: Final = 70.0  # a shorter mean is drawn so long: it reaches the one that begins in the next tile
MOST: Final = 1_000_000
_STEPS: Final = ON_S.index(UNTIL_S) + 1


class Ways(NamedTuple):
    """Straight stretches, in columns of N rows."""

    lat: F64  # [N]
    lon: F64
    to_lat: F64
    to_lon: F64
    n: F64  # stretches of which each is the mean


def ways(passages: Published) -> Ways:
    """Returns the ways of an atlas; of more than MOST, those along which most went."""
    at_m = np.zeros((len(passages.known), _STEPS + 1, 2))
    at_m[:, 1:] = passages.on[:, :_STEPS] * ON_M
    step_m = np.diff(at_m, axis=1)
    drawn = np.arange(_STEPS) < passages.known[:, None]
    drawn &= np.hypot(step_m[..., 0], step_m[..., 1]) >= SHORTEST_M
    row, number = np.nonzero(drawn)
    east_m, north_m = step_m[row, number].T
    lat_e7, lon_e7 = passages.places()
    lat, lon = move_deg(lat_e7[row] / E7, lon_e7[row] / E7, at_m[row, number])
    column, line = tiles(to_e7(lat), to_e7(lon), ZOOM)
    octant = np.rint(np.arctan2(east_m, north_m) * (4 / np.pi)).astype(np.int64) % 8
    _, way, n = np.unique((column << ZOOM | line) << 3 | octant, return_inverse=True, return_counts=True)
    most = np.sort(np.argsort(-n, kind="stable")[:MOST])
    lat, lon, east_m, north_m = ((np.bincount(way, of) / n)[most] for of in (lat, lon, east_m, north_m))
    longer = np.maximum(REACH_M / np.hypot(east_m, north_m), 1.0)[:, None]
    to = move_deg(lat, lon, np.stack([east_m, north_m], axis=-1) * longer)
    return Ways(lat, lon, *to, n[most].astype(np.float64))
