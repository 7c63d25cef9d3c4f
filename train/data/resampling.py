"""Tracks as receivers of another cadence would have sent them, with the speed and course that these know.

A receiver knows its velocity better than fixes a minute apart could tell. Few data sets keep it, but a dense track has
it: over the last seconds before each ping that is left of it, so that no later fix is in what is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.kinematics.features import steps_between
from model.kinematics.geo import F64
from train.data.anchors import usable
from train.data.corpus import Corpus

STEP_S: Final = (2.0, 6.0)  # over which a velocity is taken: receivers know it better than two fixes do


def thinned(corpus: Corpus, cadence_s: float) -> Corpus:
    """Pings at least that far apart, each with the velocity that it has on the full track; where enough are left."""
    chosen: list[NDArray[np.int64]] = []
    velocities = []
    for first, last in corpus.tracks:
        fixes = corpus.fixes(slice(first, last))
        rows = apart(np.array(fixes["ts_ms"]), lambda _: cadence_s)
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


def apart(ts_ms: NDArray[np.int64], cadence_s: Callable[[float], float]) -> NDArray[np.int64]:
    """Which pings of a track are kept: the first, and after each the next that is that much later. The cadence may
    depend on how many seconds the track is old.
    """
    rows, at = [], 0
    while at < len(ts_ms):
        rows.append(at)
        least_s = cadence_s((ts_ms[at] - ts_ms[0]) / 1000.0)
        at = int(np.searchsorted(ts_ms, ts_ms[at] + round(1000 * least_s)))
    return np.array(rows)


def _velocity_mps(fixes: NDArray[Any], rows: NDArray[np.int64]) -> F64:
    """East and north over the last STEP_S [N, 2]; NaN where no fix is as old as that, and no older."""
    ts_ms = fixes["ts_ms"]
    before = np.searchsorted(ts_ms, ts_ms[rows] - round(1000 * STEP_S[0]), side="right") - 1
    dt_s, en_m = steps_between(fixes[np.maximum(before, 0)], fixes[rows])
    near = (before >= 0) & (dt_s <= STEP_S[1])
    return np.where(near[:, None], en_m / np.maximum(dt_s, STEP_S[0])[:, None], np.nan)
