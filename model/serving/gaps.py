"""Gaps as `stream` passes them in, and their two ends as the physics needs them. No weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.kinematics.answer_bounds import MAX_GAP_AGE
from model.kinematics.features import FIX
from model.kinematics.geo import E7, F64
from model.kinematics.queries import GapEnds
from model.serving import gapfill_compiled


class Gap(NamedTuple):
    """The fixes on both sides of a gap, oldest first, and the asked times inside it."""

    before: NDArray[Any]  # FIX [1..4], ending at the gap's start
    after: NDArray[Any]  # FIX [1..4], from the gap's end on
    times_ms: NDArray[np.int64]  # M


class Fill(NamedTuple):
    """Positions at the asked times. `method` is "model", or "hermite" where the model's numbers were not finite.
    `atlas_pings` is how many passages of an atlas it rests on; 0: it is the model's alone.
    """

    lat: F64
    lon: F64
    cov_m2: F64  # M, 3: ee, en, nn
    method: str
    atlas_pings: int = 0


class Batch(NamedTuple):
    """N gaps and their P asked times, concatenated."""

    ends: GapEnds
    fixes_after: F64  # N
    start_lat: F64  # N deg
    start_lon: F64
    of: NDArray[np.int64]  # P: the gap of each time
    t_s: F64  # P seconds from that gap's start
    before: NDArray[Any]  # FIX: the fixes before all gaps
    before_stop: NDArray[np.int64]  # N: those of each gap end before this row

    def pad(self) -> tuple[F64, NDArray[np.bool_]]:
        """Returns t_s by gap, [N, M] as wide as the gap with the most times, and which of these were asked for; the
        others are 0.
        """
        counts = np.bincount(self.of, minlength=len(self.fixes_after))
        asked = np.arange(counts.max(initial=0)) < counts[:, None]
        t_s = np.zeros(asked.shape)
        t_s[asked] = self.t_s
        return t_s, asked


def stack(gaps: Sequence[Gap], doubt: F64 | None = None) -> Batch:
    """Joins gaps [N] into a batch. `doubt` [N] is `motion.doubt` of their reported velocities; without it, a report is
    believed unless the steps contradict it.

    Raises ValueError for gaps without a fix on each side, with their ends in the wrong order, or with times outside.
    """
    if not all(len(gap.before) and len(gap.after) for gap in gaps):
        raise ValueError("a gap needs at least one fix on each side")
    start, end = _each([gap.before[-1:] for gap in gaps]), _each([gap.after[:1] for gap in gaps])
    of = np.repeat(np.arange(len(gaps)), [len(gap.times_ms) for gap in gaps])
    times_ms = np.concatenate([np.asarray(gap.times_ms, np.int64) for gap in gaps])
    outside = (times_ms < start["ts_ms"][of]) | (times_ms > end["ts_ms"][of])
    for row in (*np.flatnonzero(start["ts_ms"] >= end["ts_ms"])[:1], *of[outside][:1]):
        span = f"{start['ts_ms'][row]}..{end['ts_ms'][row]} ms"
        raise ValueError(f"asked times must lie inside the gap {span}, which must not be empty")
    before, after = ((_each(side), _stops(side)) for side in zip(*(gap[:2] for gap in gaps), strict=True))
    return Batch(
        gapfill_compiled.ends(*before, *after, np.zeros(len(gaps)) if doubt is None else doubt),
        np.minimum([len(gap.after) for gap in gaps], MAX_GAP_AGE).astype(np.float64),
        start["lat_e7"] / E7,
        start["lon_e7"] / E7,
        of,
        (times_ms - start["ts_ms"][of]) / 1000.0,
        *before,
    )


def _each(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Returns parts of packed fixes as one array. They are joined as bytes, because numpy copies records field by
    field.
    """
    return np.frombuffer(b"".join(part.tobytes() for part in parts), FIX)


def _stops(parts: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """Returns where each part ends in the joined array."""
    return np.cumsum([len(part) for part in parts], dtype=np.int64)
