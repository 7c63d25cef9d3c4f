"""Moves forecasts by what an atlas has seen where they were made.

Shapes: N rows, Q questions of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.atlas import estimate
from model.atlas.atlas import Atlas
from model.atlas.cells import keys
from model.atlas.outcomes import MAX_APART_MS, expected_m
from model.kinematics import motion
from model.kinematics.geo import F64

I64 = NDArray[np.int64]


def move(mean: F64, cov: F64, kin: F64, last: NDArray[Any], dt_s: F64, atlases: Sequence[Atlas], which: I64) -> I64:
    """Moves means [N, Q, 2] and covariances [N, Q, 3], in place, by the atlas of each row: an index `which` [N] into
    `atlases`, or -1 for none. Returns how many outcomes [N] each row's forecast rests on; a row with 0 is not changed.
    """
    pings = np.zeros(len(mean), np.int64)
    moving = (kin[:, motion.DT] > 0) & (kin[:, motion.DT] * 1000 <= MAX_APART_MS)
    for number, atlas in enumerate(atlases):
        rows = np.flatnonzero((which == number) & moving)
        if not len(rows) or not len(atlas.sums):
            continue
        velocity, var = motion.last_mps(kin[rows]), cov[rows][..., [0, 2]].mean(-1)
        here = keys(last["lat_e7"][rows], last["lon_e7"][rows], velocity)
        found = estimate.read(atlas.sums, here, dt_s[rows], var)
        share, both = estimate.share(found, var)
        counted = expected_m(velocity, dt_s[rows]) + found.off_m
        seen = found.n[..., 0].max(axis=1).astype(np.int64)
        known = seen > 0
        rows, share, ratio = rows[known], share[known][..., None], (both / var)[known][..., None]
        mean[rows] += share * (counted[known] - mean[rows])
        cov[rows] *= ratio
        pings[rows] = seen[known]
    return pings
