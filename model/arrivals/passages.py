"""Finds how long earlier entities took from about here to there, in a fleet's own tracks.

Tracks are kept as points: a ping of each minute or 50 m, and points on the straight line between two pings that are
farther apart than SPACING_M. A passage begins at a point near the asked-for start and ends at the track's first later
point in the destination. Those that went as the entity is going count most, then those that were nearest, and those at
about the same time of day.

Shapes: R points, one track after the other in the order of time; C candidates of one question.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.kinematics.geo import F64, M_PER_DEG, cos_lat

SPACING_M: Final = 150.0  # about a block; destinations are hardly smaller
THIN_S: Final = 60.0  # of two pings closer in time and place than both, one is kept
THIN_M: Final = 50.0
APART_S: Final = 900.0  # between two pings: beyond, nothing is known of the way, and the track ends
FASTEST_MPS: Final = 60.0  # faster steps are jumps of a receiver, where the track ends, too
NEAR_M: Final = 250.0  # of the start
MOST: Final = 3_000  # candidates for one question, the newest
LONGEST_S: Final = 2 * 3_600.0  # of a passage
AHEAD_S: Final = 60.0  # the time for which the velocity of a point is that of what follows
MIN_ENTITIES: Final = 3  # whose passages must be known, as of a cell that an atlas publishes
# Where a candidate counts half: metres from the start, difference of velocity, hours of the day apart.
HALF_M: Final = 100.0
HALF_MPS: Final = 2.0
HALF_H: Final = 2.0
OTHER_DAY: Final = 0.3  # weight of a weekday's passage on a weekend, and the other way round
CELL_M: Final = 250.0
DAY_MS: Final = 86_400_000
_WEEKEND: Final = (5, 6)  # days since Monday
I64 = NDArray[np.int64]


class Like(NamedTuple):
    """The passages that are like what is asked."""

    seconds: F64  # (C,) sorted
    weight: F64  # (C,) their sum is 1
    passages: float  # how many they count for: (sum of weights)² / sum of squared weights
    entities: int
    reached: float  # the weighted share of the candidates that got there within LONGEST_S

    def at(self, levels: F64) -> F64:
        """Returns quantiles of the seconds at these levels, between 0 and 1."""
        middle = np.cumsum(self.weight) - self.weight / 2
        return np.interp(levels, middle, self.seconds)


class Passages:
    """The points of a fleet's tracks, found by place. Read only."""

    def __init__(self, ts_ms: I64, lat_deg: F64, lon_deg: F64, begins: NDArray[np.bool_], entity: NDArray[Any]) -> None:
        """Takes pings, one track after the other, each in strictly rising time.

        Args:
            begins: where a track begins.
            entity: a number for the entity of each ping.
        """
        self.lat0, self.lon0 = (float(np.median(one)) if len(one) else 0.0 for one in (lat_deg, lon_deg))
        place = self.metres(np.asarray(lat_deg, np.float64), np.asarray(lon_deg, np.float64))
        track = np.cumsum(begins) - 1
        kept = _thin(ts_ms, place, track)
        ts_ms, place, track, entity = ts_ms[kept], place[kept], track[kept], np.asarray(entity)[kept]
        row, share = _fill_in(ts_ms, place, track)
        then = np.minimum(row + 1, max(len(ts_ms) - 1, 0))
        self.ts_ms = ts_ms[row] + np.rint(share * (ts_ms[then] - ts_ms[row])).astype(np.int64)
        self.en_m = (place[row] + share[:, None] * (place[then] - place[row])).astype(np.float32)
        self.entity = entity[row].astype(np.int32)
        self.is_ping = share == 0  # else it lies on the way between two
        self.track = _split_tracks(ts_ms, place, track)[row].astype(np.int32)
        self.velocity_mps = self._velocities().astype(np.float32)
        cell = _cell(np.floor(self.en_m / CELL_M).astype(np.int64))
        self._order = np.argsort(cell, kind="stable").astype(np.int32)
        self._cells = cell[self._order]

    def __len__(self) -> int:
        """The number of points."""
        return len(self.ts_ms)

    def metres(self, lat_deg: F64 | float, lon_deg: F64 | float) -> F64:
        """Returns places (..., 2) in metres east and north of the middle of the fleet."""
        east = (np.asarray(lon_deg) - self.lon0 + 180.0) % 360.0 - 180.0
        return np.stack([east * M_PER_DEG * cos_lat(np.array(self.lat0)), (lat_deg - self.lat0) * M_PER_DEG], axis=-1)

    def between(
        self,
        start_m: F64,
        end_m: F64,
        radius_m: float,
        velocity_mps: F64,
        ts_ms: int,
        *,
        before_ms: int | None = None,
        without: int | None = None,
    ) -> Like | None:
        """Returns the passages from start_m (2,) to within radius_m of end_m (2,) of an entity that goes on with
        velocity_mps (2,) at ts_ms. None where fewer than MIN_ENTITIES entities are known to have gone there.

        Args:
            before_ms: only passages that had ended then are known.
            without: an entity whose own passages do not count.
        """
        rows = self._near(start_m, NEAR_M)
        if before_ms is not None:
            rows = rows[self.ts_ms[rows] < before_ms]
        if without is not None:
            rows = rows[self.entity[rows] != without]
        if len(rows) > MOST:
            rows = rows[np.argpartition(-self.ts_ms[rows], MOST)[:MOST]]
        there = np.sort(self._near(end_m, max(radius_m, SPACING_M / 2)))
        if not len(rows) or not len(there):
            return None
        arrives = there[np.minimum(np.searchsorted(there, rows), len(there) - 1)]
        seconds = (self.ts_ms[arrives] - self.ts_ms[rows]) / 1000.0
        reached = (arrives >= rows) & (self.track[arrives] == self.track[rows]) & (seconds <= LONGEST_S)
        if before_ms is not None:
            reached &= self.ts_ms[arrives] < before_ms
        weight = self._weights(rows, start_m, velocity_mps, ts_ms)
        entities = len(np.unique(self.entity[rows[reached]]))
        if entities < MIN_ENTITIES:
            return None
        order = np.argsort(seconds[reached], kind="stable")
        one = weight[reached][order]
        total = float(one.sum())
        counted = total**2 / float((one * one).sum())
        return Like(seconds[reached][order], one / total, counted, entities, total / float(weight.sum()))

    def _weights(self, rows: I64, start_m: F64, velocity_mps: F64, ts_ms: int) -> F64:
        off_m = np.linalg.norm(self.en_m[rows] - start_m, axis=-1)
        off_mps = np.linalg.norm(self.velocity_mps[rows] - velocity_mps, axis=-1)
        hours = (self.ts_ms[rows] - ts_ms) % DAY_MS / 3_600_000
        hours = np.minimum(hours, 24 - hours)
        same = _is_weekend(self.ts_ms[rows], self.lon0) == _is_weekend(np.array(ts_ms), self.lon0)
        near = 1 / (1 + (off_m / HALF_M) ** 2)
        alike = 1 / (1 + (off_mps / HALF_MPS) ** 2) ** 2
        timely = 1 / (1 + (hours / HALF_H) ** 2)
        return np.asarray(near * alike * timely * np.where(same, 1.0, OTHER_DAY))

    def _near(self, place_m: F64, radius_m: float) -> I64:
        """Returns the points within radius_m of a place, in any order."""
        low, high = (np.floor((place_m + way * radius_m) / CELL_M).astype(np.int64) for way in (-1, 1))
        columns = np.arange(low[0], high[0] + 1)
        # The cells of a column have consecutive numbers.
        first, last = (_cell(np.stack([columns, np.full(len(columns), row)], axis=-1)) for row in (low[1], high[1]))
        begin, end = np.searchsorted(self._cells, first), np.searchsorted(self._cells, last, side="right")
        rows = np.concatenate([self._order[a:b] for a, b in zip(begin, end, strict=True)]).astype(np.int64)
        off_m = self.en_m[rows] - place_m
        return np.asarray(rows[off_m[:, 0] ** 2 + off_m[:, 1] ** 2 <= radius_m**2])

    def _velocities(self) -> F64:
        """Returns the mean velocity (R, 2) from each point on over AHEAD_S, or to the end of its track."""
        if not len(self.ts_ms):
            return np.empty((0, 2))
        ends = np.flatnonzero(np.append(np.diff(self.track) != 0, True))
        last = np.repeat(ends, np.diff(ends, prepend=-1))
        line_ms = one_line(self.ts_ms, self.track)
        wanted = line_ms + int(1000 * AHEAD_S)
        upper = np.minimum(np.searchsorted(line_ms, wanted), last)
        lower = np.maximum(upper - 1, np.arange(len(line_ms)))
        apart = np.maximum(line_ms[upper] - line_ms[lower], 1)
        part = np.clip((wanted - line_ms[lower]) / apart, 0.0, 1.0)[:, None]
        place = self.en_m[lower] + part * (self.en_m[upper] - self.en_m[lower])
        took_s = np.minimum(wanted, line_ms[upper]) - line_ms
        return np.asarray((place - self.en_m) / np.maximum(took_s / 1000.0, 1.0)[:, None])


def one_line(ts_ms: I64, track: NDArray[Any]) -> I64:
    """Returns times on one rising line, on which tracks lie one after the other, farther apart than AHEAD_S."""
    step = np.diff(ts_ms, prepend=ts_ms[:1])
    begins = np.diff(track, prepend=track[:1]) != 0
    return np.cumsum(np.where(begins, int(10_000 * AHEAD_S), step))


def _thin(ts_ms: I64, place_m: F64, track: I64) -> I64:
    """Returns the rows that are kept: the first of a track, and each that is the first of its minute or its 50 m."""
    if not len(ts_ms):
        return np.empty(0, np.int64)
    begins = np.diff(track, prepend=-1) != 0
    step_m = np.linalg.norm(np.diff(place_m, axis=0, prepend=place_m[:1]), axis=-1)
    way = np.floor(np.cumsum(np.where(begins, 0.0, step_m)) / THIN_M)
    minute = ts_ms // int(1000 * THIN_S)
    ends = np.append(begins[1:], True)
    return np.flatnonzero(begins | ends | (np.diff(way, prepend=-1.0) != 0) | (np.diff(minute, prepend=-1) != 0))


def _fill_in(ts_ms: I64, place_m: F64, track: I64) -> tuple[I64, F64]:
    """Returns points as rows, and shares of the way to the next row."""
    if not len(ts_ms):
        return np.empty(0, np.int64), np.empty(0)
    apart_m = np.linalg.norm(np.diff(place_m, axis=0), axis=-1)
    joined = np.diff(_split_tracks(ts_ms, place_m, track)) == 0
    pieces = np.append(np.where(joined, np.maximum(np.ceil(apart_m / SPACING_M), 1), 1).astype(np.int64), 1)
    row = np.repeat(np.arange(len(pieces)), pieces)
    number = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    return row, number / pieces[row]


def _split_tracks(ts_ms: I64, place_m: F64, track: I64) -> I64:
    """Returns the numbers of tracks that also end at long silences and at jumps."""
    step_s = np.diff(ts_ms, prepend=ts_ms[:1]) / 1000.0
    step_m = np.linalg.norm(np.diff(place_m, axis=0, prepend=place_m[:1]), axis=-1)
    begins = (np.diff(track, prepend=-1) != 0) | (step_s > APART_S) | (step_m > FASTEST_MPS * np.maximum(step_s, 0.0))
    return np.cumsum(begins) - 1


def _is_weekend(ts_ms: NDArray[Any], lon_deg: float) -> NDArray[np.bool_]:
    """Returns whether times fall on a weekend, by the sun's time at a longitude."""
    days = (ts_ms + lon_deg / 360.0 * DAY_MS) // DAY_MS  # 1970-01-01 was a Thursday
    return np.isin((days + 3) % 7, _WEEKEND)


def _cell(xy: I64) -> I64:
    return np.asarray((xy[..., 0] << 28) + xy[..., 1] + (1 << 27))
