"""Forecasters without weights that follow a thing ping by ping. Each ping reaches them as a displacement and an
interval, so they need no degrees.

The forecasts in `baselines.FORECASTS` need one kinematic row; these filters may remember more. The state of a filter is
an array [N, S], so that a rollout can hold any of them, and one state may give forecasts under several names.

Shapes: N things, S numbers of a state, H questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np

from model.config import ModelConfig
from model.kinematics import motion
from model.kinematics.baselines import FORECASTS
from model.kinematics.geo import F64
from model.kinematics.motion import Law

# fixes behind the window velocity: at one ping per minute five minutes, about as long as a street
WINDOW_FIXES: Final = 5
_STEPS: Final = WINDOW_FIXES - 1

WINDOW: Final = "window_velocity"
KALMAN: Final = "kalman"
FITTED: Final = "kalman_fitted"  # fitted to the lowest CRPS
NEAREST: Final = "kalman_nearest"  # fitted to the lowest mean error


class Gaussians(NamedTuple):
    """Gaussian distributions of the next fix's position, relative to the last fix."""

    mean_en: F64  # [N, H, 2] m
    cov_m2: F64  # [N, H, 3] ee, en, nn


class Follower(Protocol):
    """The interface of a filter. `fold` and `after` do not change their arguments."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the forecasts that `after` returns."""
        ...

    def fresh(self, rows: int) -> F64:
        """Returns the states [N, S] after each thing's first fix."""
        ...

    def fold(self, state: F64, dt_s: F64, d_en: F64) -> F64:
        """Returns the states after one more fix, d_en [N, 2] metres and dt_s [N] seconds after the last one."""
        ...

    def after(self, state: F64, dt_s: F64) -> dict[str, Gaussians]:
        """Returns the forecasts for dt_s [N, H] seconds after the last fix."""
        ...


@dataclass(frozen=True)
class Kinematic:
    """All of `baselines.FORECASTS`, and the velocity over the last five fixes. The state is one kinematic row and four
    steps.
    """

    config: ModelConfig

    @property
    def names(self) -> tuple[str, ...]:
        return (*FORECASTS, WINDOW)

    def fresh(self, rows: int) -> F64:
        return np.concatenate([motion.fresh(self.config, (rows,)), np.zeros((rows, 3 * _STEPS))], axis=1)

    def fold(self, state: F64, dt_s: F64, d_en: F64) -> F64:
        kin, steps = state[:, : motion.WIDTH], state[:, motion.WIDTH :]
        folded = motion.fold(kin, dt_s, d_en, self.config)
        return np.concatenate([folded, dt_s[:, None], d_en, steps[:, :-3]], axis=1)

    def after(self, state: F64, dt_s: F64) -> dict[str, Gaussians]:
        kin, steps = state[:, : motion.WIDTH], state[:, motion.WIDTH :].reshape(-1, _STEPS, 3)
        out = {name: _round(forecast(kin, dt_s, self.config)) for name, forecast in FORECASTS.items()}
        mean = line_velocity(steps[..., 0], steps[..., 1:])[:, None] * dt_s[..., None]
        out[WINDOW] = _round(Law(mean, motion.after(kin, dt_s, self.config).var_m2))
        return out


@dataclass(frozen=True)
class FittedKalman:
    """The filter of model.kinematics.motion with noise parameters that are fitted to the data set, not those of the
    network.
    """

    config: ModelConfig
    name: str = FITTED

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def fresh(self, rows: int) -> F64:
        return motion.fresh(self.config, (rows,))

    def fold(self, state: F64, dt_s: F64, d_en: F64) -> F64:
        return motion.fold(state, dt_s, d_en, self.config)

    def after(self, state: F64, dt_s: F64) -> dict[str, Gaussians]:
        return {self.name: _round(motion.after(state, dt_s, self.config))}


def line_velocity(dt_s: F64, d_en: F64) -> F64:
    """Returns the slope [N, 2] of the straight line in time that fits the fixes best by least squares; 0 where there is
    only one fix.

    dt_s [N, J] and d_en [N, J, 2] are the last J steps, newest first; an interval of 0 means that there was no such
    step.
    """
    was = dt_s > 0
    known = np.concatenate([np.ones((len(dt_s), 1)), was], axis=1)[..., None]
    at_s = _from_last(np.where(was, dt_s, 0.0)[..., None])
    at_m = _from_last(np.where(was[..., None], d_en, 0.0))
    count = known.sum(axis=1, keepdims=True)
    from_mean_s = known * (at_s - (known * at_s).sum(axis=1, keepdims=True) / count)
    square = (from_mean_s * from_mean_s).sum(axis=1)
    return np.asarray((from_mean_s * at_m).sum(axis=1) / np.where(square > 0, square, 1.0))


def _from_last(steps: F64) -> F64:
    """Turns steps [N, J, X], newest first, into positions [N, J + 1, X] relative to the last fix."""
    return np.concatenate([np.zeros_like(steps[:, :1]), -np.cumsum(steps, axis=1)], axis=1)


def _round(law: Law) -> Gaussians:
    return Gaussians(law.mean_en, np.stack([law.var_m2, np.zeros_like(law.var_m2), law.var_m2], axis=-1))
