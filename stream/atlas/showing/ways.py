"""Joins the cells of an atlas to ways: what a map draws as streets.

An atlas has no place within a cell, and headings in octants only: an arrow from the middle of each cell, in the
direction of its octant, is up to half a cell and 22 degrees off, and many of them look like needles that were dropped.
But cells along a street lie along a line. So each cell and octant becomes a point, which is moved onto the line through
its neighbours of the same or the opposite octant, and never out of its cell (a weighted fit of a line around each
point, as moving least squares has it); and a way leads from it to the nearest point ahead that goes on in about its
direction, no farther than what was there came in a minute.

Shapes: P points. Lengths and positions are in cells of the level, x to the east and y to the south.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from model.atlas.cells import FINEST, LEVEL_SHIFT, STILL, ZOOMS
from model.atlas.outcomes import HORIZONS_S
from model.atlas.published import UNIT, Published
from stream.atlas.showing.flows import SPEED_MPS, degrees

LEVEL: Final = FINEST
LEAST: Final = 1.0  # outcomes after a minute that a point is made of
MOST_POINTS: Final = 1_000_000  # of more, those of which most came: a million takes a core minutes
NEAR: Final = 3.5  # a line is fitted to points so near
SPREAD: Final = 1.8  # the standard deviation of the weights of that fit
BESIDE: Final = 0.6  # the weight of a neighbouring octant
BOTH_WAYS, ONE_WAY = (0, 1, -1, 4, 3, 5), (0, 1, -1)  # octants that a street has, by how far they are turned
ROUND: Final = 0.05  # variance across a line that tells nothing of whether it is one
ROUNDS: Final = 2  # the second fit is to points that lie better than the middles of cells
FARTHEST: Final = 9  # of a way; the shortest reach is NEAR
APART: Final = 0.3  # points that are nearer are beside each other rather than one after the other
BETWEEN: Final = 1.5  # between two points and between the middles of their cells, distances differ by less
AHEAD, ONWARD = 0.8, 0.7  # cosines between a way and its direction at its begin, and at its end
STUB_S: Final = 15.0  # of what no way leads to or from, so much of its way is drawn
STUBS: Final = 0.3, 2.0
MARGIN: Final = 0.02  # from a cell's edge, so that a place tells its cell
EARTH_M: Final = 40_075_016.686
_TILES: Final = 2**20 - 1


class Ways(NamedTuple):
    """Straight stretches, in columns of N rows."""

    lat: Any  # [N]
    lon: Any
    to_lat: Any
    to_lon: Any
    n: Any  # outcomes, the mean of both ends


@dataclass(frozen=True)
class Points:
    """One for each cell and octant in which something moved, sorted by cell."""

    cell: Any  # [P, 2] column and row
    octant: Any  # [P]
    n: Any  # [P] outcomes
    reach: Any  # [P] how far a way may lead from here
    codes: Any  # [C] the cells, sorted
    table: Any  # [C + 1, 8] the point of each cell and octant, or -1; the last row is that of no cell

    @classmethod
    def of(cls, atlas: Published) -> Points:
        rows = np.flatnonzero((atlas.key >> LEVEL_SHIFT == LEVEL) & (atlas.n[:, 0] >= LEAST * UNIT))
        rows = rows[(atlas.key[rows] >> 4) & 15 != STILL]
        key, n = atlas.key[rows], atlas.n[rows, 0] / UNIT
        code = ((key >> 20) & (2**40 - 1)) * 8 + ((key >> 4) & 7)
        found, which = np.unique(code, return_inverse=True)
        total = np.bincount(which, n, len(found))
        speed = np.bincount(which, n * np.take(SPEED_MPS, key & 15), len(found)) / np.maximum(total, 1e-9)
        if len(found) > MOST_POINTS:
            most = np.sort(np.argpartition(-total, MOST_POINTS)[:MOST_POINTS])
            found, total, speed = found[most], total[most], speed[most]
        cell = np.stack([(found >> 23) & _TILES, (found >> 3) & _TILES], axis=-1)
        codes, place = np.unique(found >> 3, return_inverse=True)
        table = np.full((len(codes) + 1, 8), -1)
        table[place, found & 7] = np.arange(len(found))
        side_m = EARTH_M / 2.0 ** ZOOMS[LEVEL] * np.cos(np.radians(_degrees(cell + 0.5)[0]))
        reach = np.clip(speed * HORIZONS_S[0] / side_m, NEAR, FARTHEST)
        return cls(cell, found & 7, total, reach, codes, table)

    def __len__(self) -> int:
        return len(self.n)

    def beside(self, rows: Any, step: tuple[int, int]) -> Any:
        """Returns the rows of `table` of the cells that are one step from those of some points."""
        wanted = (self.cell[rows, 0] + step[0] << 20) | (self.cell[rows, 1] + step[1])
        place = np.minimum(np.searchsorted(self.codes, wanted), len(self.codes) - 1)
        return np.where(self.codes[place] == wanted, place, len(self.codes))


def ways(atlas: Published) -> Ways:
    """Returns the ways of an atlas; those of which nothing is ahead or behind are stubs."""
    points = Points.of(atlas)
    if not len(points):
        none = np.empty(0)
        return Ways(none, none, none, none, none)
    at, heading = fitted(points)
    ahead = nearest(points, at, heading, 1.0)
    begins = np.flatnonzero(ahead >= 0)
    pairs = np.stack([begins, ahead[begins]], axis=-1)
    reached = np.zeros(len(points), np.bool_)
    reached[ahead[begins]] = True
    behind = np.where(reached, -1, nearest(points, at, heading, -1.0))  # else a way that joins another begins nowhere
    ends = np.flatnonzero(behind >= 0)
    pairs = np.unique(np.concatenate([pairs, np.stack([behind[ends], ends], axis=-1)]), axis=0)
    alone = np.ones(len(points), np.bool_)
    alone[pairs.ravel()] = False
    stub = np.clip(points.reach[alone] * STUB_S / HORIZONS_S[0], *STUBS)[:, None] * heading[alone]
    begin = np.concatenate([at[pairs[:, 0]], at[alone]])
    end = np.concatenate([at[pairs[:, 1]], at[alone] + stub])
    n = np.concatenate([points.n[pairs].mean(axis=1), points.n[alone]])
    return Ways(*_degrees(begin), *_degrees(end), n)


def fitted(points: Points) -> tuple[Any, Any]:
    """Returns where the points are [P, 2] once they are moved onto lines, and their headings as unit vectors [P, 2]."""
    turn = points.octant * (np.pi / 4)
    rough = np.stack([np.sin(turn), -np.cos(turn)], axis=-1)
    at, heading = points.cell + 0.5, rough
    for _ in range(ROUNDS):
        at, heading = _fitted_once(points, at, rough)
    return at, heading


def _fitted_once(points: Points, at: Any, rough: Any) -> tuple[Any, Any]:
    count = np.zeros(len(points))
    weight, mean, square = np.zeros(len(points)), np.zeros((len(points), 2)), np.zeros((len(points), 3))
    everywhere = np.full(len(points), NEAR)
    for rows, others, off in _around(points, at, BOTH_WAYS, lambda: everywhere):
        w = np.sqrt(points.n[others]) * np.exp(-(off**2).sum(axis=1) / (2 * SPREAD**2))
        w = np.where((points.octant[others] - points.octant[rows]) % 4 == 0, w, BESIDE * w)
        count[rows] += 1
        weight[rows] += w
        mean[rows] += w[:, None] * off
        square[rows] += w[:, None] * np.stack([off[:, 0] ** 2, off[:, 0] * off[:, 1], off[:, 1] ** 2], axis=-1)
    mean /= weight[:, None]
    xx, xy, yy = (square / weight[:, None] - mean[:, [0, 0, 1]] * mean[:, [0, 1, 1]]).T
    middle, apart = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    line = np.where(count > 2, 1 - (middle - apart + ROUND) / (middle + apart + ROUND), 0.0).clip(0, 1)[:, None]
    turn = np.arctan2(2 * xy, xx - yy) / 2
    along = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    along *= np.where((along * rough).sum(axis=1) < 0, -1.0, 1.0)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=-1)
    moved = at + (mean * across).sum(axis=1, keepdims=True) * across * line
    heading = along * line + rough * (1 - line)
    heading /= np.hypot(heading[:, 0], heading[:, 1])[:, None]
    return np.clip(moved, points.cell + MARGIN, points.cell + 1 - MARGIN), heading


def nearest(points: Points, at: Any, heading: Any, side: float) -> Any:
    """Returns for each point the nearest one ahead (`side` 1) or behind (-1) on its way [P]; -1 if there is none. What
    is off its heading counts as farther away."""
    best, cost = np.full(len(points), -1), np.full(len(points), np.inf)
    for rows, others, off in _around(points, at, ONE_WAY, lambda: np.minimum(points.reach, cost)):
        far = np.maximum(np.hypot(off[:, 0], off[:, 1]), 1e-9)
        here = side * (off * heading[rows]).sum(axis=1) / far
        there = side * (off * heading[others]).sum(axis=1) / far
        price = far / np.maximum(here, 0.1) ** 4
        better = (far > APART) & (here > AHEAD) & (there > ONWARD) & (price < cost[rows])
        best[rows[better]], cost[rows[better]] = others[better], price[better]
    return best


def _around(
    points: Points, at: Any, turns: tuple[int, ...], limit: Callable[[], Any]
) -> Iterator[tuple[Any, Any, Any]]:
    """Yields pairs of points within the first one's `limit` [P], which may fall meanwhile, of octants that are so many
    turns apart: rows, the others, and the vectors to these. Cells come from the nearest on."""
    last, rows = -1.0, np.arange(len(points))
    for far, step in _steps(float(limit().max())):
        if far > last + 0.5:  # whoever needs nothing so far away is left out from here on
            last = far
            rows = rows[limit()[rows] >= far - BETWEEN]
        cells = points.beside(rows, step)
        there = np.flatnonzero(cells < len(points.codes))
        for turn in turns:
            others = points.table[cells[there], (points.octant[rows[there]] + turn) % 8]
            found = others >= 0
            mine, others = rows[there[found]], others[found]
            off = at[others] - at[mine]
            near = np.hypot(off[:, 0], off[:, 1]) <= limit()[mine]
            yield mine[near], others[near], off[near]


def _steps(farthest: float) -> list[tuple[float, tuple[int, int]]]:
    """Returns the steps to all cells of which a part may be so near, by the distance of their middles."""
    most = range(-int(farthest) - 1, int(farthest) + 2)
    steps = [(float(np.hypot(dx, dy)), (dx, dy)) for dx in most for dy in most]
    return sorted(one for one in steps if one[0] <= farthest + BETWEEN)


def _degrees(at: Any) -> tuple[Any, Any]:
    """Returns the latitudes and longitudes of positions [N, 2]."""
    return degrees(at[:, 0], at[:, 1], LEVEL)
