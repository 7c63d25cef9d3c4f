"""Draws an atlas as GeoJSON (RFC 7946): an arrow for each map cell, direction and class of speed, from the middle of
the cell to about where those that passed there so were some time later.

An atlas has what happened beyond what physics expected of each ping. What it expected is drawn for the octant and for
the middle of the class of speeds, so that the end of an arrow may be off by some hundred metres, and more above 15 m/s.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from model.atlas.cells import FINEST, LEVEL_SHIFT, STILL, ZOOMS
from model.atlas.outcomes import CM_PER_M, HORIZONS_S, expected_m
from model.atlas.published import UNIT, Published
from stream.engine.answers import M_PER_DEG

# What is drawn for a class of speeds: its middle.
SPEED_MPS: Final = (0.0, 1.75, 5.5, 11.5, 20.0)


class Arrows(NamedTuple):
    """The arrows of one level, in columns of N rows."""

    lat: Any  # [N], of the middle of the cell
    lon: Any
    to_lat: Any
    to_lon: Any
    n: Any  # outcomes
    octant: Any
    kind: Any  # the class of speeds


def arrows(atlas: Published, level: int, horizon_s: float, least: float) -> Arrows:
    """Returns the arrows of one level that are made of `least` outcomes or more.

    Raises ValueError for a level or a horizon that an atlas does not have.
    """
    if not 0 <= level <= FINEST:
        raise ValueError(f"level {level}: arrows are drawn of levels 0 (the largest cells) to {FINEST}")
    if horizon_s not in HORIZONS_S:
        raise ValueError(f"{horizon_s:g} s: an atlas has {', '.join(f'{h:g}' for h in HORIZONS_S)} s")
    column = HORIZONS_S.index(horizon_s)
    rows = np.flatnonzero((atlas.key >> LEVEL_SHIFT == level) & (atlas.n[:, column] >= least * UNIT))
    key, n = atlas.key[rows], atlas.n[rows, column] / UNIT
    lat, lon = middles(key, level)
    octant, kind = (key >> 4) & 15, key & 15
    turn = np.where(octant == STILL, 0, octant) * (np.pi / 4)
    speed = np.take(SPEED_MPS, kind)
    velocity = np.stack([np.sin(turn), np.cos(turn)], axis=-1) * speed[:, None]
    off_m = atlas.off_cm[rows, column] / (CM_PER_M * n[:, None])
    to = expected_m(velocity, np.full((len(rows), 1), horizon_s))[:, 0] + off_m
    end_lat = lat + to[:, 1] / M_PER_DEG
    end_lon = lon + to[:, 0] / (M_PER_DEG * np.cos(np.radians(lat)))
    return Arrows(lat, lon, end_lat, end_lon, n, octant, kind)


def features(atlas: Published, level: int, horizon_s: float, least: int) -> Iterator[dict[str, Any]]:
    """Yields the arrows of one level as GeoJSON features. Raises as `arrows`."""
    for lat, lon, end_lat, end_lon, n, octant, kind in zip(*arrows(atlas, level, horizon_s, least), strict=True):
        ends = [[round(float(x), 6) for x in pair] for pair in ((lon, lat), (end_lon, end_lat))]
        heading = None if octant == STILL else int(octant) * 45
        what = {"n": round(float(n), 2), "heading_deg": heading, "speed_class": int(kind), "after_s": horizon_s}
        yield {
            "type": "Feature",
            "geometry": {"type": "LineString", "coordinates": ends},
            "properties": what,
        }


def middles(key: Any, level: int) -> tuple[Any, Any]:
    """Returns the latitudes and longitudes of the middles of the map cells of keys [N]."""
    x, y = (((key >> shift) & (2**20 - 1)) + 0.5 for shift in (40, 20))
    return degrees(x, y, level)


def degrees(x: Any, y: Any, level: int) -> tuple[Any, Any]:
    """Returns the latitudes and longitudes of positions in map cells of a level: columns [N] and rows [N]."""
    side = 2.0 ** ZOOMS[level]
    lat = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * y / side))))
    return lat, x / side * 360.0 - 180.0
