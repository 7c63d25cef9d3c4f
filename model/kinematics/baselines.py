"""Baseline forecasts and gap fills without weights, for batches. All forecasts have one signature, and so have all gap
fills, so that a table can loop over them.

forecast(kin [N, K], dt_s [N, H], config)  -> Law: mean [N, H, 2] m from the last fix, variance per axis [N, H] m²
bridge(chord_en, gap_s, before_mps, after_mps, t_s [..., Q]) -> positions [..., Q, 2] m from the fix before the gap

`kinematics` turns windows of fixes into the rows that the forecasts read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.kinematics import motion as m
from model.kinematics.features import FIX, context, mean_reported_mps, steps_between
from model.kinematics.geo import F64
from model.kinematics.motion import Law

Forecast = Callable[[F64, F64, ModelConfig], Law]
Bridge = Callable[[F64, F64, F64, F64, F64], F64]


def stay(kin: F64, dt_s: F64, config: ModelConfig) -> Law:
    """The thing stays at its last fix. The variance is that of travel at its recent speed in an unknown direction."""
    zero = np.zeros((*dt_s.shape, 2))
    scale = m.speed_scale_mps(kin)[..., None]
    return Law(zero, config.fix_sigma_m**2 + (scale * m.damped_s(dt_s, config.damping_s)) ** 2 / 2)


def constant_velocity(kin: F64, dt_s: F64, config: ModelConfig) -> Law:
    """The thing continues with the velocity between its last two fixes."""
    return Law(m.last_mps(kin)[..., None, :] * dt_s[..., None], m.after(kin, dt_s, config).var_m2)


def damped_velocity(kin: F64, dt_s: F64, config: ModelConfig) -> Law:
    """The same, but the velocity decays with the time constant `damping_s`."""
    lag = m.damped_s(dt_s, config.damping_s)
    return Law(m.last_mps(kin)[..., None, :] * lag[..., None], m.after(kin, dt_s, config).var_m2)


def kalman(kin: F64, dt_s: F64, config: ModelConfig) -> Law:
    """The forecast of the filter of model.kinematics.motion, to which the network adds its residual."""
    return m.after(kin, dt_s, config)


def linear(chord_en: F64, gap_s: F64, before_mps: F64, after_mps: F64, t_s: F64) -> F64:
    """A straight line across the gap at constant speed."""
    return (t_s / gap_s[..., None])[..., None] * chord_en[..., None, :]


def hermite(chord_en: F64, gap_s: F64, before_mps: F64, after_mps: F64, t_s: F64) -> F64:
    """The cubic curve that starts with the velocity of the last step before the gap and ends with that of the first
    step after it.
    """
    u = (t_s / gap_s[..., None])[..., None]
    leave, arrive = (v[..., None, :] * gap_s[..., None, None] for v in (before_mps, after_mps))
    return np.asarray(
        u * u * (3 - 2 * u) * chord_en[..., None, :] + u * (1 - u) ** 2 * leave - u * u * (1 - u) * arrive
    )


FORECASTS: Final[Mapping[str, Forecast]] = {
    "stay": stay,
    "constant_velocity": constant_velocity,
    "damped_velocity": damped_velocity,
    "kalman": kalman,
}
BRIDGES: Final[Mapping[str, Bridge]] = {"linear": linear, "hermite": hermite}


def kinematics(windows: Sequence[NDArray[Any]], config: ModelConfig) -> F64:
    """Returns the kinematic rows [N, K] after each whole window of FIX records (ragged, oldest first, at least one fix
    each).
    """
    padded, lengths = pad(windows)
    rows = scan_fixes(padded, config)
    return np.asarray(rows[np.arange(len(lengths)), lengths - 1])


def scan_fixes(fixes_NT: NDArray[Any], config: ModelConfig) -> F64:
    """Returns the kinematic rows after each fix of padded windows, [N, T, K]."""
    dt, d = steps_between(fixes_NT[:, :-1], fixes_NT[:, 1:])
    dt = np.concatenate([np.zeros((len(dt), 1)), dt], axis=1)
    d = np.concatenate([np.zeros((len(d), 1, 2)), d], axis=1)
    return m.scan(dt, d, config, mean_reported_mps(context(fixes_NT), d))


def pad(windows: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Returns the windows as one array [N, T], each padded with copies of its last fix, and their lengths [N]."""
    lengths = np.array([len(w) for w in windows], dtype=np.int64)
    if not len(lengths) or lengths.min() < 1:
        raise ValueError("every window needs at least one fix")
    out = np.empty((len(windows), int(lengths.max())), dtype=FIX)
    for row, window in zip(out, windows, strict=True):
        row[: len(window)] = window
        row[len(window) :] = window[-1]
    return out, lengths
