"""The types of a Predictor's answers, and the part of a state that an answer needs. No network.

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

    next_dt_s: F64  # N: seconds until the next ping is expected
    next_en_m: F64  # N, 2: its displacement by then
    next_lat: F64  # N deg
    next_lon: F64
    next_cov_m2: F64  # N, 3: ee, en, nn
    lat: F64  # N, H deg
    lon: F64
    cov_m2: F64  # N, H, 3
    fallback: NDArray[np.bool_]  # N: the model's numbers were not finite, and the row is damped constant velocity
    next_early_s: F64  # N: the ends of the 90 % interval of the time until the next ping
    next_late_s: F64


class TravelTimes(NamedTuple):
    """N rows, seconds, float64."""

    median_s: F64
    low_s: F64  # the ends of the 90 % interval
    high_s: F64


class Moment(NamedTuple):
    """The parts of N states at one moment that forecasts and fills depend on."""

    kin: F64
    hidden: NDArray[Any]  # in the dtype of the pool

    def at(self, rows: Slots) -> Moment:
        """Returns the given rows; a row may be given several times."""
        return Moment(self.kin[rows], self.hidden[rows])

    @classmethod
    def joined(cls, moments: Sequence[Moment]) -> Moment:
        """Concatenates one or more moments; a single one is not copied."""
        if len(moments) == 1:
            return moments[0]
        return cls(np.concatenate([one.kin for one in moments]), np.concatenate([one.hidden for one in moments]))


def checked_horizons(horizons_s: Sequence[float] | F64, rows: int) -> F64:
    """Returns the horizons as an array. Raises ValueError unless they are positive, finite and of shape H or N, H."""
    horizons = np.asarray(horizons_s, dtype=np.float64)
    if horizons.shape[:-1] not in ((), (rows,)):
        raise ValueError(f"horizons must have the shape H or N={rows}, H, got {horizons.shape}")
    if not bool((horizons > 0).all()) or not bool(np.isfinite(horizons).all()):
        raise ValueError(f"horizons must be positive seconds, got {horizons_s}")
    return horizons


def replaced(mean: F64, cov: F64, plain: motion.Law, rows: NDArray[np.bool_]) -> tuple[F64, F64]:
    """Returns mean and cov with the given rows taken from the physics."""
    if not rows.any():
        return mean, cov
    zero = np.zeros_like(plain.var_m2)
    plain_cov = np.stack([plain.var_m2, zero, plain.var_m2], axis=-1)
    chosen = rows[:, None, None]
    return np.where(chosen, plain.mean_en, mean), np.where(chosen, plain_cov, cov)
