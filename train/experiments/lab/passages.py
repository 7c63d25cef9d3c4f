"""Finds how earlier tracks of a fleet went from one place to another: what could be known of the way between two ends.

A passage is a piece of one track that begins near the one place and comes near the other. Between two pings it is a
straight line.

Shapes: R rows of all tracks, one after the other, C candidates of one question, S shares of its time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas.outcomes import MAX_APART_MS, one_line
from model.kinematics.geo import F64, M_PER_DEG, cos_lat, displacement_m, to_e7
from train.data.corpus import Corpus
from train.evaluation.gap_fills import Hidden

NEAR_M: Final = 200.0  # about two blocks
MOST: Final = 200  # candidates for one question, the newest
SPEEDS: Final = np.geomspace(0.5, 2.0, 21)  # how many times as long as the question's time a passage may take
CUT_MS: Final = 86_400_000  # what is known is what was known at the last multiple of this time
MIN_ENTITIES: Final = 3  # whose passages must be known, as of a cell that an atlas publishes
I64 = NDArray[np.int64]


class Passages(NamedTuple):
    """The passages between the ends of one question."""

    bow_m: F64  # (C, S, 2) east and north of the straight line between the passage's own ends
    entity: NDArray[np.int32]  # (C,)


class Fleet:
    """All pings of a fleet, found by place."""

    def __init__(self, fleet: Corpus) -> None:
        length = fleet.tracks[:, 1] - fleet.tracks[:, 0]
        rows = np.concatenate([np.arange(first, stop) for first, stop in fleet.tracks])
        starts = np.cumsum(length) - length
        self._ts_ms = np.asarray(fleet.ts_ms[rows])
        self._line_ms = one_line(self._ts_ms, starts)
        self._track = np.repeat(np.arange(len(length)), length)
        self._entity = fleet.entity
        self._origin = float(np.median(fleet.lat[rows])), float(np.median(fleet.lon[rows]))
        self._en_m = self.metres(np.asarray(fleet.lat[rows]), np.asarray(fleet.lon[rows]))
        cell = _cell(*np.floor(self._en_m / NEAR_M).astype(np.int64).T)
        self._order = np.argsort(cell, kind="stable")
        self._cells = cell[self._order]

    def metres(self, lat: F64, lon: F64) -> F64:
        """Returns places (..., 2) in metres east and north of the middle of the fleet."""
        lat0, lon0 = self._origin
        return np.stack([(lon - lon0) * M_PER_DEG * cos_lat(np.array(lat0)), (lat - lat0) * M_PER_DEG], axis=-1)

    def between(self, start_m: F64, end_m: F64, took_s: float, before_ms: int, share: F64) -> Passages:
        """Returns the passages from start_m to end_m (2,) that ended before `before_ms` and took about `took_s`, at the
        shares (S,) of their time.
        """
        rows = self._near(start_m)
        rows = rows[self._ts_ms[rows] < before_ms]
        rows = rows[np.argsort(self._ts_ms[rows], kind="stable")][-MOST:]
        took_ms = 1000.0 * took_s * SPEEDS
        after_m = self._at(rows, np.broadcast_to(took_ms, (len(rows), len(SPEEDS))), before_ms)
        off_m = np.linalg.norm(after_m - end_m, axis=-1)
        off_m = np.where(np.isnan(off_m), np.inf, off_m)
        best = np.argmin(off_m, axis=1)
        good = off_m[np.arange(len(rows)), best] < NEAR_M
        rows, best = rows[good], best[good]
        begin_m, stop_m = self._en_m[rows][:, None], after_m[good, best][:, None]
        way_m = self._at(rows, took_ms[best][:, None] * share, before_ms)
        straight_m = begin_m + (stop_m - begin_m) * share[:, None]
        return Passages(way_m - straight_m, self._entity[self._track[rows]])

    def _near(self, place_m: F64) -> I64:
        """Returns the rows within NEAR_M of a place."""
        x, y = np.floor(place_m / NEAR_M).astype(np.int64)
        wanted = np.array([_cell(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
        low, high = np.searchsorted(self._cells, wanted), np.searchsorted(self._cells, wanted, side="right")
        rows = np.concatenate([self._order[a:b] for a, b in zip(low, high, strict=True)])
        return np.asarray(rows[np.linalg.norm(self._en_m[rows] - place_m, axis=-1) < NEAR_M])

    def _at(self, rows: I64, later_ms: F64, before_ms: int) -> F64:
        """Returns where the tracks of rows (C,) were so much later (C, S): NaN where that is not known, or not yet."""
        time = self._line_ms[rows][:, None] + later_ms
        upper = np.minimum(np.searchsorted(self._line_ms, time), len(self._line_ms) - 1)
        lower = np.maximum(upper - 1, 0)
        apart = np.maximum(self._line_ms[upper] - self._line_ms[lower], 1)
        part = (time - self._line_ms[lower]) / apart
        place = self._en_m[lower] + (self._en_m[upper] - self._en_m[lower]) * part[..., None]
        known = (self._track[upper] == self._track[rows][:, None]) & (self._ts_ms[upper] < before_ms)
        return np.where((known & (apart <= MAX_APART_MS))[..., None], place, np.nan)


@dataclass(frozen=True)
class Gaps:
    """Gaps of one length, G, and their hidden pings, P, in metres from the fix before their gap."""

    hidden: Hidden
    row: NDArray[np.int64]  # (P,)
    gap: NDArray[np.int64]  # (P,) index of its gap
    share: F64  # (P,) of the gap's time
    chord_m: F64  # (G, 2)
    took_s: F64  # (G,)
    cut_ms: NDArray[np.int64]  # (G,) what is older is known

    @classmethod
    def of(cls, corpus: Corpus, hidden: Hidden) -> Gaps:
        counts = hidden.after - hidden.before - 1
        gap = np.repeat(np.arange(len(counts)), counts)
        row = np.concatenate([np.arange(a + 1, b) for a, b in zip(hidden.before, hidden.after, strict=True)])
        begin_ms, end_ms = np.asarray(corpus.ts_ms[hidden.before]), np.asarray(corpus.ts_ms[hidden.after])
        share = (corpus.ts_ms[row] - begin_ms[gap]) / (end_ms - begin_ms)[gap]
        chord = metres_from(corpus, hidden.before, corpus.lat[hidden.after], corpus.lon[hidden.after])
        took_s = (end_ms - begin_ms) / 1000.0
        return cls(hidden, row, gap, np.asarray(share), chord, took_s, begin_ms // CUT_MS * CUT_MS)

    @property
    def straight_m(self) -> F64:
        return self.share[:, None] * self.chord_m[self.gap]


def from_passages(fleet: Fleet, corpus: Corpus, gaps: Gaps) -> tuple[F64, F64]:
    """Returns the mean way of earlier passages beside the straight line (P, 2), and how many they are (P,): 0 where
    there are those of fewer than MIN_ENTITIES entities.
    """
    bow, count = np.zeros((len(gaps.gap), 2)), np.zeros(len(gaps.gap))
    ends = [fleet.metres(corpus.lat[rows], corpus.lon[rows]) for rows in (gaps.hidden.before, gaps.hidden.after)]
    for number, (start_m, end_m) in enumerate(zip(*ends, strict=True)):
        mine = np.flatnonzero(gaps.gap == number)
        cut_ms, took_s = int(gaps.cut_ms[number]), float(gaps.took_s[number])
        found = fleet.between(start_m, end_m, took_s, cut_ms, gaps.share[mine])
        known = np.isfinite(found.bow_m).all(axis=(1, 2))
        if len(np.unique(found.entity[known])) >= MIN_ENTITIES:
            bow[mine], count[mine] = found.bow_m[known].mean(0), known.sum()
    return bow, count


def metres_from(corpus: Corpus, row: NDArray[np.int64], lat: F64, lon: F64) -> F64:
    """Returns places (N,) in metres from the fixes of these rows (N,)."""
    fixes = corpus.fixes(row)
    return displacement_m(fixes["lat_e7"], fixes["lon_e7"], to_e7(lat), to_e7(lon))


def _cell(x: I64, y: I64) -> I64:
    return (x << 24) + y
