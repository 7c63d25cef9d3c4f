"""A gap as the stream hands it over, and its two ends as the physics needs them. Knows fixes; knows no weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.features import steps_between
from model.geo import F64
from model.heads import MAX_GAP_AGE
from model.queries import GapEnds


class Gap(NamedTuple):
    """The fixes on both sides, oldest first, and the times in between that are asked for."""

    before: NDArray[Any]  # FIX [1..4], ending at the gap's start
    after: NDArray[Any]  # FIX [1..4], from the gap's end on
    times_ms: NDArray[np.int64]  # M


class Fill(NamedTuple):
    """Positions at the asked times. `method` is "model", or "hermite" where the model was not finite."""

    lat: F64
    lon: F64
    cov_m2: F64  # M, 3: ee, en, nn
    method: str


class Batch(NamedTuple):
    """Gaps as arrays, the times padded to the longest row."""

    ends: GapEnds
    t_s: F64  # N, M seconds from the gap's start
    fixes_after: F64  # N
    start_lat: F64  # N deg
    start_lon: F64


def stack(gaps: Sequence[Gap]) -> Batch:
    """Raises ValueError for gaps without ends, with their ends in the wrong order, or with times outside."""
    for gap in gaps:
        if not len(gap.before) or not len(gap.after):
            raise ValueError("a gap needs at least one fix on each side")
        start, end = int(gap.before["ts_ms"][-1]), int(gap.after["ts_ms"][0])
        times = np.asarray(gap.times_ms)
        if end <= start or (len(times) and (times.min() < start or times.max() > end)):
            raise ValueError(f"asked times must lie inside the gap {start}..{end} ms, which must not be empty")
    start_fix = np.array([gap.before[-1] for gap in gaps])
    end_fix = np.array([gap.after[0] for gap in gaps])
    gap_s, chord = steps_between(start_fix, end_fix)
    before, has_before = _velocity([gap.before[-2:] for gap in gaps], chord / gap_s[:, None])
    after, has_after = _velocity([gap.after[:2] for gap in gaps], chord / gap_s[:, None])
    t_s = np.zeros((len(gaps), max((len(gap.times_ms) for gap in gaps), default=0)))
    for row, gap, start in zip(t_s, gaps, start_fix["ts_ms"], strict=True):
        row[: len(gap.times_ms)] = (np.asarray(gap.times_ms, dtype=np.int64) - start) / 1000.0
    return Batch(
        GapEnds(chord, gap_s, before, after, has_before, has_after),
        t_s,
        np.array([min(len(gap.after), MAX_GAP_AGE) for gap in gaps], dtype=np.float64),
        start_fix["lat_e7"] / 1e7,
        start_fix["lon_e7"] / 1e7,
    )


def _velocity(pairs: list[NDArray[Any]], chord_mps: F64) -> tuple[F64, F64]:
    """Velocity of each pair's step; the chord's where a side has but one fix."""
    known = np.array([len(pair) == 2 for pair in pairs])
    dt, d = steps_between(np.array([p[0] for p in pairs]), np.array([p[-1] for p in pairs]))
    known &= dt > 0
    velocity = d / np.where(known, dt, 1.0)[:, None]
    return np.where(known[:, None], velocity, chord_mps), known.astype(np.float64)
