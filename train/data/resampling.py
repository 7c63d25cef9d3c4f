"""Resamples tracks to the cadence of other receivers, with the speed and course that these would report.

A receiver measures its velocity better than fixes a minute apart show it. Few data sets contain it, but a dense track
does: it is taken over the last seconds before each remaining ping, so that no later fix influences a reported velocity.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.kinematics.features import steps_between
from model.kinematics.geo import F64
from train.data.anchors import usable
from train.data.corpus import Corpus

STEP_S: Final = (2.0, 6.0)  # interval over which a velocity is taken, at least and at most


def thinned(corpus: Corpus, cadence_s: float) -> Corpus:
    """Returns pings that are at least that far apart, each with its velocity on the full track; only tracks with enough
    pings.
    """
    chosen: list[NDArray[np.int64]] = []
    velocities = []
    for first, last in corpus.tracks:
        fixes = corpus.fixes(slice(first, last))
        rows = _apart(np.array(fixes["ts_ms"]), cadence_s)
        chosen.append(first + rows)
        velocities.append(_velocity_mps(fixes, rows))
    velocity = np.concatenate(velocities)
    heading = np.degrees(np.arctan2(velocity[:, 0], velocity[:, 1])) % 360
    thin = replace(
        corpus.keep(np.concatenate(chosen)),
        speed_mps=np.hypot(*velocity.T).astype(np.float32),
        heading_deg=heading.astype(np.float32),
    )
    return usable(thin)


def _apart(ts_ms: NDArray[np.int64], cadence_s: float) -> NDArray[np.int64]:
    """Returns which pings of a track are kept: the first, and after each one the next that is late enough."""
    rows, at = [], 0
    while at < len(ts_ms):
        rows.append(at)
        at = int(np.searchsorted(ts_ms, ts_ms[at] + round(1000 * cadence_s)))
    return np.array(rows)


def _velocity_mps(fixes: NDArray[Any], rows: NDArray[np.int64]) -> F64:
    """Returns the east and north velocity over the last STEP_S [N, 2]; NaN where no fix has an age in that range."""
    ts_ms = fixes["ts_ms"]
    before = np.searchsorted(ts_ms, ts_ms[rows] - round(1000 * STEP_S[0]), side="right") - 1
    dt_s, en_m = steps_between(fixes[np.maximum(before, 0)], fixes[rows])
    near = (before >= 0) & (dt_s <= STEP_S[1])
    return np.where(near[:, None], en_m / np.maximum(dt_s, STEP_S[0])[:, None], np.nan)
