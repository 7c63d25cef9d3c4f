"""Judges the branches of forecasts: how often passages part, how near the branches come, and what their shares mean.

Letters: A anchors, M branches, H horizons without the next ping.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.atlas.branching import Branches
from model.kinematics.geo import F64, displacement_m
from train.data.anchors import HORIZONS_S, Anchors
from train.data.corpus import Corpus


def judge_branches(corpus: Corpus, anchors: Anchors, parted: Branches, errors_m: F64) -> list[dict[str, Any]]:
    """Returns a row for each horizon at which some anchors have branches: how many of the judged, the mean errors there
    of the forecast, of the likeliest branch and of the nearest one, the mean share of the likeliest, and in which share
    of the cases it was the nearest.

    Args:
        parted: of the anchors (A, M), at their targets.
        errors_m: (A, H) of the forecasts; NaN where an anchor has no target.
    """
    rows = []
    for column, horizon_s in enumerate(HORIZONS_S):
        known = np.isfinite(errors_m[:, column])
        chosen = np.flatnonzero(known & np.isfinite(parted.mean_m[:, 0, column, 0]))
        if not len(chosen):
            continue
        target, here = anchors.target[chosen, column + 1], corpus.fixes(anchors.row[chosen])
        there = corpus.fixes(target)
        went_m = displacement_m(here["lat_e7"], here["lon_e7"], there["lat_e7"], there["lon_e7"])
        off_m = np.hypot(*np.moveaxis(parted.mean_m[chosen, :, column] - went_m[:, None], -1, 0))
        nearest = np.nanargmin(off_m, axis=1)
        rows.append(
            {
                "horizon_s": horizon_s,
                "anchors": len(chosen),
                "of": int(known.sum()),
                "forecast_m": float(errors_m[chosen, column].mean()),
                "likeliest_m": float(off_m[:, 0].mean()),
                "nearest_m": float(np.nanmin(off_m, axis=1).mean()),
                "share": float(parted.share[chosen, 0].mean()),
                "went": float((nearest == 0).mean()),
            }
        )
    return rows
