"""What a Predictor answers with, and what of a state an answer needs. No network.

Shapes: N rows, H horizons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.kinematics import motion
from model.kinematics.geo import F64
from model.serving.kv_cache import Slots


class Forecasts(NamedTuple):
    """N rows by H horizons, all float64."""

    next_dt_s: F64  # N: when the next ping is expected
    next_en_m: F64  # N, 2: how far it will be by then
    next_lat: F64  # N deg
    next_lon: F64
    next_cov_m2: F64  # N, 3: ee, en, nn
    lat: F64  # N, H deg
    lon: F64
    cov_m2: F64  # N, H, 3
    fallback: NDArray[np.bool_]  # N: the model was not finite, the row is damped constant velocity
    next_early_s: F64  # N: the ends of the 90 % interval of when the next ping comes
    next_late_s: F64


class TravelTimes(NamedTuple):
    """N rows, seconds, float64."""

    median_s: F64
    low_s: F64  # of the 90 % interval
    high_s: F64


class Moment(NamedTuple):
    """N states as they were at one moment, as far as forecasts and fills depend on them."""

    kin: F64
    hidden: NDArray[Any]  # as the pool keeps it

    def at(self, rows: Slots) -> Moment:
        """Some of these rows, or some of them again."""
        return Moment(self.kin[rows], self.hidden[rows])

    @classmethod
    def joined(cls, moments: Sequence[Moment]) -> Moment:
        """At least one; without a copy if it is one."""
        if len(moments) == 1:
            return moments[0]
        return cls(np.concatenate([one.kin for one in moments]), np.concatenate([one.hidden for one in moments]))


def checked_horizons(horizons_s: Sequence[float] | F64, rows: int) -> F64:
    """Checked."""
    horizons = np.asarray(horizons_s, dtype=np.float64)
    if horizons.shape[:-1] not in ((), (rows,)):
        raise ValueError(f"horizons must have the shape H or N={rows}, H, got {horizons.shape}")
    if not bool((horizons > 0).all()) or not bool(np.isfinite(horizons).all()):
        raise ValueError(f"horizons must be positive seconds, got {horizons_s}")
    return horizons


def replaced(mean: F64, cov: F64, plain: motion.Law, rows: NDArray[np.bool_]) -> tuple[F64, F64]:
    """mean and cov with some rows taken from the physics instead."""
    if not rows.any():
        return mean, cov
    zero = np.zeros_like(plain.var_m2)
    plain_cov = np.stack([plain.var_m2, zero, plain.var_m2], axis=-1)
    chosen = rows[:, None, None]
    return np.where(chosen, plain.mean_en, mean), np.where(chosen, plain_cov, cov)
