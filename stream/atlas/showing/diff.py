"""Compares two atlases: which keys came and went, and where the mean of what happened has changed most."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas.cells import LEVEL_SHIFT, LEVELS, STILL
from model.atlas.outcomes import CM_PER_M, HORIZONS_S
from model.atlas.published import UNIT, Published
from model.atlas.sums import find
from stream.atlas.showing.flows import middles

LEAST: Final = 3  # outcomes in both, for a mean that has changed


class Level(NamedTuple):
    """Holds what differs at one level."""

    level: int
    gained: int
    lost: int
    kept: int


class Change(NamedTuple):
    """Where the mean of what happened is another one."""

    level: int
    lat: float  # of the middle of the cell
    lon: float
    heading_deg: int | None
    speed_class: int
    moved_m: float
    n: tuple[float, float]  # outcomes before and after


def levels(one: Published, other: Published) -> list[Level]:
    """Returns what keys the other has and the one has not, and the reverse, by level."""
    (_, stayed), (_, was) = find(other.key, one.key), find(one.key, other.key)
    found = []
    for level in range(LEVELS):
        before, after = (atlas.key >> LEVEL_SHIFT == level for atlas in (one, other))
        gained, lost = int((~was & after).sum()), int((~stayed & before).sum())
        found.append(Level(level, gained, lost, int((was & after).sum())))
    return found


def changes(one: Published, other: Published, horizon_s: float, most: int) -> list[Change]:
    """Returns the keys of both whose mean after the horizon has moved farthest, the farthest first.

    Raises ValueError for a horizon that an atlas does not have.
    """
    if horizon_s not in HORIZONS_S:
        raise ValueError(f"{horizon_s:g} s: an atlas has {', '.join(f'{h:g}' for h in HORIZONS_S)} s")
    column = HORIZONS_S.index(horizon_s)
    place, both = find(one.key, other.key)
    after = np.flatnonzero(both)
    before = place[after]
    n = np.stack([one.n[before, column], other.n[after, column]], axis=-1) / UNIT
    sure = (n >= LEAST).all(axis=1)
    before, after, n = before[sure], after[sure], n[sure]
    moved = _means_m(other, after, column) - _means_m(one, before, column)
    far = np.hypot(moved[:, 0], moved[:, 1])
    first = np.lexsort((other.key[after], -far))[:most]
    return [_change(int(other.key[after[at]]), float(far[at]), n[at]) for at in first]


def _means_m(atlas: Published, rows: NDArray[Any], column: int) -> NDArray[np.float64]:
    return np.asarray(atlas.off_cm[rows, column] * UNIT / (CM_PER_M * atlas.n[rows, column])[:, None])


def _change(key: int, moved_m: float, n: NDArray[np.float64]) -> Change:
    level, octant = key >> LEVEL_SHIFT, key >> 4 & 15
    lat, lon = middles(np.array([key]), level)
    heading = None if octant == STILL else 45 * octant
    before, after = (round(float(one), 2) for one in n)
    place = round(float(lat[0]), 6), round(float(lon[0]), 6)
    return Change(level, *place, heading, key & 15, round(moved_m, 1), (before, after))
