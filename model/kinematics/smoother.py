"""The Rauch-Tung-Striebel smoother across gaps: the filter of model.kinematics.motion, followed by a backward pass.

Rauch, Tung & Striebel, "Maximum Likelihood Estimates of Linear Dynamic Systems", AIAA Journal 3(8), 1965. The filter
arrives at the gap's start with its whole history and continues over the fixes after the gap; the backward pass then
gives each asked time the information of those fixes. East and north are independent and alike, so one 2x2 covariance
serves both.

Shapes: N gaps, A fixes after, M asked times, ... any batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.kinematics import motion as m
from model.kinematics.baselines import pad
from model.kinematics.features import steps_between
from model.kinematics.geo import F64
from model.kinematics.motion import Law


class Axis(NamedTuple):
    """Position and velocity on both axes, and the covariance that each axis has."""

    at_en: F64  # [..., 2] m from the fix before the gap
    v_en: F64  # [..., 2] m/s
    pp: F64  # [...] m²
    pv: F64  # [...] m²/s
    vv: F64  # [...] m²/s²


def rts(kin: F64, before: NDArray[Any], after: Sequence[NDArray[Any]], t_s: F64, config: ModelConfig) -> Law:
    """Returns the positions at t_s [N, M] seconds into gaps, in metres from the fix before the gap, with their variance
    per axis.

    kin [N, K] is the kinematic row at the fix before the gap; `before` [N] is that fix. `after` holds the fixes from
    the gap's end on, at least one each, oldest first. The variance is that of a fix at this time, receiver noise
    included.
    """
    fixes, known = pad(after)
    end_s, _ = steps_between(before, fixes[:, 0])
    start = Axis(kin[:, m.X_E : m.X_N + 1], kin[:, m.V_E : m.V_N + 1], kin[:, m.PP], kin[:, m.PV], kin[:, m.VV])
    end = _smooth_end(start, before, fixes, known, config)
    wide = Axis(*(part[:, None] for part in start))
    inside = _predict(wide, t_s, config)
    found = _correct(inside, Axis(*(part[:, None] for part in end)), np.maximum(end_s[:, None] - t_s, 0.0), config)
    return Law(found.at_en, np.maximum(found.pp, 0.0) + config.fix_sigma_m**2)


def _smooth_end(
    start: Axis, before: NDArray[Any], fixes: NDArray[Any], known: NDArray[np.int64], config: ModelConfig
) -> Axis:
    """Returns the smoothed state at the first fix after the gap, from the filter before it and all fixes after it."""
    line = np.concatenate([before[:, None], fixes], axis=1)
    dt_s, d_en = steps_between(line[:, :-1], line[:, 1:])
    seen_en = np.cumsum(d_en, axis=1)
    filtered = []
    at = start
    for step in range(fixes.shape[1]):
        there = _update(_predict(at, dt_s[:, step], config), seen_en[:, step], config)
        at = _choose(step < known, there, at)
        filtered.append(at)
    for step in range(fixes.shape[1] - 2, -1, -1):
        back = _correct(filtered[step], at, dt_s[:, step + 1], config)
        at = _choose(step + 1 < known, back, filtered[step])
    return at


def _predict(at: Axis, dt_s: F64, config: ModelConfig) -> Axis:
    lag, carry, pp, pv, vv = m.predict(at.pp, at.pv, at.vv, dt_s, config)
    return Axis(at.at_en + lag[..., None] * at.v_en, carry[..., None] * at.v_en, pp, pv, vv)


def _update(at: Axis, seen_en: F64, config: ModelConfig) -> Axis:
    total = at.pp + config.fix_sigma_m**2
    gain_x, gain_v = at.pp / total, at.pv / total
    off = seen_en - at.at_en
    return Axis(
        at.at_en + gain_x[..., None] * off,
        at.v_en + gain_v[..., None] * off,
        (1 - gain_x) * at.pp,
        (1 - gain_x) * at.pv,
        at.vv - gain_v * at.pv,
    )


def _correct(at: Axis, later: Axis, dt_s: F64, config: ModelConfig) -> Axis:
    """Smooths the filtered state `at` with the smoothed state dt_s later: one step of the backward pass."""
    then = _predict(at, dt_s, config)
    lag = m.damped_s(dt_s, config.damping_s)
    carry = 1.0 - lag / config.damping_s
    # C = P Φᵀ, and the gain G = C P'⁻¹, with Φ = [[1, lag], [0, carry]]
    c = ((at.pp + lag * at.pv, carry * at.pv), (at.pv + lag * at.vv, carry * at.vv))
    det = then.pp * then.vv - then.pv * then.pv
    g = tuple(((row[0] * then.vv - row[1] * then.pv) / det, (row[1] * then.pp - row[0] * then.pv) / det) for row in c)
    off_at, off_v = later.at_en - then.at_en, later.v_en - then.v_en
    pp, pv, vv = later.pp - then.pp, later.pv - then.pv, later.vv - then.vv
    (a, b), (e, f) = g
    return Axis(
        at.at_en + a[..., None] * off_at + b[..., None] * off_v,
        at.v_en + e[..., None] * off_at + f[..., None] * off_v,
        at.pp + a * a * pp + 2 * a * b * pv + b * b * vv,
        at.pv + a * e * pp + (a * f + b * e) * pv + b * f * vv,
        at.vv + e * e * pp + 2 * e * f * pv + f * f * vv,
    )


def _choose(mask: NDArray[np.bool_], one: Axis, other: Axis) -> Axis:
    """Returns the rows of `one` where the mask is true, and those of `other` elsewhere."""
    return Axis(*(np.where(mask[:, None] if a.ndim == 2 else mask, a, b) for a, b in zip(one, other, strict=True)))
