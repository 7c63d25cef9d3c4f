"""Reads an atlas: what became of earlier pings here that moved like this one.

It reads from the largest cells to the smallest. Each level's mean is shrunk to what the larger levels gave, as if that
had been seen PRIOR times. The first is shrunk to no difference from physics (`read`), or to another forecast
(`levels`).

Shapes: N pings, Q questions of each, L levels, H horizons of the sums.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas.cells import LEVELS, Keys
from model.atlas.outcomes import CM_PER_M, HORIZONS_S
from model.atlas.published import UNIT, Published
from model.atlas.sums import find
from model.kinematics.geo import F64

PRIOR: Final = 2.0
MIN_SIGMA_M: Final = 1.0


class Estimate(NamedTuple):
    """Holds what an atlas expects of N pings at the times that are asked for."""

    off_m: F64  # [N, Q, 2] east and north, to be added to what physics expects
    var_m2: F64  # [N, Q] variance per axis of what happens around it
    n: F64  # [N, Q, L] outcomes that it is made of, at each level


class Levels(NamedTuple):
    """Holds what an atlas expects of N pings at each level, shrunk to the level above."""

    off_m: F64  # [N, Q, L, 2] east and north, to be added to what physics expects
    var_m2: F64  # [N, Q, L] variance per axis of what happens around it
    n: F64  # [N, Q, L] outcomes


def read(atlas: Published, keys: Keys, dt_s: F64, var_m2: F64) -> Estimate:
    """Returns the estimates for keys [N, L] and dt_s [N, Q] seconds ahead, for which physics has the variances var_m2
    [N, Q] per axis.
    """
    found = levels(atlas, keys, dt_s, np.zeros((*dt_s.shape, 2)), var_m2)
    return Estimate(found.off_m[..., -1, :], found.var_m2[..., -1], found.n)


def levels(atlas: Published, keys: Keys, dt_s: F64, prior_m: F64, var_m2: F64) -> Levels:
    """Returns the estimates of each level for keys [N, L] and dt_s [N, Q] seconds ahead. The largest cells are shrunk
    to another forecast: by prior_m [N, Q, 2] from what physics expects, with variances var_m2 [N, Q] per axis.
    """
    row, here = find(atlas.key, keys)

    def found(column: NDArray[Any], unit: float) -> F64:
        out = np.zeros((*keys.shape, *column.shape[1:]))
        out[here] = column[row[here]] / unit
        return _between(out, dt_s)  # [N, L, Q, ...]

    count, mean, spread = found(atlas.n, UNIT), found(atlas.off_cm, CM_PER_M), found(atlas.off_cm2, CM_PER_M**2)
    # Before the first horizon, what is off grows as by an acceleration: a velocity is hardly wrong after some seconds.
    # Mean squares grow no faster than that, as each has the error of two receivers: 90 % regions hold 90 % at 6 s then.
    near = np.minimum(dt_s / HORIZONS_S[0], 1.0)[:, None] ** 2
    mean, spread = mean * near[..., None], spread * near
    n, q = dt_s.shape
    out = Levels(np.empty((n, q, LEVELS, 2)), np.empty((n, q, LEVELS)), np.moveaxis(count, 1, 2))
    off, length2 = prior_m, 2 * var_m2 + (prior_m * prior_m).sum(-1)  # the mean of the squared lengths
    for level in range(LEVELS):
        weight = count[:, level] + PRIOR
        off = (mean[:, level] + PRIOR * off) / weight[..., None]
        length2 = (spread[:, level] + PRIOR * length2) / weight
        var = np.maximum(length2 - (off * off).sum(-1), 0.0) / 2
        out.off_m[..., level, :], out.var_m2[..., level] = off, np.maximum(var, MIN_SIGMA_M**2)
    return out


def _between(values: F64, dt_s: F64) -> F64:
    """Interpolates values [N, L, H, ...] from the horizons to dt_s [N, Q]: [N, L, Q, ...]. Before the first horizon and
    after the last one they are those of that horizon.
    """
    known = np.array(HORIZONS_S)
    upper = np.clip(np.searchsorted(known, dt_s), 1, len(known) - 1)
    share = np.clip((dt_s - known[upper - 1]) / (known[upper] - known[upper - 1]), 0.0, 1.0)
    rows, levels = np.arange(len(values))[:, None, None], np.arange(values.shape[1])[None, :, None]
    low, high = values[rows, levels, upper[:, None] - 1], values[rows, levels, upper[:, None]]
    share = share[:, None].reshape(len(values), 1, -1, *([1] * (values.ndim - 3)))
    return np.asarray(low * (1 - share) + high * share)
